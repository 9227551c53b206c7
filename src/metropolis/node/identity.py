# SPDX-License-Identifier: Apache-2.0
"""Who this node is once it is enrolled, and how that is kept on its storage."""

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.message import DecodeError

from metropolis.api import private_pb2
from metropolis.base.errors import DataLossError, InvalidArgumentError, UnauthenticatedError
from metropolis.base.ids import NodeId
from metropolis.node.partition import StorageSecurity
from metropolis.node.storage import (
    CA_CERTIFICATE,
    NODE_CERTIFICATE,
    NODE_KEY,
    SEALED_CONFIGURATION,
    NodeStorage,
)
from metropolis.pki import certificates, keys
from metropolis.pki.credentials import Credentials
from metropolis.pki.identity import node_identity

REINSTALL = "Delete the node with `metroctl node delete`, wipe the machine, and install it again."


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeIdentity:
    """A member of a cluster.

    Attributes:
        credentials: Node certificate and key, for both sides of a connection.
        join_key: Proves to the cluster, before the disk is open, which node this is.
    """

    node_id: NodeId
    credentials: Credentials
    ca_certificate: bytes
    join_key: Ed25519PrivateKey = field(repr=False)
    storage_security: StorageSecurity


async def read_sealed_configuration(storage: NodeStorage) -> private_pb2.SealedConfiguration | None:
    """Read what the node knows before its disk is open; None when it was never enrolled.

    Raises:
        DataLossError: the file is there and damaged. Never taken for an absence: that would
            make a new node out of an old one.
    """
    data = await storage.read(SEALED_CONFIGURATION)
    if data is None:
        return None
    try:
        sealed = private_pb2.SealedConfiguration.FromString(data)
        if not sealed.join_key or not sealed.storage_security:
            raise DecodeError("fields are missing")
        keys.from_go_form(sealed.join_key)
    except (DecodeError, InvalidArgumentError) as cause:
        raise DataLossError(f"{SEALED_CONFIGURATION.path} is damaged", remedy=REINSTALL) from cause
    return sealed


async def write_sealed_configuration(
    storage: NodeStorage,
    *,
    join_key: Ed25519PrivateKey,
    node_unlock_key: bytes,
    storage_security: StorageSecurity,
    ca_certificate: bytes = b"",
    seals: bool,
) -> None:
    """Write what the node must know before its disk is open.

    Args:
        seals: The node enrols as one that uses its TPM.
    """
    sealed = private_pb2.SealedConfiguration(
        node_unlock_key=node_unlock_key,
        join_key=keys.to_go_form(join_key),
        cluster_ca=ca_certificate,
        storage_security=storage_security,
    )
    data = sealed.SerializeToString(deterministic=True)
    await storage.write(SEALED_CONFIGURATION, data, seals=seals)


async def has_credentials(storage: NodeStorage) -> bool:
    """Tell whether all three credential files exist."""
    for place in (CA_CERTIFICATE, NODE_CERTIFICATE, NODE_KEY):
        if await storage.read(place) is None:
            return False
    return True


async def write_credentials(
    storage: NodeStorage, *, key: Ed25519PrivateKey, certificate: bytes, ca_certificate: bytes
) -> None:
    """Write certificate, key and CA to the data partition."""
    await storage.write(CA_CERTIFICATE, certificates.to_pem(ca_certificate).encode())
    await storage.write(NODE_KEY, keys.to_pkcs8_pem(key).encode())
    await storage.write(NODE_CERTIFICATE, certificates.to_pem(certificate).encode())


async def read_identity(
    storage: NodeStorage, sealed: private_pb2.SealedConfiguration
) -> NodeIdentity:
    """Put the node's identity together from its storage.

    Raises:
        DataLossError: a file is missing or damaged, or they do not belong together.
    """
    texts = [await storage.read(each) for each in (CA_CERTIFICATE, NODE_CERTIFICATE, NODE_KEY)]
    try:
        ca_certificate = certificates.from_pem(texts[0] or b"")
        certificate = certificates.from_pem(texts[1] or b"")
        key = keys.from_pkcs8_pem(texts[2] or b"")
        if ca_certificate != sealed.cluster_ca:
            raise InvalidArgumentError("the data partition is of another cluster")
        node_id = node_identity(certificate, ca_certificate)
        join_key = keys.from_go_form(sealed.join_key)
    except (InvalidArgumentError, UnauthenticatedError) as cause:
        raise DataLossError("this node's credentials are damaged", remedy=REINSTALL) from cause
    return NodeIdentity(
        node_id=node_id,
        credentials=Credentials(certificate=certificate, key=key),
        ca_certificate=ca_certificate,
        join_key=join_key,
        storage_security=sealed.storage_security,
    )
