# SPDX-License-Identifier: Apache-2.0
"""The first root's archive: what goes in comes out, to us and to the kernel."""

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.base.errors import DataLossError
from metropolis.formats.cpio import CpioEntry, build, read

ENTRIES = (
    CpioEntry(path="dev", mode=stat.S_IFDIR | 0o755),
    CpioEntry(path="dev/console", mode=stat.S_IFCHR | 0o600, device=(5, 1)),
    CpioEntry(path="init", mode=stat.S_IFREG | 0o755, data=b"#!/python\n"),
    CpioEntry(path="lib", mode=stat.S_IFLNK | 0o777, data=b"usr/lib"),
    CpioEntry(path="usr", mode=stat.S_IFDIR | 0o755),
    CpioEntry(path="usr/empty", mode=stat.S_IFREG | 0o644),
)


def test_entries_come_back() -> None:
    assert tuple(read(build(ENTRIES))) == ENTRIES


@given(
    st.lists(
        st.builds(
            CpioEntry,
            path=st.text(
                st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=9
            ).filter(lambda path: path != "TRAILER!!!"),
            mode=st.integers(0, 0o777).map(lambda bits: stat.S_IFREG | bits),
            data=st.binary(max_size=40),
        ),
        unique_by=lambda entry: entry.path,
    )
)
def test_any_files_come_back(entries: list[CpioEntry]) -> None:
    assert read(build(entries)) == entries


def test_an_entry_has_the_form_that_the_kernel_documents() -> None:
    archive = build([CpioEntry(path="init", mode=stat.S_IFREG | 0o755, data=b"hello")])
    assert archive[:124].decode() == (
        "070701"
        "00000001"  # number
        "000081ed"  # mode
        "0000000000000000"  # owner
        "00000001"  # links
        "00000000"  # time
        "00000005"  # bytes of data
        "0000000000000000"  # the device it is on
        "0000000000000000"  # the device it is
        "00000005"  # bytes of name
        "00000000"  # checksum
        "init\0\0hello\0\0\0"
    )
    assert len(archive) % 512 == 0


def test_a_file_before_its_directory_is_refused() -> None:
    with pytest.raises(ValueError, match="before its directory"):
        build([CpioEntry(path="a/b", mode=stat.S_IFREG)])
    with pytest.raises(ValueError, match="twice"):
        build([CpioEntry(path="a", mode=stat.S_IFREG)] * 2)


@given(at=st.integers(0, 800), value=st.binary(min_size=1, max_size=12))
def test_a_damaged_archive_is_refused_and_never_breaks_the_reader(at: int, value: bytes) -> None:
    archive = bytearray(build(ENTRIES))
    archive[at : at + len(value)] = value
    for content in (bytes(archive), bytes(archive[:at])):
        try:
            read(content)
        except DataLossError as refused:
            assert "cpio" in str(refused)  # noqa: PT017
