# SPDX-License-Identifier: Apache-2.0
"""The data partition as the enrolment sees it: something that is made once and then opened.

What a driver can do is an edge. The namespace driver offers a plain directory and says so; a
machine offers LUKS2. The key never leaves these two calls.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from metropolis.api import common_pb2
from metropolis.base.errors import FailedPreconditionError
from metropolis.host import Directory
from metropolis.pki.unlock import DiskKey

StorageSecurity: TypeAlias = common_pb2.NodeStorageSecurity.ValueType


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What is left of a data partition.

    Attributes:
        free_bytes: Can be written, at once or when its file system has grown. Not the reserve.
        reserve_bytes: How large the reserve is, 0: it was given up, None: there never was one.
    """

    free_bytes: int
    reserve_bytes: int | None


class DataPartition(Protocol):
    """Makes and opens the node's `data` tree."""

    @property
    def offers(self) -> Sequence[StorageSecurity]:
        """What this machine can do, best first."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether the tree can be read now, without a key."""
        ...

    @property
    def is_ours(self) -> bool:
        """Whether its room is this node's to look after: `grow`, `room` and the reserve."""
        ...

    async def make(self, security: StorageSecurity, key: DiskKey | None) -> None:
        """Make an empty partition and open it. Repeating it after a crash is fine."""
        ...

    async def open(self, security: StorageSecurity, key: DiskKey | None) -> None:
        """Open what `make` made.

        Raises:
            PermissionDeniedError: the key does not fit.
        """
        ...

    async def wipe(self) -> None:
        """Make everything on the partition unreadable for good, whether it is open or not."""
        ...

    async def grow(self) -> str:
        """Make room before it is needed; say what was done, or nothing. Ask every second."""
        ...

    async def room(self) -> Room | None:
        """Tell how much room there is; None while it is not open."""
        ...

    async def set_reserve(self, size_bytes: int) -> None:
        """Keep so much room for bad days. It must be open.

        Raises:
            ResourceExhaustedError: there is not so much. The reserve is given up.
        """
        ...


class PlainDirectory:
    """A directory of the computer that runs the lab: no encryption, honestly reported."""

    def __init__(self, storage: Directory) -> None:
        self._storage = storage

    @property
    def offers(self) -> Sequence[StorageSecurity]:
        return (common_pb2.NODE_STORAGE_SECURITY_INSECURE,)

    @property
    def is_open(self) -> bool:
        """Always."""
        return True

    @property
    def is_ours(self) -> bool:
        return False

    async def make(self, security: StorageSecurity, key: DiskKey | None) -> None:
        """Make the directory skeleton."""
        assert security in self.offers
        assert key is None
        await self._storage.make_directory("data")

    async def open(self, security: StorageSecurity, key: DiskKey | None) -> None:
        """Nothing to open."""
        assert security in self.offers
        assert key is None

    async def wipe(self) -> None:
        """Remove every file."""
        await self._storage.remove_tree("data")

    async def grow(self) -> str:
        """There is as much room as the computer has."""
        raise AssertionError("nobody asks")

    async def room(self) -> Room | None:
        """As much as the computer has."""
        raise AssertionError("nobody asks")

    async def set_reserve(self, size_bytes: int) -> None:
        """Nobody keeps room on somebody's computer."""
        del size_bytes
        raise AssertionError("nobody asks")


def choose_security(
    *,
    recommended: StorageSecurity,
    accepted: Sequence[StorageSecurity],
    offers: Sequence[StorageSecurity],
) -> StorageSecurity:
    """Choose how the data partition is protected.

    Args:
        recommended: What the cluster would like best.
        accepted: Everything that the cluster's policy accepts.
        offers: What this machine can do, best first.

    Raises:
        FailedPreconditionError: the machine offers nothing that the policy accepts.
    """
    if recommended in offers:
        return recommended
    for security in offers:
        if security in accepted:
            return security
    names = common_pb2.NodeStorageSecurity.Name
    wanted = ", ".join(names(each).removeprefix("NODE_STORAGE_SECURITY_") for each in accepted)
    offered = ", ".join(names(each).removeprefix("NODE_STORAGE_SECURITY_") for each in offers)
    raise FailedPreconditionError(
        f"the cluster accepts storage that is {wanted}, this machine offers {offered}",
        remedy="Found the cluster with a permissive storage policy, or use other machines.",
    )
