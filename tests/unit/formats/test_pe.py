# SPDX-License-Identifier: Apache-2.0
"""A unified kernel image is the stub plus exactly what was added."""

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kits.portable_executable import SECTION_ALIGNMENT, stub
from metropolis.base.errors import InvalidArgumentError
from metropolis.formats import pe

CONTENTS = (("linux", b"k" * 5000), (".cmdline", b"quiet"), (".initrd", b""), (".osrel", b"ID=x\n"))


def test_added_sections_come_back_as_long_as_they_were() -> None:
    image = pe.add_sections(stub(), CONTENTS)
    assert dict(pe.sections(image)) == {".text": b"\xc3", **dict(CONTENTS)}


def test_added_sections_neither_overlap_nor_leave_their_alignment() -> None:
    lines = pe.headers(pe.add_sections(stub(), CONTENTS)).sections
    for before, after in itertools.pairwise(lines):
        assert after.address >= before.address + before.memory_bytes
        assert after.address % SECTION_ALIGNMENT == 0
        assert after.file_offset >= before.file_offset + before.file_bytes


def test_the_image_says_how_much_memory_it_needs() -> None:
    image = pe.add_sections(stub(), CONTENTS)
    head = pe.headers(image)
    (said,) = struct.unpack_from("<I", image, head.optional + 56)
    last = head.sections[-1]
    assert said >= last.address + last.memory_bytes
    assert said % SECTION_ALIGNMENT == 0


def test_the_checksum_is_that_of_the_published_algorithm() -> None:
    image = pe.add_sections(stub(), CONTENTS)
    offset = pe.headers(image).checksum_offset
    total = 0
    for at in range(0, len(image), 2):
        if not offset <= at < offset + 4:
            total += int.from_bytes(image[at : at + 2], "little")
            total = (total & 0xFFFF) + (total >> 16)
    assert struct.unpack_from("<I", image, offset) == (total + len(image),)


def test_the_same_sections_give_the_same_image() -> None:
    assert pe.add_sections(stub(), CONTENTS) == pe.add_sections(stub(), CONTENTS)


def test_a_name_that_is_taken_or_too_long_is_refused() -> None:
    for name in (".text", ".ninechars", ""):
        with pytest.raises(InvalidArgumentError, match="name"):
            pe.add_sections(stub(), [(name, b"")])


def test_a_stub_without_room_for_more_sections_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="room for"):
        pe.add_sections(stub(), [(f".s{number}", b"") for number in range(60)])


def test_the_digest_changes_with_every_byte_but_those_of_the_checksum() -> None:
    image = pe.add_sections(stub(), CONTENTS)
    offset = pe.headers(image).checksum_offset
    expected = pe.authenticode_digest(image)
    for at in (2, 0x90, offset - 5, offset + 4, 700, 2048, len(image) - 1):
        changed = bytearray(image)
        changed[at] ^= 1
        assert pe.authenticode_digest(bytes(changed)) != expected
    changed = bytearray(image)
    changed[offset] ^= 1
    assert pe.authenticode_digest(bytes(changed)) == expected


@given(at=st.integers(0, 600), value=st.binary(min_size=1, max_size=8))
def test_a_damaged_header_is_refused_and_never_breaks_the_reader(at: int, value: bytes) -> None:
    image = bytearray(pe.add_sections(stub(), CONTENTS))
    image[at : at + len(value)] = value
    for content in (bytes(image), bytes(image[:at])):
        try:
            pe.sections(content)
            pe.authenticode_digest(content)
        except InvalidArgumentError as refused:
            assert refused.remedy  # noqa: PT017 - other outcomes are fine, too
