# SPDX-License-Identifier: Apache-2.0
"""AAA.Escrow: the holder of the owner's key gets the owner's certificate.

As often as wanted: the same key gets the same certificate. Other users: see `user_escrow`.
"""

import asyncio
import hmac
from typing import Final

from google.protobuf.message import DecodeError

from metropolis.api.aaa_pb2 import EscrowRequest, EscrowResponse
from metropolis.api.storage_pb2 import InitialOwner
from metropolis.base.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnimplementedError,
)
from metropolis.base.ids import PUBLIC_KEY_BYTES
from metropolis.cluster.leader import Leader
from metropolis.cluster.services.callers import check_public_key
from metropolis.cluster.services.user_escrow import escrow_user
from metropolis.cluster.state import keys, pki
from metropolis.cluster.state.fenced import Change, retry_conflicts
from metropolis.consensus.store import Get
from metropolis.pki.certificates import issue_user
from metropolis.rpc.channel import ServerStream
from metropolis.rpc.peer import PeerKind

OWNER: Final = "owner"
FIRST_MESSAGE_S_MAX: Final = 10.0  # whoever opens the call knows what it wants

_REFRESH: Final = EscrowResponse.ProofRequest(
    kind=EscrowResponse.ProofRequest.KIND_REFRESH_CERTIFICATE
)


async def escrow(leader: Leader, stream: ServerStream[EscrowRequest, EscrowResponse]) -> None:
    """Exchange the proof of a key for a certificate."""
    parameters = await _parameters(stream)
    if parameters.requested_identity_name != OWNER:
        await escrow_user(leader, stream, parameters)
        return
    key = check_public_key(parameters.public_key, "public_key")
    peer = stream.peer
    if peer.kind is not PeerKind.EPHEMERAL or peer.public_key is None:
        await stream.send(EscrowResponse(needed=[_REFRESH]))
        raise UnauthenticatedError(
            "the key was not proven",
            remedy="Connect with one self-signed Ed25519 certificate for the owner's key.",
        )
    if not hmac.compare_digest(peer.public_key, key):
        raise UnimplementedError(
            "a certificate is issued only for the key of the connection",
            remedy="Connect with the key that the certificate shall be for.",
        )
    if not hmac.compare_digest(await _owner_key(leader), key):
        raise PermissionDeniedError(
            "this is not the owner's key",
            remedy="Use the key whose public half the first node was installed with.",
        )
    certificate = await retry_conflicts(lambda: _issue(leader, key))
    await stream.send(EscrowResponse(fulfilled=[_REFRESH], emitted_certificate=certificate))


async def _parameters(
    stream: ServerStream[EscrowRequest, EscrowResponse],
) -> EscrowRequest.Parameters:
    try:
        async with asyncio.timeout(FIRST_MESSAGE_S_MAX):
            first = await stream.receive()
    except TimeoutError:
        raise DeadlineExceededError(
            f"nothing was asked for within {FIRST_MESSAGE_S_MAX:.0f} s",
            remedy="Send parameters at once.",
        ) from None
    if first is None or not first.HasField("parameters"):
        raise InvalidArgumentError(
            "the first message has no parameters",
            remedy="Send requested_identity_name and public_key first.",
        )
    return first.parameters


async def _owner_key(leader: Leader) -> bytes:
    found = (await leader.store.read(Get(keys.INITIAL_OWNER))).one(0)
    key = b""
    if found is not None:
        try:
            key = InitialOwner.FromString(found.value).public_key
        except DecodeError:
            key = b""
    if len(key) != PUBLIC_KEY_BYTES:
        raise FailedPreconditionError(
            "the cluster has no owner's key", remedy="Wait until its bootstrap is done."
        )
    return key


async def _issue(leader: Leader, key: bytes) -> bytes:
    issued = await leader.pki.issue(
        pki.OWNER_NAME,
        key,
        lambda authority, serial: issue_user(authority, key, identity=OWNER, serial=serial),
    )
    if issued.change.operations:
        said = Change(sentence="issued the owner's certificate", object=OWNER)
        await leader.store.write(said + issued.change)
        leader.log.info("Issued the owner's certificate")
    return issued.certificate
