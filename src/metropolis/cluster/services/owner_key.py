# SPDX-License-Identifier: Apache-2.0
"""Users.RotateOwnerKey: the owner makes another key its own, and loses the present one by it.

From then on AAA.Escrow gives the owner's certificate to the new key only, and every server
refuses the old certificate. A lost reply is healed by Escrow with the new key.
"""

import hmac

from google.protobuf.timestamp_pb2 import Timestamp

from metropolis.api.accounts_pb2 import OwnerKey
from metropolis.api.storage_pb2 import InitialOwner
from metropolis.api.users_pb2 import RotateOwnerKeyRequest, RotateOwnerKeyResponse
from metropolis.base.errors import InvalidArgumentError, PermissionDeniedError
from metropolis.cluster.leader import Leader
from metropolis.cluster.planner.authorization import OWNER
from metropolis.cluster.services.callers import check_public_key
from metropolis.cluster.state import accounts, keys, pki
from metropolis.cluster.state.fenced import Change, is_unchanged, retry_conflicts
from metropolis.consensus.store import Get, Put
from metropolis.pki.certificates import issue_user
from metropolis.pki.rotation import is_rotation_signed
from metropolis.rpc.peer import Peer, PeerKind


async def rotate_owner_key(
    leader: Leader, request: RotateOwnerKeyRequest, peer: Peer
) -> RotateOwnerKeyResponse:
    """Replace the owner's key by one that has signed for this."""
    new_key = check_public_key(request.new_public_key, "new_public_key")
    if peer.kind is not PeerKind.USER or peer.identity != OWNER or peer.public_key is None:
        raise PermissionDeniedError(
            "only the owner can replace the owner's key", remedy="Call it as the owner."
        )
    old_key = peer.public_key
    if hmac.compare_digest(new_key, old_key):
        raise InvalidArgumentError("that is the owner's key already", remedy="Make a new key.")
    if not is_rotation_signed(
        new_key, request.signature, ca=leader.own.ca_certificate, old_public_key=old_key
    ):
        raise InvalidArgumentError(
            "the new key did not sign this rotation",
            remedy="Use `metroctl auth rotate-owner-key`, which signs with the new key.",
        )
    certificate = await retry_conflicts(lambda: _replace(leader, old_key, new_key))
    leader.log.warning("The owner's key was replaced")
    return RotateOwnerKeyResponse(certificate=certificate)


async def _replace(leader: Leader, old_key: bytes, new_key: bytes) -> bytes:
    stored_at = pki.CLUSTER.certificate(pki.OWNER_NAME)
    found = await leader.store.read(
        Get(keys.INITIAL_OWNER), Get(accounts.OWNER_KEY), Get(stored_at)
    )
    initial, rotated, issued = found.one(0), found.one(1), found.one(2)
    present = InitialOwner() if initial is None else InitialOwner.FromString(initial.value)
    if not hmac.compare_digest(present.public_key, old_key):
        raise PermissionDeniedError(
            "your key is not the owner's any more", remedy="Use the key that replaced it."
        )
    certificate = await leader.pki.sign(
        lambda authority, serial: issue_user(authority, new_key, identity=OWNER, serial=serial)
    )
    now = Timestamp()
    now.FromDatetime(leader.own.clock.wall())
    revision = await leader.store.write(
        Change(
            compares=(
                is_unchanged(keys.INITIAL_OWNER, initial.mod_revision if initial else 0),
                is_unchanged(accounts.OWNER_KEY, rotated.mod_revision if rotated else 0),
                is_unchanged(stored_at, issued.mod_revision if issued else 0),
            ),
            operations=(
                Put(keys.INITIAL_OWNER, InitialOwner(public_key=new_key).SerializeToString()),
                Put(
                    accounts.OWNER_KEY,
                    OwnerKey(public_key=new_key, since=now).SerializeToString(),
                ),
                Put(stored_at, certificate),
            ),
            sentence="replaced the owner's key",
            object=OWNER,
        )
    )
    await leader.access.settle(revision)
    return certificate
