# SPDX-License-Identifier: Apache-2.0
"""Every path of a node's storage and its owner, written down once.

Two trees, as on a real disk: `esp` is the EFI system partition (readable before any key is known,
so what is secret in it is sealed where a TPM exists), `data` the data partition. In the namespace
driver both are directories of the computer that runs the lab: nothing is encrypted, and the node
reports its storage as INSECURE.

The ESP is FAT, which has no journal: a power cut while a file is renamed can leave it empty, or
gone, or two names for one content, and nothing repairs that. What the node writes there is kept
twice, therefore, each copy with a checksum, and overwritten in place, one after the other: no name
and, as a rule, no table changes, and one copy is always whole.

    write    file, then copy          read     the file if it is whole, else the copy; both are
    remove   file, then copy                   made alike again
"""

import errno
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from metropolis.base.errors import DataLossError, ResourceExhaustedError
from metropolis.host import Directory
from metropolis.node.sealing.diagnosis import without_tpm
from metropolis.node.sealing.envelope import MAGIC, OVERHEAD_BYTES, Envelope, Kind, decode, encode
from metropolis.node.sealing.sealer import Sealer

PLACE_BYTES_MAX: Final = 4 << 20  # hardly a file of ours is larger; a larger one is damage
COPY_SUFFIX: Final = ".copy"
DAMAGED: Final = "Restore it from a backup, or delete the node and enrol it again."
_UNREADABLE: Final = b"?"  # no envelope


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A file or directory with one owner.

    Attributes:
        path: Relative to the node's storage.
        owner: Module that writes it; everybody else only reads.
        mode: Permission bits from its creation on.
        holds: What is in it.
        is_directory: The owner keeps a subtree of its own there.
        is_kept_twice: In an envelope (`metropolis.node.sealing.envelope`), with a copy beside it.
        is_sealed: By this machine's TPM, if it has one. Only what is kept twice.
        bytes_max: A content that is larger is damaged.
    """

    path: str
    owner: str
    holds: str
    mode: int = 0o600
    is_directory: bool = False
    is_kept_twice: bool = False
    is_sealed: bool = False
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
    is_kept_twice=True,
    is_sealed=True,
)
SEALED_CONFIGURATION: Final = Place(
    path="esp/metropolis/sealed_configuration.pb",
    owner="metropolis.node.enrolment",
    holds="SealedConfiguration: join key, node unlock key, cluster CA",
    is_kept_twice=True,
    is_sealed=True,
)
CLUSTER_DIRECTORY: Final = Place(
    path="esp/metropolis/cluster_directory.pb",
    owner="metropolis.node.roles.hosts",
    holds="ClusterDirectory: where the consensus members are",
    is_kept_twice=True,
)
FAREWELL: Final = Place(
    path="esp/metropolis/farewell.pb",
    owner="metropolis.node.farewell",
    holds="WipeRecord: this machine is, or was, told to wipe itself; outlives the wipe",
    is_kept_twice=True,
)
RECOVERY_KEY: Final = Place(
    path="esp/metropolis/recovery.pub",
    owner="installer",
    holds="X25519 public key, raw, of who can open the data partition when the node cannot",
)
NETWORK_CONFIGURATION: Final = Place(
    path="esp/metropolis/network_configuration.pb",
    owner="metropolis.node.network",
    holds="Net: the static network configuration that the node parameters last gave",
    is_kept_twice=True,
)
CLOCK: Final = Place(
    path="esp/metropolis/clock.txt",
    owner="metropolis.node.clock",
    holds="the last known time: the clock never starts before it",
    is_kept_twice=True,
    bytes_max=64,
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
RESERVE: Final = Place(
    path="data/reserve",
    owner="metropolis.node.room",
    holds="nothing: room for the day on which the disk is full; empty once it was given up",
    bytes_max=1 << 30,
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
    NETWORK_CONFIGURATION,
    CLOCK,
    RECOVERY_KEY,
    CA_CERTIFICATE,
    NODE_CERTIFICATE,
    NODE_KEY,
    LOCAL_ROLES,
    OWNER_KEY,
    UNRECORDED,
    ETCD,
    BACKUPS,
    REHEARSAL,
    RESERVE,
    RESTORE,
)


class NodeStorage:
    """Reads and writes declared places only.

    Args:
        sealer: Of this machine's TPM; None: it has none.
    """

    def __init__(self, directory: Directory, sealer: Sealer | None = None) -> None:
        self.directory = directory
        self._sealer = sealer

    async def read(self, place: Place) -> bytes | None:
        """Return a place's content, or None when it was never written.

        Raises:
            DataLossError: the file is damaged, or larger than anything we write.
            MetropolisError: it is sealed, and the TPM does not open it.
        """
        assert place in PLACES
        assert not place.is_directory
        if not place.is_kept_twice:
            return await self._read_file(place, place.path)
        envelope = await self._read_copies(place)
        if envelope is None or envelope.kind is Kind.PLAIN:
            return None if envelope is None else envelope.body
        if self._sealer is None:
            raise without_tpm(place.path)
        return await self._sealer.open(place.path, envelope.body)

    async def is_sealed(self, place: Place) -> bool:
        """Tell whether what is stored was sealed by a TPM: as it is, not as it should be."""
        assert place.is_sealed
        envelope = await self._read_copies(place)
        return envelope is not None and envelope.kind is Kind.SEALED

    async def write(self, place: Place, data: bytes, *, seals: bool = True) -> None:
        """Replace a place's content, atomically and durably.

        Args:
            seals: Where the place is sealed and there is a TPM; otherwise it is plain, and says so.

        Raises:
            ResourceExhaustedError: the disk is full. What was there before is still there.
        """
        assert place in PLACES
        assert not place.is_directory
        if not place.is_kept_twice:
            with _told_when_full(place.path, data):
                await self.directory.write(place.path, data, mode=place.mode)
            return
        envelope = Envelope(Kind.PLAIN, data)
        if place.is_sealed and seals and self._sealer is not None:
            envelope = Envelope(Kind.SEALED, await self._sealer.seal(place.path, data))
        text = encode(place.path, envelope)
        for path in (place.path, place.path + COPY_SUFFIX):
            await self._write_copy(place, path, text)

    async def remove(self, place: Place) -> None:
        """Remove a place; it is fine when it is not there."""
        if place.is_directory:
            await self.directory.remove_tree(place.path)
            return
        await self.directory.remove(place.path)
        if place.is_kept_twice:
            await self.directory.remove(place.path + COPY_SUFFIX)

    async def _write_copy(self, place: Place, path: str, text: bytes) -> None:
        with _told_when_full(path, text):
            await self.directory.overwrite(path, text, mode=place.mode)

    async def _read_copies(self, place: Place) -> Envelope | None:
        """Return the file if it is whole, else its copy, and make both alike.

        Raises:
            DataLossError: neither is whole.
            FailedPreconditionError: a newer system wrote them.
        """
        paths = (place.path, place.path + COPY_SUFFIX)
        texts = [await self._read_readable(place, path) for path in paths]
        for text in texts:
            try:
                envelope = decode(place.path, text or b"")
            except DataLossError:
                continue
            for path, other in zip(paths, texts, strict=True):
                if other != text:
                    # The content is read; a full or broken disk is told elsewhere.
                    with suppress(OSError, ResourceExhaustedError):
                        await self._write_copy(place, path, text or b"")
            return envelope
        if None in texts and all(_was_cut_off(text) for text in texts):
            return None  # the first write of all, or the removal
        raise DataLossError(f"{place.path} and its copy are damaged", remedy=DAMAGED)

    async def _read_readable(self, place: Place, path: str) -> bytes | None:
        """Read one of two copies; what cannot be read is damaged, not absent."""
        try:
            return await self._read_file(place, path)
        except DataLossError:
            return _UNREADABLE
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return _UNREADABLE

    async def _read_file(self, place: Place, path: str) -> bytes | None:
        try:
            data = await self.directory.read(path)
        except FileNotFoundError:
            return None
        if len(data) > place.bytes_max + (OVERHEAD_BYTES if place.is_kept_twice else 0):
            raise DataLossError(
                f"{path} has {len(data)} bytes, more than {place.bytes_max}", remedy=DAMAGED
            )
        return data


def _was_cut_off(text: bytes | None) -> bool:
    """Tell whether a file that is not whole is what a power cut leaves of one of ours."""
    if text is None or text == _UNREADABLE or not text.strip(b"\0"):
        return True
    return text.startswith(MAGIC) or MAGIC.startswith(text)


@contextmanager
def _told_when_full(path: str, data: bytes) -> Generator[None, None, None]:
    """Turn the kernel's word for a full disk into ours."""
    try:
        yield
    except OSError as cause:
        if cause.errno != errno.ENOSPC:
            raise
        raise ResourceExhaustedError(
            f"the disk is full: there is no room for the {len(data)} bytes of {path}",
            remedy="Look at what fills it: `metroctl node metrics NODE node` shows every file "
            "system; give the machine a larger disk, or remove backups from the node.",
        ) from cause
