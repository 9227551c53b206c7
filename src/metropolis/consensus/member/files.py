# SPDX-License-Identifier: Apache-2.0
"""What a member keeps on the node's storage. Only this module knows the names.

data/                      etcd's own
peer_pki/{ca,cert,cert-key}.pem
peer_crl                   DER; etcd reads it anew for every connection it accepts
member.json                whose data this is, written once it was agreed upon
alone                      the next start makes this member the only one; gone once it is
"""

import hmac
import json
from dataclasses import asdict, dataclass
from typing import Final

from metropolis.base.errors import DataLossError, FailedPreconditionError
from metropolis.base.ids import NodeId
from metropolis.consensus.member.start import PeerIdentity
from metropolis.host import Directory
from metropolis.pki.certificates import fingerprint, from_pem, to_pem
from metropolis.pki.keys import to_pkcs8_pem

_WIPE_REMEDY: Final = (
    "Remove the ConsensusMember role from this node, wait until its data is gone, and add it again."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Whose data is on the disk. `ca` is the fingerprint of the consensus CA."""

    node_id: str
    ca: str


class MemberFiles:
    """The files of the local member.

    Args:
        root: Path below `storage` that is this module's alone.
    """

    def __init__(self, storage: Directory, *, root: str) -> None:
        self._storage = storage
        self._root = root
        self.data = f"{root}/data"
        self.ca = f"{root}/peer_pki/ca.pem"
        self.certificate = f"{root}/peer_pki/cert.pem"
        self.key = f"{root}/peer_pki/cert-key.pem"
        self.crl = f"{root}/peer_crl"
        self._record = f"{root}/member.json"
        self._alone = f"{root}/alone"

    def absolute(self, path: str) -> str:
        """The path as etcd must spell it."""
        return self._storage.absolute(path)

    async def has_data(self) -> bool:
        """Tell whether etcd has ever written its log here."""
        return await self._storage.exists(f"{self.data}/member/wal")

    async def read_record(self) -> Record | None:
        """Return whose data this is, or None when that was never agreed upon.

        Raises:
            DataLossError: the record is damaged.
        """
        try:
            text = await self._storage.read(self._record)
        except FileNotFoundError:
            return None
        try:
            return Record(**json.loads(text))
        except (ValueError, TypeError) as cause:
            raise DataLossError(
                f"{self._storage.absolute(self._record)} is damaged", remedy=_WIPE_REMEDY
            ) from cause

    async def write_record(self, record: Record) -> None:
        """Remember whose data this is. Nothing is written when it is remembered already."""
        if await self.read_record() != record:
            await self._storage.write(self._record, json.dumps(asdict(record)).encode())

    def check_owner(self, record: Record, *, node_id: NodeId, ca: str | None) -> None:
        """Refuse data that belongs to somebody else.

        Args:
            ca: Fingerprint of the CA that this start is for; None accepts the one on record.

        Raises:
            FailedPreconditionError: the data is another node's or another consensus'.
        """
        if record.node_id != node_id:
            raise FailedPreconditionError(
                f"the consensus data on this node's storage belongs to {record.node_id}",
                remedy="Install the node anew, or return the disk to the node it belongs to.",
            )
        if ca is not None and not hmac.compare_digest(record.ca, ca):
            raise FailedPreconditionError(
                "the consensus data on this node's storage belongs to another cluster: "
                f"its CA is {record.ca}, this cluster's is {ca}",
                remedy=_WIPE_REMEDY,
            )

    async def write_identity(self, identity: PeerIdentity) -> None:
        """Write certificates and key, and the first CRL unless there is one of this CA."""
        ca_pem = to_pem(identity.ca_certificate).encode()
        is_same_ca = await self._read_or_none(self.ca) == ca_pem
        if not (is_same_ca and await self._storage.exists(self.crl)):
            await self._storage.write(self.crl, identity.initial_crl)
        for path, content in (
            (self.key, to_pkcs8_pem(identity.key).encode()),
            (self.certificate, to_pem(identity.certificate).encode()),
            (self.ca, ca_pem),  # last: its presence says that the others are there
        ):
            if await self._read_or_none(path) != content:
                await self._storage.write(path, content)

    async def write_crl(self, crl: bytes) -> bool:
        """Replace the list of refused peers (DER); tell whether it was another one before."""
        if await self._read_or_none(self.crl) == crl:
            return False
        await self._storage.write(self.crl, crl)
        return True

    async def ca_fingerprint(self) -> str:
        """Fingerprint of the CA on disk.

        Raises:
            FailedPreconditionError: there are no certificates.
        """
        text = await self._read_or_none(self.ca)
        if text is None:
            raise FailedPreconditionError(
                "this node has no certificates of the consensus", remedy=_WIPE_REMEDY
            )
        return fingerprint(from_pem(text))

    async def is_to_be_alone(self) -> bool:
        """Tell whether the next start makes this member the only one."""
        return await self._storage.exists(self._alone)

    async def order_alone(self) -> None:
        """Have the next start make this member the only one."""
        await self._storage.write(self._alone, b"")

    async def is_alone_now(self) -> None:
        """Forget the order: every start makes it so again, and others would be thrown out."""
        await self._storage.remove(self._alone)

    async def wipe_data(self) -> None:
        """Delete etcd's data; certificates stay. Cut by a crash, it leaves data of nobody."""
        await self._storage.remove(self._alone)
        await self._storage.remove(self._record)
        await self._storage.remove_tree(self.data)

    async def wipe(self) -> None:
        """Delete everything."""
        await self.wipe_data()
        await self._storage.remove_tree(self._root)

    async def _read_or_none(self, path: str) -> bytes | None:
        try:
            return await self._storage.read(path)
        except FileNotFoundError:
            return None


async def order_alone(storage: Directory, *, root: str) -> None:
    """Have the member's next start make it the only one, when the majority is lost for ever."""
    await MemberFiles(storage, root=root).order_alone()


async def wipe(storage: Directory, *, root: str) -> None:
    """Forget that this node was a member. The member must not run."""
    await MemberFiles(storage, root=root).wipe()
