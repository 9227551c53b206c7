# SPDX-License-Identifier: Apache-2.0
"""Every path of a node's storage and its owner, written down once.

Two trees, as on a real disk: `esp` is the EFI system partition (readable before any key is known,
so what is secret in it is sealed where a TPM exists), `data` the data partition. In the namespace
driver both are directories of the computer that runs the lab: nothing is encrypted, and the node
reports its storage as INSECURE.
"""

from dataclasses import dataclass
from typing import Final

from metropolis.base.errors import DataLossError
from metropolis.host import Directory

PLACE_BYTES_MAX: Final = 4 << 20  # hardly a file of ours is larger; a larger one is damage


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A file or directory with one owner.

    Attributes:
        path: Relative to the node's storage.
        owner: Module that writes it; everybody else only reads.
        mode: Permission bits from its creation on.
        holds: What is in it.
        is_directory: The owner keeps a subtree of its own there.
        bytes_max: A file that is larger is damaged.
    """

    path: str
    owner: str
    holds: str
    mode: int = 0o600
    is_directory: bool = False
    bytes_max: int = PLACE_BYTES_MAX


PARAMETERS: Final = Place(
    path="esp/metropolis/parameters.pb",
    owner="installer",
    holds="NodeParameters: found a cluster, or register with one",
)
ENROLMENT_RECORD: Final = Place(
    path="esp/metropolis/enrolment.pb",
    owner="metropolis.node.enrolment",
    holds="EnrolmentRecord: how far an unfinished enrolment has come",
)
SEALED_CONFIGURATION: Final = Place(
    path="esp/metropolis/sealed_configuration.pb",
    owner="metropolis.node.enrolment",
    holds="SealedConfiguration: join key, node unlock key, cluster CA",
)
CLUSTER_DIRECTORY: Final = Place(
    path="esp/metropolis/cluster_directory.pb",
    owner="metropolis.node.roles.hosts",
    holds="ClusterDirectory: where the consensus members are",
)
FAREWELL: Final = Place(
    path="esp/metropolis/farewell.pb",
    owner="metropolis.node.farewell",
    holds="WipeRecord: this machine is, or was, told to wipe itself; outlives the wipe",
)
CA_CERTIFICATE: Final = Place(
    path="data/node/credentials/ca.pem",
    owner="metropolis.node.enrolment",
    holds="cluster CA certificate",
)
NODE_CERTIFICATE: Final = Place(
    path="data/node/credentials/cert.pem",
    owner="metropolis.node.enrolment",
    holds="this node's certificate",
)
NODE_KEY: Final = Place(
    path="data/node/credentials/cert-key.pem",
    owner="metropolis.node.enrolment",
    holds="this node's private key, PKCS #8",
)
LOCAL_ROLES: Final = Place(
    path="data/node/roles.pb",
    owner="metropolis.node.roles.rolefetch",
    holds="NodeRoles: what the cluster last asked of this node",
)
OWNER_KEY: Final = Place(
    path="data/node/owner-key.bin",
    owner="metropolis.node.roles.access",
    holds="the owner's public key, raw, once it was replaced: an older one is refused",
)
UNRECORDED: Final = Place(
    path="data/node/unrecorded.pb",
    owner="metropolis.cluster.unrecorded",
    holds="Unrecorded: what this node was told when nobody led, until it is in the audit log",
)
ETCD: Final = Place(
    path="data/etcd",
    owner="metropolis.consensus.member",
    holds="etcd's data, peer certificates and the list of refused peers",
    mode=0o700,
    is_directory=True,
)
BACKUPS: Final = Place(
    path="data/backups",
    owner="metropolis.cluster.backup.shelf",
    holds="encrypted scheduled backups: made while it led, and copied from other leaders",
    mode=0o700,
    is_directory=True,
)
REHEARSAL: Final = Place(
    path="data/rehearsal",
    owner="metropolis.consensus.scratch",
    holds="a scratch etcd while a backup is rehearsed in it: all keys of the cluster",
    mode=0o700,
    is_directory=True,
)
RESTORE: Final = Place(
    path="esp/metropolis/restore.pb",
    owner="installer",
    holds="RestoreFile: the state of a cluster to come back; removed when it has",
    bytes_max=1 << 30,
)

PLACES: Final = (
    PARAMETERS,
    ENROLMENT_RECORD,
    SEALED_CONFIGURATION,
    CLUSTER_DIRECTORY,
    FAREWELL,
    CA_CERTIFICATE,
    NODE_CERTIFICATE,
    NODE_KEY,
    LOCAL_ROLES,
    OWNER_KEY,
    UNRECORDED,
    ETCD,
    BACKUPS,
    REHEARSAL,
    RESTORE,
)


class NodeStorage:
    """Reads and writes declared places only."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory

    async def read(self, place: Place) -> bytes | None:
        """Return a place's content, or None when it was never written.

        Raises:
            DataLossError: the file is larger than anything we write.
        """
        assert place in PLACES
        assert not place.is_directory
        try:
            data = await self.directory.read(place.path)
        except FileNotFoundError:
            return None
        if len(data) > place.bytes_max:
            raise DataLossError(
                f"{place.path} has {len(data)} bytes, more than {place.bytes_max}",
                remedy="Restore it from a backup, or delete the node and enrol it again.",
            )
        return data

    async def write(self, place: Place, data: bytes) -> None:
        """Replace a place's content, atomically and durably."""
        assert place in PLACES
        assert not place.is_directory
        await self.directory.write(place.path, data, mode=place.mode)

    async def remove(self, place: Place) -> None:
        """Remove a place; it is fine when it is not there."""
        if place.is_directory:
            await self.directory.remove_tree(place.path)
        else:
            await self.directory.remove(place.path)
