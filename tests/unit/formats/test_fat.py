# SPDX-License-Identifier: Apache-2.0
"""A volume of ours is one that other people's tools find nothing wrong with."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from metropolis.base.errors import DataLossError, InvalidArgumentError, ResourceExhaustedError
from metropolis.formats import fat

MIB = 1 << 20
FILES = {
    "EFI/BOOT/BOOTX64.EFI": b"MZ" + bytes(range(256)) * 4000,
    "EFI/metropolis/boot-a.efi": b"a" * 4096,
    "EFI/metropolis/boot-b.efi": b"",
    "metropolis/parameters.pb": b"p",
    "metropolis-installer/a rather long name, with a comma.json": b"{}",
    "metropolis-installer/ünïcode-näme.txt": b"u",
    **{f"many/file number {number}.dat": bytes([number]) * number for number in range(120)},
}


def _write(path: Path, files: dict[str, bytes], size_bytes: int, filler: bytes = b"") -> Path:
    with path.open("wb") as image:
        for _ in range(size_bytes // MIB if filler else 0):
            image.write(filler * (MIB // len(filler)))
        image.truncate(size_bytes)
        for offset, chunk in fat.build(files, size_bytes=size_bytes, label="TEST", volume_id=7):
            image.seek(offset)
            image.write(chunk)
    return path


def _decode(path: Path) -> dict[str, bytes]:
    with path.open("rb") as image:

        def read(offset: int, size: int) -> bytes:
            image.seek(offset)
            return image.read(size)

        return dict(fat.decode(read))


@pytest.mark.parametrize("mebibytes", [34, 64, 128, 256, 512, 1024])
def test_the_checker_of_dos_file_systems_is_content(tmp_path: Path, mebibytes: int) -> None:
    image = _write(tmp_path / "image", FILES, mebibytes * MIB)
    checked = subprocess.run(
        ["/usr/sbin/fsck.vfat", "-n", "-v", image], check=False, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout
    assert "32 bit" in checked.stdout or "FAT32" in checked.stdout or "32-bit" in checked.stdout
    assert _decode(image) == FILES


def test_what_was_on_the_device_before_plays_no_role(tmp_path: Path) -> None:
    image = _write(tmp_path / "image", FILES, 34 * MIB, filler=b"old ")
    assert subprocess.run(["/usr/sbin/fsck.vfat", "-n", image], check=False).returncode == 0
    assert _decode(image) == FILES


def test_mtools_read_every_file(tmp_path: Path) -> None:
    files = {path: content for path, content in FILES.items() if path.isascii()}
    image = _write(tmp_path / "image", files, 64 * MIB)
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["mcopy", "-s", "-i", image, "::/*", out], check=True, capture_output=True)
    found = {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file()
    }
    assert found == files


def test_we_read_what_others_write(tmp_path: Path) -> None:
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(64 * MIB)
    subprocess.run(
        [shutil.which("mkfs.vfat", path="/usr/sbin:/sbin") or "", "-F32", "-n", "X", image],
        check=True,
        capture_output=True,
    )
    (tmp_path / "long name.txt").write_bytes(b"x" * 5000)
    (tmp_path / "lower.txt").write_bytes(b"y")
    subprocess.run(["mmd", "-i", image, "::dir"], check=True)
    for name in ("long name.txt", "lower.txt"):
        subprocess.run(["mcopy", "-i", image, tmp_path / name, "::dir/"], check=True)
    assert _decode(image) == {"dir/long name.txt": b"x" * 5000, "dir/lower.txt": b"y"}


def test_the_same_files_in_any_order_are_the_same_bytes() -> None:
    def built(files: dict[str, bytes]) -> list[tuple[int, bytes]]:
        return list(fat.build(files, size_bytes=34 * MIB, label="X", volume_id=1))

    assert built(FILES) == built(dict(reversed(FILES.items())))


names = st.from_regex(r"[a-zA-Z0-9ü+,;=_~-][a-zA-Z0-9 .ü+,;=_~-]{0,30}[a-z0-9]", fullmatch=True)


@given(
    st.dictionaries(
        st.lists(names, min_size=1, max_size=3).map(lambda parts: "/".join(parts).lower()),
        st.binary(max_size=9000),
        max_size=8,
    )
)
def test_any_files_come_back(files: dict[str, bytes]) -> None:
    paths = set(files)
    assume(not any(other.startswith(path + "/") for path in paths for other in paths))
    image = bytearray(2 << 20)  # all that is used lies at the beginning
    for offset, chunk in fat.build(files, size_bytes=34 * MIB, label="X", volume_id=0):
        image[offset : offset + len(chunk)] = chunk
    assert fat.decode(lambda offset, size: bytes(image[offset : offset + size])) == files


def test_impossible_volumes_are_refused() -> None:
    for size_bytes in (33 * MIB, 64 * MIB + 1, 33 << 30):
        with pytest.raises(InvalidArgumentError, match="cannot have"):
            list(fat.build({}, size_bytes=size_bytes, label="X", volume_id=0))
    with pytest.raises(InvalidArgumentError, match="label"):
        list(fat.build({}, size_bytes=34 * MIB, label="lower", volume_id=0))
    with pytest.raises(ResourceExhaustedError, match="need"):
        list(fat.build({"f": bytes(35 * MIB)}, size_bytes=34 * MIB, label="X", volume_id=0))


@pytest.mark.parametrize("path", ["", "a//b", "a:b", "a/", "..", "a ", "x" * 256])
def test_impossible_paths_are_refused(path: str) -> None:
    with pytest.raises(InvalidArgumentError, match="cannot be a path"):
        list(fat.build({path: b""}, size_bytes=34 * MIB, label="X", volume_id=0))


def test_paths_that_only_case_tells_apart_are_refused() -> None:
    for files in ({"a/b": b"", "A/c": b""}, {"b": b"", "B": b""}):
        with pytest.raises(InvalidArgumentError, match="only in case"):
            list(fat.build(files, size_bytes=34 * MIB, label="X", volume_id=0))
    with pytest.raises(InvalidArgumentError, match="inside of a file"):
        list(fat.build({"a": b"", "a/b": b""}, size_bytes=34 * MIB, label="X", volume_id=0))


def test_a_directory_may_hold_a_file_of_its_own_name() -> None:
    assert list(fat.build({"a/0": b"", "a/a": b""}, size_bytes=34 * MIB, label="X", volume_id=0))


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_damage_never_breaks_the_reader(data: st.DataObject) -> None:
    chunks = list(
        fat.build({"d/long name": b"x" * 99}, size_bytes=34 * MIB, label="X", volume_id=0)
    )
    damaged = [(offset, bytearray(chunk)) for offset, chunk in chunks]
    for _ in range(3):
        _, chunk = data.draw(st.sampled_from(damaged))
        at = data.draw(st.integers(0, min(len(chunk), 200) - 1))
        chunk[at] = data.draw(st.integers(0, 255))

    def read(offset: int, size: int) -> bytes:
        for start, chunk in damaged:
            if start <= offset < start + len(chunk):
                return bytes(chunk[offset - start : offset - start + size])
        return bytes(size) if size < 1 << 26 else b""

    try:
        fat.decode(read)
    except DataLossError as refused:
        assert refused.remedy  # noqa: PT017
