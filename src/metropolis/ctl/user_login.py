# SPDX-License-Identifier: Apache-2.0
"""How a user gets a certificate, and the next one before it ends.

AAA.Escrow with user-key.pem ──▶ the key has a certificate that lasts: a new one at once
└─▶ else the cluster wants a password, which works once
"""

from metropolis.api import aaa_pb2
from metropolis.api.rpc_aaa import AAA
from metropolis.base.errors import FailedPreconditionError, MetropolisError, UnknownError
from metropolis.ctl import credentials as owner
from metropolis.ctl.connection import TIMEOUT_S, endpoints_of, log, make_transport
from metropolis.ctl.contexts import Context
from metropolis.ctl.user_credentials import (
    proven_key,
    read_user_key,
    store_user_certificate,
    user_certificate,
)
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.pki import keys
from metropolis.pki.identity import server_verifier
from metropolis.rpc.resolver import ClusterChannel
from metropolis.rpc.transport import Transport

_PASSWORD = aaa_pb2.EscrowResponse.ProofRequest.KIND_PLAINTEXT_PASSWORD


async def renew(
    context: Context, *, transport: Transport | None = None, timeout_s: float = TIMEOUT_S
) -> None:
    """Replace the certificate of a context by one that lasts longer.

    Raises:
        FailedPreconditionError: the cluster wants a password first, or nobody ever logged in.
        MetropolisError: the cluster was not reached, or refuses.
    """
    certificate = user_certificate(context)
    if certificate is None:
        raise FailedPreconditionError(
            "nobody has logged in here", remedy="Run `metroctl user login NAME`."
        )
    name = certificate.name
    if not await log_in(context, name, transport=transport, timeout_s=timeout_s):
        raise FailedPreconditionError(
            f"the cluster does not know this key of user {name!r} any more",
            remedy=f"Ask for a password and run `metroctl user login {name}`.",
        )


async def log_in(
    context: Context,
    name: str,
    *,
    password: str | None = None,
    transport: Transport | None = None,
    timeout_s: float = TIMEOUT_S,
) -> bool:
    """Get a certificate for the context's key and keep it; False: a password is needed for that.

    Raises:
        PermissionDeniedError: the password is not right.
        UnavailableError: no leader was reached in time.
    """
    ca = owner.read_ca(context)
    assert ca is not None, "the CA was pinned before"
    async with ClusterChannel(
        transport or make_transport(context),
        endpoints_of(context),
        credentials=proven_key(context),
        verify=server_verifier(ca),
        rng=LinuxEntropy().jitter(),
        follows_members=False,
        log=log,
    ) as channel:
        key = read_user_key(context)
        certificate = await _escrow(
            channel, name, keys.raw_public_key(key), password, timeout_s=timeout_s
        )
    if certificate is None:
        return False
    store_user_certificate(context, certificate, name=name, ca=ca, key=key)
    return True


async def _escrow(
    channel: ClusterChannel, name: str, key: bytes, password: str | None, *, timeout_s: float
) -> bytes | None:
    parameters = aaa_pb2.EscrowRequest.Parameters(requested_identity_name=name, public_key=key)
    async with channel.open(AAA.ESCROW, timeout_s=timeout_s) as stream:
        await stream.send(aaa_pb2.EscrowRequest(parameters=parameters))
        is_wanted = False
        try:
            while (response := await stream.receive()) is not None:
                if response.emitted_certificate:
                    return response.emitted_certificate
                is_wanted = any(proof.kind == _PASSWORD for proof in response.needed)
                if not is_wanted:
                    continue
                if password is None:
                    return None
                proofs = aaa_pb2.EscrowRequest.Proofs(plaintext_password=password)
                await stream.send(aaa_pb2.EscrowRequest(proofs=proofs))
                await stream.end()
        except MetropolisError:
            if is_wanted and password is None:
                return None
            raise
    raise UnknownError(
        "the cluster ended the conversation without issuing a certificate",
        remedy="Try again; if that does not help, ask for another password.",
    )
