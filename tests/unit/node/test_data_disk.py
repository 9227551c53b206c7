# SPDX-License-Identifier: Apache-2.0
"""What programs a data partition runs, and that no key is on a command line."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.api import common_pb2 as kinds
from metropolis.base.errors import (
    DataLossError,
    FailedPreconditionError,
    MetropolisError,
    PermissionDeniedError,
)
from metropolis.formats.backup.sealing import public_key_of
from metropolis.formats.disk_token import open_token
from metropolis.host import ProcessSpec
from metropolis.host.sim.machine import SimHost
from metropolis.host.sim.processes import SimProgram
from metropolis.node.data_disk import (
    FIRST_BYTES_MIN,
    FREE_BYTES_MIN,
    FREE_PART,
    MIB,
    DataDisk,
    DataDiskEdges,
    first_bytes,
    next_bytes,
)
from metropolis.node.partition import Room
from metropolis.node.storage import RECOVERY_KEY, NodeStorage
from metropolis.pki.unlock import DiskKey
from metropolis.sim import simulate

PLAIN = kinds.NODE_STORAGE_SECURITY_INSECURE
ENCRYPTED = kinds.NODE_STORAGE_SECURITY_ENCRYPTED
AUTHENTICATED = kinds.NODE_STORAGE_SECURITY_AUTHENTICATED_ENCRYPTED
KEY = DiskKey(bytes(range(32)))
DEVICE_BYTES = 1 << 30


@dataclass
class Bench:
    """A partition over programs and a kernel that only take notes.

    Attributes:
        codes: First argument of cryptsetup -> what it exits with.
    """

    ran: list[ProcessSpec] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    codes: dict[str, int] = field(default_factory=lambda: {"status": 4})
    header: str = ""
    used_bytes: int = 0
    free_bytes: int = 0
    reserve_bytes: int | None = None
    mounts: bool = True

    async def program(self, me: SimProgram) -> int:
        self.ran.append(me.spec)
        if "luksFormat" in me.spec.argv:
            self.header = me.spec.argv[me.spec.argv.index("--subsystem") + 1]
        if "luksDump" in me.spec.argv:
            me.say(f"Subsystem: {self.header}")
        return self.codes.get(me.spec.argv[1], 0)

    def commands(self) -> list[str]:
        return [each.argv[0] if "mkfs" in each.argv[0] else each.argv[1] for each in self.ran]

    async def mount(
        self, device: str, target: str, kind: str, *, flags: Sequence[str], options: str = ""
    ) -> None:
        if not self.mounts:
            raise FailedPreconditionError("structure needs cleaning")
        self.done.append(f"mount {device} {target} {kind} {','.join(flags)} {options}")

    async def unmount(self, target: str) -> None:
        self.done.append(f"unmount {target}")

    async def zero(self, device: str, *, offset_bytes: int, size_bytes: int) -> None:
        self.done.append(f"zero {device} {offset_bytes // MIB} {size_bytes // MIB}")

    async def device_bytes(self, device: str) -> int:
        assert device in {"/dev/vda4", "/dev/mapper/data"}
        return DEVICE_BYTES

    async def usage(self, target: str) -> tuple[int, int]:
        assert target == "/store/data"
        return self.used_bytes, self.free_bytes

    async def file_bytes(self, path: str) -> int | None:
        assert path == "/store/data/reserve"
        return self.reserve_bytes

    async def set_file_bytes(self, path: str, size_bytes: int) -> None:
        assert path == "/store/data/reserve"
        self.reserve_bytes = size_bytes

    async def grow_xfs(self, target: str, size_bytes: int) -> None:
        self.done.append(f"grow {target} {size_bytes // MIB}")
        self.used_bytes = size_bytes


Scenario = Callable[[DataDisk, Bench, NodeStorage], Awaitable[None]]


def run(scenario: Scenario) -> Bench:
    bench = Bench()

    async def life() -> None:
        programs = {"cryptsetup": bench.program, "mkfs.xfs": bench.program}
        box = SimHost("n1", rng=Random(1), addresses=["10.0.0.1"], programs=programs)
        host = box.boot()
        storage = NodeStorage(host.storage)
        edges = DataDiskEdges(
            device="/dev/vda4",
            mount_point="/store/data",
            storage=storage,
            processes=host.processes,
            file_systems=bench,
            entropy=host.entropy,
            say=bench.done.append,
        )
        await scenario(DataDisk(edges), bench, storage)

    simulate(life, seed=1)
    return bench


def test_no_key_is_ever_an_argument() -> None:
    async def scenario(disk: DataDisk, _bench: Bench, storage: NodeStorage) -> None:
        await storage.write(RECOVERY_KEY, public_key_of(b"r" * 32))
        await disk.make(AUTHENTICATED, KEY)
        await disk.wipe()
        await disk.make(ENCRYPTED, KEY)

    bench = run(scenario)
    secrets = [each.standard_input for each in bench.ran if each.standard_input]
    assert any(KEY.data in each for each in secrets)
    for spec in bench.ran:
        words = "\0".join([*spec.argv, *spec.environment.values()]).encode()
        assert KEY.data not in words
        assert KEY.data.hex().encode() not in words
        assert repr(KEY.data) not in repr(spec)


def test_without_encryption_there_is_xfs_on_the_partition_itself() -> None:
    async def scenario(disk: DataDisk, _bench: Bench, _storage: NodeStorage) -> None:
        await disk.make(PLAIN, None)

    bench = run(scenario)
    assert bench.commands() == ["status", "mkfs.xfs"]
    assert "zero /dev/vda4 0 16" in bench.done
    assert bench.ran[-1].argv[-1] == "/dev/vda4"
    assert bench.done[-1] == "mount /dev/vda4 /store/data xfs nodev,noexec,nosuid pquota"


def test_an_authenticated_partition_is_overwritten_where_its_file_system_will_be() -> None:
    async def scenario(disk: DataDisk, _bench: Bench, _storage: NodeStorage) -> None:
        await disk.make(AUTHENTICATED, KEY)

    bench = run(scenario)
    zeros = [each for each in bench.done if each.startswith("zero")]
    assert zeros == [f"zero /dev/mapper/data {at} 64" for at in range(0, 320, 64)]
    assert f"size={320 * MIB},agcount=2" in bench.ran[-1].argv
    assert bench.done[-2] == "Overwriting the data partition once: 320 of 320 MiB"


def test_it_grows_before_it_is_full_and_only_then() -> None:
    async def scenario(disk: DataDisk, bench: Bench, _storage: NodeStorage) -> None:
        assert await disk.grow() == ""
        await disk.make(AUTHENTICATED, KEY)
        bench.used_bytes, bench.free_bytes = 320 * MIB, 200 * MIB
        assert await disk.grow() == ""
        bench.free_bytes = 50 * MIB
        bench.done.clear()
        assert await disk.grow() == ("The data partition's file system uses 640 MiB of 1024 now")
        zeros = [each for each in bench.done if each.startswith("zero")]
        assert zeros == [f"zero /dev/mapper/data {at} 64" for at in range(320, 640, 64)]
        assert bench.done[-1] == "grow /store/data 640"

    run(scenario)


@given(st.integers(FIRST_BYTES_MIN, 1 << 44), st.integers(0, 4))
def test_a_file_system_grows_to_the_whole_device_in_few_steps(
    device_bytes: int, free_part: int
) -> None:
    used_bytes, steps = first_bytes(device_bytes), 0
    assert FIRST_BYTES_MIN <= used_bytes <= device_bytes
    enough = max(FREE_BYTES_MIN, used_bytes // FREE_PART)
    assert next_bytes(used_bytes, enough, device_bytes) == used_bytes
    while (grown := next_bytes(used_bytes, free_part, device_bytes)) != used_bytes:
        assert used_bytes < grown <= device_bytes
        used_bytes, steps = grown, steps + 1
    assert device_bytes - used_bytes < 3 * MIB
    assert steps <= 6


def test_what_a_try_that_was_cut_off_left_open_is_closed_first() -> None:
    async def scenario(disk: DataDisk, bench: Bench, _storage: NodeStorage) -> None:
        bench.codes.update(open=5, status=0)
        with pytest.raises(FailedPreconditionError, match="cannot be opened"):
            await disk.open(ENCRYPTED, KEY)
        assert bench.commands()[:4] == ["open", "status", "close", "open"]

    run(scenario)


def test_opening_again_does_nothing() -> None:
    async def scenario(disk: DataDisk, bench: Bench, _storage: NodeStorage) -> None:
        await disk.open(ENCRYPTED, KEY)
        count = len(bench.ran)
        await disk.open(ENCRYPTED, KEY)
        assert len(bench.ran) == count

    run(scenario)


def test_a_recovery_key_opens_the_second_slot() -> None:
    async def scenario(disk: DataDisk, bench: Bench, storage: NodeStorage) -> None:
        await storage.write(RECOVERY_KEY, public_key_of(b"r" * 32))
        await disk.make(ENCRYPTED, KEY)
        added = next(each for each in bench.ran if "luksAddKey" in each.argv)
        imported = next(each for each in bench.ran if "import" in each.argv)
        assert added.standard_input is not None
        assert imported.standard_input is not None
        assert added.standard_input[:32] == KEY.data
        assert open_token(imported.standard_input, b"r" * 32) == added.standard_input[32:]
        with pytest.raises(FailedPreconditionError, match="this disk opens to recovery key"):
            open_token(imported.standard_input, b"s" * 32)
        with pytest.raises(DataLossError, match="no recovery token"):
            open_token(b"{}", b"r" * 32)

    run(scenario)


@pytest.mark.parametrize(
    ("codes", "is_ours", "kind", "words"),
    [
        ({"open": 2}, False, PermissionDeniedError, "is of another node"),
        ({"open": 2}, True, DataLossError, "the key slot of the data partition"),
        ({"open": 1, "luksDump": 1}, True, DataLossError, "the header of the data partition"),
        ({"open": 4}, True, FailedPreconditionError, "cannot be opened"),
    ],
)
def test_why_a_partition_does_not_open(
    codes: dict[str, int], is_ours: bool, kind: type[MetropolisError], words: str
) -> None:
    async def scenario(disk: DataDisk, bench: Bench, _storage: NodeStorage) -> None:
        await disk.make(ENCRYPTED, KEY)
        again = DataDisk(disk._edges)
        if not is_ours:
            bench.header = "0" * 32
        bench.codes.update(codes)
        with pytest.raises(kind, match=words) as caught:
            await again.open(ENCRYPTED, KEY)
        assert caught.value.remedy

    run(scenario)


def test_a_damaged_file_system_is_data_loss() -> None:
    async def scenario(disk: DataDisk, bench: Bench, _storage: NodeStorage) -> None:
        bench.mounts = False
        with pytest.raises(DataLossError, match="file system of the data partition /dev/vda4"):
            await disk.open(PLAIN, None)

    run(scenario)


def test_a_wipe_destroys_the_keys_first_and_what_was_never_encrypted_wholly() -> None:
    async def scenario(disk: DataDisk, bench: Bench, _storage: NodeStorage) -> None:
        await disk.wipe()
        assert bench.commands() == ["isLuks", "erase", "status"]
        assert bench.done == ["unmount /store/data"]
        bench.codes["isLuks"] = 1
        await disk.wipe()
        zeros = [each for each in bench.done if each.startswith("zero")]
        assert zeros[0] == "zero /dev/vda4 0 64"
        assert zeros[-1] == f"zero /dev/vda4 {DEVICE_BYTES // MIB - 64} 64"

    run(scenario)


@pytest.mark.parametrize(("security", "ungrown_bytes"), [(PLAIN, 0), (AUTHENTICATED, 200 * MIB)])
def test_the_reserve_is_a_file_and_what_the_file_system_may_grow_by_is_free(
    security: kinds.NodeStorageSecurity.ValueType, ungrown_bytes: int
) -> None:
    async def scenario(disk: DataDisk, bench: Bench, _storage: NodeStorage) -> None:
        assert await disk.room() is None
        await disk.make(security, None if security == PLAIN else KEY)
        bench.used_bytes, bench.free_bytes = DEVICE_BYTES - 200 * MIB, 10 * MIB
        free_bytes = 10 * MIB + ungrown_bytes
        assert await disk.room() == Room(free_bytes=free_bytes, reserve_bytes=None)
        await disk.set_reserve(5)
        assert await disk.room() == Room(free_bytes=free_bytes, reserve_bytes=5)

    run(scenario)
