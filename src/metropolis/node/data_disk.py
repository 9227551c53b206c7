# SPDX-License-Identifier: Apache-2.0
"""The data partition of a machine: XFS, in LUKS2 unless the cluster's policy wants it in clear.

    INSECURE                  partition ─▶ XFS
    ENCRYPTED                 partition ─▶ dm-crypt (AES-256-XTS) ─▶ XFS
    AUTHENTICATED_ENCRYPTED   partition ─▶ dm-integrity (journal) ─▶ dm-crypt (and HMAC) ─▶ XFS

A change of a sector is noticed with AUTHENTICATED_ENCRYPTED; that a whole disk was put back to what
it was at an earlier time is not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from metropolis.api import common_pb2
from metropolis.base.errors import DataLossError, FailedPreconditionError
from metropolis.formats.disk_token import encode_token
from metropolis.host import Entropy, FileSystems, Processes
from metropolis.node.luks import KEY_BYTES, RECOVERY_SLOT, Luks
from metropolis.node.partition import StorageSecurity
from metropolis.node.programs import run_program
from metropolis.node.storage import RECOVERY_KEY, NodeStorage
from metropolis.pki.unlock import DiskKey

VOLUME_NAME: Final = "data"
_FLAGS: Final = ("nodev", "noexec", "nosuid")
_OPTIONS: Final = "pquota"
# -K: no discards, which say nothing new on a fresh disk and take long; -f: over whatever is there.
_MKFS: Final = ("mkfs.xfs", "-q", "-K", "-f", "-L", "metropolis")
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
    """

    device: str
    mount_point: str
    storage: NodeStorage
    processes: Processes
    file_systems: FileSystems
    entropy: Entropy


@final
class DataDisk:
    """The data partition of this machine. One per start of the machine: it knows what is open."""

    def __init__(self, edges: DataDiskEdges) -> None:
        self._edges = edges
        self._luks = Luks(edges.processes, device=edges.device, name=VOLUME_NAME)
        self._is_mounted = False

    @property
    def offers(self) -> Sequence[StorageSecurity]:
        """Everything."""
        return _OFFERS

    async def make(self, security: StorageSecurity, key: DiskKey | None) -> None:
        """Make an empty partition and open it. Repeating it after a crash is fine.

        Raises:
            FailedPreconditionError: the disk does not take it.
        """
        await self._release()
        await self._luks.erase()
        device = self._edges.device
        if key is not None:
            is_authenticated = _is_authenticated(security)
            await self._luks.format(key, is_authenticated=is_authenticated)
            await self._add_recovery(key)
            await self._luks.open(key, is_authenticated=is_authenticated)
            device = self._luks.opened_device
        outcome = await run_program(self._edges.processes, (*_MKFS, device))
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
        if self._is_mounted:
            return
        device = self._edges.device
        if key is not None:
            await self._luks.close()  # of a try that was cut off
            await self._luks.open(key, is_authenticated=_is_authenticated(security))
            device = self._luks.opened_device
        await self._mount(device)

    async def wipe(self) -> None:
        """Make everything on the partition unreadable for good, whether it is open or not."""
        was_encrypted = await self._luks.erase()  # first: without keys all the rest is noise
        await self._release()
        if not was_encrypted:
            await self._edges.file_systems.zero(self._edges.device)

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
        self._is_mounted = True

    async def _release(self) -> None:
        await self._edges.file_systems.unmount(self._edges.mount_point)
        self._is_mounted = False
        await self._luks.close()


def _is_authenticated(security: StorageSecurity) -> bool:
    return security == common_pb2.NODE_STORAGE_SECURITY_AUTHENTICATED_ENCRYPTED
