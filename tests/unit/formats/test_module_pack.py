# SPDX-License-Identifier: Apache-2.0
"""Many modules in one file."""

import marshal

from metropolis.formats import module_pack
from metropolis.formats.module_pack import EXTENSION, PACKAGE, SOURCELESS


def test_what_was_packed_is_found_by_its_name() -> None:
    data = module_pack.encode(
        [
            ("birds", PACKAGE, "/lib/birds/__init__.pyc", b"first code"),
            ("birds.wing", EXTENSION, "/lib/birds/wing.so", b""),
            ("birds.song", SOURCELESS, "/lib/birds/song.pyc", b"second"),
        ]
    )
    index, codes = module_pack.decode(data)
    assert list(index) == ["birds", "birds.wing", "birds.song"]
    kind, path, offset, size = index["birds.song"]
    assert (kind, path) == (SOURCELESS, "/lib/birds/song.pyc")
    assert bytes(codes[offset : offset + size]) == b"second"
    assert index["birds.wing"][0] == EXTENSION
    assert index["birds.wing"][3] == 0


def test_equal_modules_are_equal_bytes_however_their_strings_are_shared() -> None:
    shared = [("birds", SOURCELESS, "birds", b"birds")] * 2
    name, path = b"birds".decode(), b"birds".decode()  # not interned, unlike the literals
    alone = [(name, SOURCELESS, path, b"birds")] * 2
    assert module_pack.encode(shared) == module_pack.encode(alone)


def test_code_comes_back_as_marshal_wrote_it() -> None:
    code = compile("answer = 6 * 7", "/lib/answer.py", "exec")
    data = module_pack.encode([("answer", SOURCELESS, "/lib/answer.pyc", marshal.dumps(code))])
    index, codes = module_pack.decode(data)
    _, _, offset, size = index["answer"]
    assert marshal.loads(codes[offset : offset + size]) == code
