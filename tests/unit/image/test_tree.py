# SPDX-License-Identifier: Apache-2.0
"""Trees: modes, times and owners say nothing of who built."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from metropolis.base.errors import AlreadyExistsError
from metropolis.image.root_tree import content_digest, merged
from metropolis.image.tree import File, Folder, Link, Tree, file_of, write_tar


def example(tmp_path: Path) -> Tree:
    source = tmp_path / "source"
    source.write_bytes(b"from the build machine")
    tree = Tree()
    tree.add("usr/bin/program", File(content=b"\x7fELF", is_program=True))
    tree.add("usr/share/text", File(content=source))
    tree.add("bin", Link(target="usr/bin"))
    tree.add("dev", Folder())
    return tree


def archive_of(tree: Tree) -> bytes:
    output = io.BytesIO()
    write_tar(tree, output)
    return output.getvalue()


def test_everything_is_roots_unwritable_and_has_no_time(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive_of(example(tmp_path)))) as archive:
        members = {member.name: member for member in archive.getmembers()}
    assert next(iter(members)) in {".", "./", ""}
    assert {(m.uid, m.gid, m.mtime, m.uname, m.gname) for m in members.values()} == {
        (0, 0, 0, "", "")
    }
    assert {
        name: member.mode for name, member in members.items() if name not in {".", "./", ""}
    } == {
        "bin": 0o777,
        "dev": 0o555,
        "usr": 0o555,
        "usr/bin": 0o555,
        "usr/bin/program": 0o555,
        "usr/share": 0o555,
        "usr/share/text": 0o444,
    }


def test_the_archive_depends_on_content_alone(tmp_path: Path) -> None:
    first = archive_of(example(tmp_path))
    (tmp_path / "other").mkdir()
    before = os.umask(0o077)
    try:
        second = archive_of(example(tmp_path / "other"))
    finally:
        os.umask(before)
    turned = Tree(dict(reversed(example(tmp_path).entries.items())))
    assert first == second == archive_of(turned)


def test_two_things_cannot_have_one_path() -> None:
    one = Tree({"etc/hosts": File(content=b"1")})
    with pytest.raises(AlreadyExistsError, match="/etc/hosts"):
        merged([one, Tree({"etc/hosts": File(content=b"2")})])
    assert merged([one, Tree(dict(one.entries))]).entries == one.entries


def test_the_digest_sees_content_modes_and_names() -> None:
    trees = [
        Tree({"a": File(content=b"x")}),
        Tree({"a": File(content=b"y")}),
        Tree({"b": File(content=b"x")}),
        Tree({"a": File(content=b"x", is_program=True)}),
        Tree({"a": Link(target="x")}),
        Tree({"a": Folder()}),
    ]
    assert len({content_digest([tree]) for tree in trees}) == len(trees)


def test_programs_are_found_by_what_can_be_executed(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("")
    script.chmod(0o700)
    tree = Tree({"usr/bin/script": file_of(script), "etc/text": File(content=b"")})
    assert tree.programs() == ("usr/bin/script",)


@pytest.mark.parametrize("path", ["/etc/x", "etc//x", "etc/", "", "./etc"])
def test_a_path_that_is_not_plain_is_a_programming_error(path: str) -> None:
    with pytest.raises(AssertionError):
        Tree().add(path, Folder())
