# SPDX-License-Identifier: Apache-2.0
"""Room on a real disk that a file keeps, and one that has not so much."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from metropolis.base.errors import ResourceExhaustedError
from metropolis.host.linux.directory import LinuxDirectory
from metropolis.host.linux.file_systems import LinuxFileSystems

MIB = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    options = ["-o", f"size={4 * MIB}", "room", str(tmp_path)]
    subprocess.run(["mount", "-t", "tmpfs", *options], check=True)
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_file_keeps_room_and_gives_it_back_even_where_there_is_not_enough(disk: Path) -> None:
    file, systems = disk / "reserve", LinuxFileSystems()

    async def free_mib() -> int:
        return await LinuxDirectory(disk).free_bytes() // MIB

    async def scenario() -> None:
        assert await systems.file_bytes(str(file)) is None
        await systems.set_file_bytes(str(file), 3 * MIB)
        assert (await systems.file_bytes(str(file)), await free_mib()) == (3 * MIB, 1)
        assert file.stat().st_mode & 0o777 == 0o600
        with pytest.raises(ResourceExhaustedError):
            await systems.set_file_bytes(str(file), 5 * MIB)
        assert (await systems.file_bytes(str(file)), await free_mib()) == (0, 4)

    asyncio.run(scenario())
