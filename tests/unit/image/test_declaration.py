# SPDX-License-Identifier: Apache-2.0
"""The declaration: this checkout's own, and words that nobody reads."""

import re
from pathlib import Path

import pytest

from metropolis.base.errors import InvalidArgumentError, NotFoundError
from metropolis.host.linux.debian.checkout import LOCK_FILE, project_root
from metropolis.host.linux.debian.lock import parse_lock
from metropolis.image.declaration import DECLARATION_FILE, parse_declaration
from metropolis.image.wheels import choose, locked_requirements

TEXT = (project_root() / DECLARATION_FILE).read_text()


def test_every_package_it_names_is_locked() -> None:
    declaration = parse_declaration(TEXT)
    locked = {package.name for package in parse_lock((project_root() / LOCK_FILE).read_text())}
    assert {*declaration.packages, *declaration.tools} <= locked
    kernels = [name for name in locked if re.fullmatch(r"linux-image-[0-9].*", name)]
    assert len(kernels) == 1


def test_every_wheel_it_names_is_locked_with_hashes() -> None:
    lock = (project_root() / "requirements.lock").read_text()
    chosen = choose(lock, parse_declaration(TEXT).wheels)
    assert [each.name for each in chosen] == sorted(parse_declaration(TEXT).wheels)
    assert all(each.hashes and each.version for each in chosen)


def test_nothing_in_it_is_a_shell_or_a_package_manager() -> None:
    declaration = parse_declaration(TEXT)
    names = {Path(program).name for program in declaration.programs}
    assert not names & {"sh", "bash", "dash", "busybox", "apt", "apt-get", "dpkg", "pip", "perl"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[programs]", "[programms]"),
        ('kernel = "', 'kernal = "'),
        ('place = "usr/lib/python3.13"', "place = 3"),
        ("[python]", '[python]\nplase = "x"'),
        ('names = ["dev", ', 'names = ["dev", "dev", '),
        ("[files]", "[files]\nnumber = 3"),
        ("[packages]", "[packages"),
    ],
)
def test_a_word_that_is_missing_unknown_or_of_another_kind_is_named(old: str, new: str) -> None:
    assert old in TEXT
    with pytest.raises(InvalidArgumentError, match=r"node\.toml"):
        parse_declaration(TEXT.replace(old, new, 1))


LOCK = """\
h2==4.4.1 \\
    --hash=sha256:{a} \\
    --hash=sha256:{b}
    # via metropolis
typing_extensions==4.16.0 ; python_version < '3.14' \\
    --hash=sha256:{b}
"""


def test_a_lock_is_read_with_all_hashes_and_without_markers() -> None:
    lock = LOCK.format(a="a" * 64, b="b" * 64)
    found = locked_requirements(lock)
    assert sorted(found) == ["h2", "typing-extensions"]
    assert found["h2"].line() == (f"h2==4.4.1 --hash=sha256:{'a' * 64} --hash=sha256:{'b' * 64}\n")
    assert found["typing-extensions"].version == "4.16.0"
    assert found["typing-extensions"].marker == "python_version < '3.14'"
    assert found["h2"].marker == ""
    assert choose(lock, ["Typing.Extensions"])[0].name == "typing-extensions"
    with pytest.raises(NotFoundError, match="no h3"):
        choose(lock, ["h3"])
