# SPDX-License-Identifier: Apache-2.0
"""The data partition of a machine: XFS, in LUKS2 unless the cluster's policy wants it in clear.

    INSECURE                  partition ─▶ XFS
    ENCRYPTED                 partition ─▶ dm-crypt (AES-256-XTS) ─▶ XFS
    AUTHENTICATED_ENCRYPTED   partition ─▶ dm-integrity (journal) ─▶ dm-crypt (and HMAC) ─▶ XFS

A change of a sector is noticed with AUTHENTICATED_ENCRYPTED; that a whole disk was put back to what
it was at an earlier time is not.

There, a sector that was never written cannot be read: its HMAC is wrong. XFS reads such sectors
when it replays its log after a power cut, and xfs_repair always does. So every sector is
overwritten once before the file system has it. As that takes hours on a large disk, the file system
begins small, on the part that was overwritten, and grows when it is three quarters full:

    ├─ overwritten: XFS ─┤─ overwritten next, then XFS grows ─┤─ untouched ──────────┤
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, final

from metropolis.api import common_pb2
from metropolis.base.errors import DataLossError, FailedPreconditionError
from metropolis.formats.disk_token import encode_token
from metropolis.host import Entropy, FileSystems, Processes
from metropolis.node.luks import HEADER_BYTES, KEY_BYTES, RECOVERY_SLOT, Luks
from metropolis.node.partition import Room, StorageSecurity
from metropolis.node.programs import run_program
from metropolis.node.storage import RECOVERY_KEY, RESERVE, NodeStorage
from metropolis.pki.unlock import DiskKey

VOLUME_NAME: Final = "data"
MIB: Final = 1 << 20
FIRST_BYTES_MIN: Final = 320 * MIB  # mkfs.xfs makes nothing below 300
FIRST_PART_OF_DISK: Final = 32  # half of it is an allocation group, so there are never many more
FREE_BYTES_MIN: Final = 96 * MIB  # what a busy node writes while the next part is overwritten
FREE_PART: Final = 4
STEP_BYTES: Final = 64 * MIB  # overwritten between two words about it
_FLAGS: Final = ("nodev", "noexec", "nosuid")
_OPTIONS: Final = "pquota"
# -K: no discards, which say nothing new on a fresh disk and take long; -f: over whatever is there.
_MKFS: Final = ("mkfs.xfs", "-q", "-K", "-f", "-L", "metropolis", "-i", "maxpct=25")
_OFFERS: Final = (
    common_pb2.NODE_STORAGE_SECURITY_AUTHENTICATED_ENCRYPTED,
    common_pb2.NODE_STORAGE_SECURITY_ENCRYPTED,
    common_pb2.NODE_STORAGE_SECURITY_INSECURE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataDiskEdges:
    """What a data partition is made with.

    Attributes:
        device: Path of the partition.
        mount_point: Where its file system is to be seen.
        storage: Where a recovery key may have been installed.
        say: Tells people how far something long has come.
    """

    device: str
    mount_point: str
    storage: NodeStorage
    processes: Processes
    file_systems: FileSystems
    entropy: Entropy
    say: Callable[[str], None]


@final
class DataDisk:
    """The data partition of this machine. One per start of the machine: it knows what is open."""

    def __init__(self, edges: DataDiskEdges) -> None:
        self._edges = edges
        self._luks = Luks(edges.processes, device=edges.device, name=VOLUME_NAME)
        self._lock = asyncio.Lock()
        self._mounted: str | None = None  # the device
        self._is_authenticated = False

    @property
    def offers(self) -> Sequence[StorageSecurity]:
        """Everything."""
        return _OFFERS

    @property
    def is_open(self) -> bool:
        """Whether it is mounted."""
        return self._mounted is not None

    @property
    def is_ours(self) -> bool:
        """Yes: nobody else writes there."""
        return True

    async def make(self, security: StorageSecurity, key: DiskKey | None) -> None:
        """Make an empty partition and open it. Repeating it after a crash is fine.

        Raises:
            FailedPreconditionError: the disk does not take it.
        """
        async with self._lock:
            await self._release()
            self._is_authenticated = _is_authenticated(security)
            device = self._edges.device
            size: Sequence[str] = ()
            if key is None:  # both copies of a header that an earlier installation left
                await self._edges.file_systems.zero(device, offset_bytes=0, size_bytes=HEADER_BYTES)
            else:
                await self._luks.format(key, is_authenticated=self._is_authenticated)
                await self._add_recovery(key)
                await self._luks.open(key, is_authenticated=self._is_authenticated)
                device = self._luks.opened_device
            if self._is_authenticated:
                size_bytes = first_bytes(await self._edges.file_systems.device_bytes(device))
                await self._overwrite(device, 0, size_bytes)
                size = ("-d", f"size={size_bytes},agcount=2")
            outcome = await run_program(self._edges.processes, (*_MKFS, *size, device))
            if outcome.code != 0:
                raise FailedPreconditionError(
                    f"no file system can be made on {device}: {outcome.words}",
                    remedy="Check that the disk works and has room for 1 GiB of data.",
                )
            await self._mount(device)

    async def open(self, security: StorageSecurity, key: DiskKey | None) -> None:
        """Open what `make` made. Open already is fine: the same machine asks again.

        Raises:
            PermissionDeniedError: the partition is of another node.
            DataLossError: it is damaged.
        """
        async with self._lock:
            if self._mounted is not None:
                return
            self._is_authenticated = _is_authenticated(security)
            device = self._edges.device
            if key is not None:
                await self._luks.open(key, is_authenticated=self._is_authenticated)
                device = self._luks.opened_device
            await self._mount(device)

    async def wipe(self) -> None:
        """Make everything on the partition unreadable for good, whether it is open or not."""
        async with self._lock:
            was_encrypted = await self._luks.erase()  # first: without keys all the rest is noise
            await self._release()
            if not was_encrypted:
                size_bytes = await self._edges.file_systems.device_bytes(self._edges.device)
                await self._overwrite(self._edges.device, 0, size_bytes)

    async def grow(self) -> str:
        """Give the file system more of the disk before it is full. Ask every second."""
        async with self._lock:
            if self._mounted is None or not self._is_authenticated:
                return ""
            file_systems, target = self._edges.file_systems, self._edges.mount_point
            used_bytes, free_bytes = await file_systems.usage(target)
            device_bytes = await file_systems.device_bytes(self._mounted)
            wanted_bytes = next_bytes(used_bytes, free_bytes, device_bytes)
            if wanted_bytes == used_bytes:
                return ""
            await self._overwrite(self._mounted, used_bytes, wanted_bytes - used_bytes)
            await file_systems.grow_xfs(target, wanted_bytes)
            return (
                f"The data partition's file system uses {wanted_bytes // MIB} MiB of "
                f"{device_bytes // MIB} now"
            )

    async def room(self) -> Room | None:
        """Tell how much room there is; None while it is not open."""
        async with self._lock:
            if self._mounted is None:
                return None
            file_systems = self._edges.file_systems
            used_bytes, free_bytes = await file_systems.usage(self._edges.mount_point)
            if self._is_authenticated:
                free_bytes += await file_systems.device_bytes(self._mounted) - used_bytes
            reserve_bytes = await file_systems.file_bytes(self._reserve)
            return Room(free_bytes=free_bytes, reserve_bytes=reserve_bytes)

    async def set_reserve(self, size_bytes: int) -> None:
        """Keep so much room for bad days.

        Raises:
            ResourceExhaustedError: there is not so much. The reserve is given up.
        """
        async with self._lock:
            assert self._mounted is not None
            await self._edges.file_systems.set_file_bytes(self._reserve, size_bytes)

    @property
    def _reserve(self) -> str:
        return f"{self._edges.mount_point}/{RESERVE.path.removeprefix('data/')}"

    async def _overwrite(self, device: str, offset_bytes: int, size_bytes: int) -> None:
        for done_bytes in range(0, size_bytes, STEP_BYTES):
            step_bytes = min(STEP_BYTES, size_bytes - done_bytes)
            await self._edges.file_systems.zero(
                device, offset_bytes=offset_bytes + done_bytes, size_bytes=step_bytes
            )
            self._edges.say(
                f"Overwriting the data partition once: {(done_bytes + step_bytes) // MIB} of "
                f"{size_bytes // MIB} MiB"
            )

    async def _add_recovery(self, key: DiskKey) -> None:
        """Where a recovery key was installed, let it open the partition, too."""
        public_key = await self._edges.storage.read(RECOVERY_KEY)
        if public_key is None:
            return
        secret = self._edges.entropy.token_bytes(KEY_BYTES)
        ephemeral = self._edges.entropy.token_bytes(KEY_BYTES)
        token = encode_token(
            public_key, secret=secret, ephemeral_secret=ephemeral, slot=RECOVERY_SLOT
        )
        await self._luks.add_recovery(key, secret, token)

    async def _mount(self, device: str) -> None:
        try:
            await self._edges.file_systems.mount(
                device, self._edges.mount_point, "xfs", flags=_FLAGS, options=_OPTIONS
            )
        except FailedPreconditionError as cause:
            raise DataLossError(
                f"the file system of the data partition {self._edges.device} is damaged",
                remedy="Check the disk; if it is broken, delete the node with `metroctl node "
                "delete`, replace the disk, and install the machine again.",
            ) from cause
        self._mounted = device

    async def _release(self) -> None:
        await self._edges.file_systems.unmount(self._edges.mount_point)
        self._mounted = None
        await self._luks.close()


def first_bytes(device_bytes: int) -> int:
    """How much of a device a file system begins with."""
    wanted_bytes = max(FIRST_BYTES_MIN, device_bytes // FIRST_PART_OF_DISK)
    return min(device_bytes, wanted_bytes) // MIB * MIB


def next_bytes(used_bytes: int, free_bytes: int, device_bytes: int) -> int:
    """How much of a device a file system should use: twice as much, or as it is.

    Args:
        used_bytes: What it uses of the device now.
        free_bytes: What is free of that.
    """
    if free_bytes >= max(FREE_BYTES_MIN, used_bytes // FREE_PART):
        return used_bytes
    wanted_bytes = min(2 * used_bytes, device_bytes // MIB * MIB)
    # Less than XFS makes an allocation group of: it would leave it alone, for ever asked again.
    return wanted_bytes if wanted_bytes >= used_bytes + 2 * MIB else used_bytes


def _is_authenticated(security: StorageSecurity) -> bool:
    return security == common_pb2.NODE_STORAGE_SECURITY_AUTHENTICATED_ENCRYPTED
