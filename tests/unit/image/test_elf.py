# SPDX-License-Identifier: Apache-2.0
"""ELF: what this machine's own programs say, as binutils would read it."""

import ctypes
import shutil
import struct
import sysconfig
from pathlib import Path

import pytest

from metropolis.image import elf


def some_program() -> bytes:
    found = shutil.which("sh")
    assert found is not None
    return Path(found).resolve().read_bytes()


def test_a_program_names_its_loader_and_its_libraries() -> None:
    content = some_program()
    assert elf.is_elf(content)
    loader = elf.interpreter(content)
    assert loader is not None
    assert Path(loader).name.startswith("ld-")
    assert "libc.so.6" in elf.needed_libraries(content)


def test_a_text_is_no_elf() -> None:
    assert not elf.is_elf(b"#!/bin/sh\n")


def test_a_section_is_found_by_name_and_a_missing_one_is_empty() -> None:
    content = some_program()
    assert elf.section(content, ".interp").rstrip(b"\0").decode() == elf.interpreter(content)
    assert elf.section(content, ".no-such-section") == b""


def extension_module() -> Path:
    """Some library of this Python that can be loaded a second time under another name."""
    place = Path(sysconfig.get_paths()["platstdlib"]) / "lib-dynload"
    found = sorted(place.glob("_bz2.*so")) or sorted(place.glob("*.so"))
    if not found:
        found = [Path("/lib/x86_64-linux-gnu/libz.so.1").resolve()]
    return found[0]


def test_a_library_without_sections_is_shorter_and_still_loads(tmp_path: Path) -> None:
    content = extension_module().read_bytes()
    shorter = elf.without_sections(content)
    assert len(shorter) < len(content)
    assert elf.needed_libraries(shorter) == elf.needed_libraries(content)
    assert elf.section(shorter, ".text") == b""
    place = tmp_path / "library.so"
    place.write_bytes(shorter)
    ctypes.CDLL(str(place))


def test_an_object_without_segments_stays_as_it_is() -> None:
    header = bytearray(64)
    header[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<HH", header, 0x36, 56, 0)
    assert elf.without_sections(bytes(header)) == bytes(header)


def test_other_architectures_are_a_programming_error() -> None:
    with pytest.raises(AssertionError):
        elf.needed_libraries(b"\x7fELF\x01\x01" + bytes(60))
