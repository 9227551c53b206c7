# SPDX-License-Identifier: Apache-2.0
"""What makes the records of a backup the state of a cluster. Nothing less is restored."""

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.message import DecodeError

from metropolis.api.common_pb2 import ClusterConfiguration
from metropolis.api.storage_pb2 import InitialOwner
from metropolis.base.errors import DataLossError, InvalidArgumentError, MetropolisError
from metropolis.base.ids import PUBLIC_KEY_BYTES, NodeId, parse_node_id
from metropolis.cluster.state import keys, pki
from metropolis.formats.backup.archive import ArchiveWriter, Record, read_archive
from metropolis.formats.backup.header import TAKE_ANOTHER, Header
from metropolis.pki.certificates import Authority
from metropolis.pki.identity import verify_ca
from metropolis.pki.keys import from_go_form, raw_public_key

# What comes before and after the id in the key of a node's certificate.
_CERTIFICATE: Final = pki.CLUSTER.certificate("node-\0").split(b"\0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A checked backup.

    Attributes:
        authority: The cluster's CA with its key.
        nodes: Ids of the nodes there were.
    """

    header: Header
    records: Sequence[Record] = field(repr=False)
    authority: Authority = field(repr=False)
    owner_public_key: bytes
    configuration: ClusterConfiguration
    nodes: Sequence[NodeId]


def read_content(archive: bytes) -> Content:
    """Read and check a plain archive.

    Raises:
        MetropolisError: it is not the state of a cluster.
    """
    header, reader, records = read_archive(archive)
    return check_content(header, records, reader.check_signature)


def check_content(
    header: Header, records: Sequence[Record], check_signature: Callable[[bytes], None]
) -> Content:
    """Check that records are the state of the cluster that the header names.

    Args:
        check_signature: Told the CA's public key; raises unless that CA has signed the backup.

    Raises:
        DataLossError: they are not.
    """
    found = {record.key: record.value for record in records}
    authority = _authority(found)
    if not hmac.compare_digest(
        hashlib.sha256(authority.certificate).digest(), header.ca_fingerprint
    ):
        raise _unusable("its CA is another one than its header says")
    check_signature(raw_public_key(authority.key))
    try:
        owner = InitialOwner.FromString(found[keys.INITIAL_OWNER])
        configuration = ClusterConfiguration.FromString(found[keys.CONFIGURATION])
        nodes = [keys.node_id_of(key) for key in sorted(found) if key.startswith(keys.NODES)]
    except (KeyError, DecodeError, MetropolisError) as cause:
        raise _unusable("owner, configuration or nodes cannot be read") from cause
    if len(owner.public_key) != PUBLIC_KEY_BYTES:
        raise _unusable("its owner has no key")
    return Content(
        header=header,
        records=records,
        authority=authority,
        owner_public_key=owner.public_key,
        configuration=configuration,
        nodes=nodes,
    )


def plain_archive(content: Content) -> bytes:
    """Return a checked backup without its encryption: every key of the cluster is in it."""
    writer = ArchiveWriter(content.header)
    pieces = [writer.prologue, *(writer.record(record) for record in content.records)]
    return b"".join((*pieces, writer.finish(content.authority.key)))


def is_of_old_hardware(key: bytes) -> bool:
    """Tell whether a key belongs to nodes of before, and is not restored.

    That is: records, join keys and certificates of nodes, the consensus with its CA, elections.
    """
    of_nodes = (
        *(keys.NODES, keys.JOIN_KEYS, keys.LEADER, keys.CONSENSUS_PKI),
        *(keys.DECOMMISSIONS, keys.SCRUB, keys.HEALTH),
    )
    return key.startswith(of_nodes) or _is_node_certificate(key)


def node_certificates(records: Sequence[Record]) -> Sequence[bytes]:
    """Return the certificates (DER) of the nodes there were."""
    return [record.value for record in records if _is_node_certificate(record.key)]


def _is_node_certificate(key: bytes) -> bool:
    before, after = _CERTIFICATE
    if not (key.startswith(before) and key.endswith(after)):
        return False
    try:
        parse_node_id(key.removeprefix(before).removesuffix(after).decode("ascii", "replace"))
    except InvalidArgumentError:
        return False  # of a user whose name begins like a node's
    return True


def _authority(found: dict[bytes, bytes]) -> Authority:
    namespace = pki.CLUSTER
    try:
        certificate = found[namespace.certificate(namespace.ca_name)]
        facts = verify_ca(certificate)
        key = from_go_form(found[namespace.key(namespace.ca_name)])
    except (KeyError, MetropolisError) as cause:
        raise _unusable("the cluster's CA is missing or damaged") from cause
    if facts.public_key != raw_public_key(key):
        raise _unusable("the key of its CA does not fit the certificate")
    return Authority(certificate=certificate, key=key)


def _unusable(reason: str) -> DataLossError:
    return DataLossError(
        f"this backup is not the state of a cluster: {reason}", remedy=TAKE_ANOTHER
    )
