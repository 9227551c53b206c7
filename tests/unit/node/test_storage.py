# SPDX-License-Identifier: Apache-2.0
"""What a node writes on its ESP survives power cuts, damage, and the loss of one copy."""

import asyncio
import errno
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.base.errors import DataLossError, FailedPreconditionError, ResourceExhaustedError
from metropolis.host.sim.directory import SimDirectory
from metropolis.host.sim.disk import SimDisk
from metropolis.host.sim.entropy import SimEntropy
from metropolis.node.sealing.keeper import MemoryKeeper
from metropolis.node.sealing.sealer import Sealer
from metropolis.node.storage import (
    CLUSTER_DIRECTORY,
    COPY_SUFFIX,
    ENROLMENT_RECORD,
    PLACES,
    SEALED_CONFIGURATION,
    NodeStorage,
)
from metropolis.sim import simulate

TORN = ("old", "torn", "empty", "missing", "new", "unreadable")


class PowerCut(BaseException):
    """The machine stops."""


class FatDirectory:
    """Files on FAT: the change during which the power is cut leaves anything of its own file.

    Attributes:
        changes_left: Changes until the power is cut; negative: never.
        torn: What the cut leaves.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.unreadable: set[str] = set()
        self.changes_left = -1
        self.torn = "old"

    def _cut(self, path: str, new: bytes | None) -> bool:
        self.changes_left -= 1
        if self.changes_left != -1:
            return False
        match self.torn:
            case "torn" if new is not None:
                old = self.files.get(path, b"")
                self.files[path] = new[: len(new) // 2] + old[len(new) // 2 :]
            case "empty" if new is not None:
                self.files[path] = b""
            case "missing":
                self.files.pop(path, None)
            case "new":
                self._apply(path, new)
            case "unreadable" if path in self.files:
                self.unreadable.add(path)
            case _:
                pass
        return True

    def _apply(self, path: str, new: bytes | None) -> None:
        self.unreadable.discard(path)
        if new is None:
            self.files.pop(path, None)
        else:
            self.files[path] = new

    async def write(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        raise AssertionError(path, data, mode)

    async def overwrite(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        assert mode == 0o600
        if self._cut(path, data):
            raise PowerCut
        self._apply(path, data)

    async def remove(self, path: str) -> None:
        if self._cut(path, None):
            raise PowerCut
        self._apply(path, None)

    async def read(self, path: str) -> bytes:
        if path in self.unreadable:
            raise OSError(errno.EIO, "invalid cluster chain", path)
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path]

    async def remove_tree(self, path: str) -> None:
        raise AssertionError(path)

    async def exists(self, path: str) -> bool:
        return path in self.files

    async def list(self, path: str) -> Sequence[str]:
        raise AssertionError(path)

    async def make_directory(self, path: str, *, mode: int = 0o700) -> None:
        raise AssertionError(path, mode)

    async def free_bytes(self) -> int:
        return 1 << 20

    def absolute(self, path: str) -> str:
        return path


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(-1, 3), st.sampled_from(TORN)), min_size=1, max_size=12
    )
)
def test_a_power_cut_leaves_the_old_content_or_the_new(
    actions: list[tuple[bool, int, str]],
) -> None:
    """Each action writes or removes, with a power cut before one of its changes or with none."""

    async def scenario() -> None:
        fat = FatDirectory()
        held: bytes | None = None
        for number, (writes, cut_at, torn) in enumerate(actions):
            wanted = f"content {number}".encode() if writes else None
            fat.changes_left, fat.torn = cut_at, torn
            storage = NodeStorage(fat)
            try:
                if wanted is None:
                    await storage.remove(CLUSTER_DIRECTORY)
                else:
                    await storage.write(CLUSTER_DIRECTORY, wanted)
                possible = [wanted]
            except PowerCut:
                possible = [held, wanted]
            fat.changes_left = -1
            held = await NodeStorage(fat).read(CLUSTER_DIRECTORY)
            assert held in possible
            assert await NodeStorage(fat).read(CLUSTER_DIRECTORY) == held

    asyncio.run(scenario())


@pytest.mark.parametrize("place", [each for each in PLACES if each.is_kept_twice])
@pytest.mark.parametrize("damaged", [0, 1])
def test_one_damaged_copy_is_made_whole_again_and_two_are_told(place: object, damaged: int) -> None:
    assert place in PLACES
    place = next(each for each in PLACES if each is place)

    async def scenario() -> None:
        fat = FatDirectory()
        storage = NodeStorage(fat, Sealer(MemoryKeeper(b"tpm"), SimEntropy(1)))
        await storage.write(place, b"content")
        paths = (place.path, place.path + COPY_SUFFIX)
        flip(fat, paths[damaged])
        assert await storage.read(place) == b"content"
        assert fat.files[paths[0]] == fat.files[paths[1]]
        flip(fat, paths[0])
        flip(fat, paths[1])
        with pytest.raises(DataLossError) as caught:
            await storage.read(place)
        assert str(caught.value) == f"{place.path} and its copy are damaged"
        assert caught.value.remedy

    asyncio.run(scenario())


def flip(fat: FatDirectory, path: str) -> None:
    data = bytearray(fat.files[path])
    data[Random(len(data)).randrange(len(data))] ^= 1
    fat.files[path] = bytes(data)


def test_a_file_that_another_program_left_is_not_taken_for_an_absence() -> None:
    async def scenario() -> None:
        fat = FatDirectory()
        fat.files[SEALED_CONFIGURATION.path] = b"\n\x20 of an earlier installation"
        with pytest.raises(DataLossError):
            await NodeStorage(fat).read(SEALED_CONFIGURATION)

    asyncio.run(scenario())


def test_what_a_tpm_sealed_is_not_on_the_disk_and_says_that_it_is_sealed() -> None:
    async def scenario() -> None:
        fat = FatDirectory()
        keeper = MemoryKeeper(b"tpm")
        storage = NodeStorage(fat, Sealer(keeper, SimEntropy(1)))
        await storage.write(ENROLMENT_RECORD, b"the keys")
        await storage.write(SEALED_CONFIGURATION, b"the keys")
        assert all(b"the keys" not in data for data in fat.files.values())
        assert await storage.is_sealed(SEALED_CONFIGURATION)
        await storage.write(SEALED_CONFIGURATION, b"the keys", seals=False)
        assert not await storage.is_sealed(SEALED_CONFIGURATION)
        without = NodeStorage(fat)
        assert await without.read(SEALED_CONFIGURATION) == b"the keys"
        with pytest.raises(FailedPreconditionError) as caught:
            await without.read(ENROLMENT_RECORD)
        assert str(caught.value) == (
            "esp/metropolis/enrolment.pb is sealed by a TPM, and this machine has none"
        )

    asyncio.run(scenario())


def test_a_full_disk_is_told_and_keeps_what_it_has() -> None:
    async def scenario() -> None:
        disk = SimDisk(Random(1))
        storage = NodeStorage(SimDirectory(disk, mount_point="/disk"))
        await storage.write(CLUSTER_DIRECTORY, b"content")
        disk.capacity_bytes = disk.used_bytes + 30
        with pytest.raises(ResourceExhaustedError) as caught:
            await storage.write(CLUSTER_DIRECTORY, b"longer content")
        assert str(caught.value) == (
            "the disk is full: there is no room for the 52 bytes of "
            "esp/metropolis/cluster_directory.pb"
        )
        assert await storage.read(CLUSTER_DIRECTORY) == b"content"

    simulate(scenario, seed=1)


def test_a_disk_that_refuses_writes_still_gives_what_one_copy_holds() -> None:
    async def scenario() -> None:
        disk = SimDisk(Random(1))
        storage = NodeStorage(SimDirectory(disk, mount_point="/disk"))
        await storage.write(CLUSTER_DIRECTORY, b"content")
        await storage.directory.remove(CLUSTER_DIRECTORY.path)
        disk.capacity_bytes = 0
        assert await storage.read(CLUSTER_DIRECTORY) == b"content"

    simulate(scenario, seed=1)
