# SPDX-License-Identifier: Apache-2.0
"""Replaces the owner's key, whatever is interrupted.

owner-key.next.pem   made first; exists exactly while a rotation is not finished
│
├─ RotateOwnerKey with the old key ──▶ certificate ─┐
└─ or, after a lost reply, Escrow with the new key ─┴▶ owner-key.pem, owner.pem
"""

from metropolis.api import aaa_pb2, users_pb2
from metropolis.api.rpc_aaa import AAA
from metropolis.api.rpc_users import Users
from metropolis.base.errors import FailedPreconditionError, PermissionDeniedError, UnknownError
from metropolis.ctl import credentials as owner
from metropolis.ctl import files
from metropolis.ctl.connection import Cluster, endpoints_of, log, make_transport
from metropolis.ctl.contexts import Context
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.pki import certificates, keys
from metropolis.pki.certificates import OWNER
from metropolis.pki.credentials import Credentials
from metropolis.pki.identity import server_verifier
from metropolis.pki.rotation import sign_rotation
from metropolis.rpc.resolver import ClusterChannel

_NEXT = "owner-key.next.pem"


async def rotate(context: Context, cluster: Cluster) -> None:
    """Make a new key the owner's, and keep it in place of the old one.

    Raises:
        FailedPreconditionError: the context is not the owner's.
        PermissionDeniedError: the owner's key was replaced by somebody else.
    """
    old = owner.read_owner_key(context)
    path = context.directory / _NEXT
    files.create(path, keys.to_owner_pem(keys.generate_key(LinuxEntropy())))
    text = files.read(path)
    assert text is not None, "it exists"
    new = keys.from_owner_pem(text)
    request = users_pb2.RotateOwnerKeyRequest(
        new_public_key=keys.raw_public_key(new),
        signature=sign_rotation(new, ca=cluster.ca, old_public_key=keys.raw_public_key(old)),
    )
    answer = await cluster.channel.call(
        Users.ROTATE_OWNER_KEY, request, timeout_s=cluster.timeout_s
    )
    _adopt(context, text, answer.certificate, ca=cluster.ca)


async def finish(context: Context, *, timeout_s: float) -> bool:
    """Finish an interrupted rotation, if there is one whose new key the cluster has taken."""
    text = files.read(context.directory / _NEXT)
    if text is None:
        return False
    ca = owner.read_ca(context)
    if ca is None:
        raise FailedPreconditionError(
            "the cluster's CA is not known here", remedy="Run `metroctl takeownership` first."
        )
    key = keys.from_owner_pem(text)
    async with ClusterChannel(
        make_transport(context),
        endpoints_of(context),
        credentials=Credentials(certificate=certificates.issue_ephemeral(key), key=key),
        verify=server_verifier(ca),
        rng=LinuxEntropy().jitter(),
        follows_members=False,
        log=log,
    ) as channel:
        try:
            certificate = await _escrow(channel, keys.raw_public_key(key), timeout_s)
        except PermissionDeniedError:
            return False  # the old key is still the owner's
    _adopt(context, text, certificate, ca=ca)
    return True


async def _escrow(channel: ClusterChannel, public_key: bytes, timeout_s: float) -> bytes:
    parameters = aaa_pb2.EscrowRequest.Parameters(
        requested_identity_name=OWNER, public_key=public_key
    )
    async with channel.open(AAA.ESCROW, timeout_s=timeout_s) as stream:
        await stream.send(aaa_pb2.EscrowRequest(parameters=parameters))
        await stream.end()
        response = await stream.receive()
        if response is None or not response.emitted_certificate:
            raise UnknownError("the cluster issued no certificate", remedy="Try again.")
        await stream.receive()  # its end, which may be a refusal
        return response.emitted_certificate


def _adopt(context: Context, text: str, certificate: bytes, *, ca: bytes) -> None:
    """Key first: `metroctl takeownership` heals a certificate that does not fit."""
    owner.check_issued(certificate, ca=ca, key=keys.from_owner_pem(text))
    files.replace(context.owner_key_path, text)
    owner.store_certificate(context, certificate)
    files.remove(context.directory / _NEXT)
