# SPDX-License-Identifier: Apache-2.0
"""First contact with a cluster: trust its CA, then fetch the owner's certificate.

    ca.pem exists? ──yes─────────────────────────────┐
      │ no                                           ▼
      ▼                                        AAA.Escrow under that CA, with an
    GetCACertificate, without verification     ephemeral certificate of owner-key.pem
      │                                              │
      ▼                                              ▼
    a person compares the fingerprint ──▶ ca.pem   owner.pem

It can be repeated and resumed: the cluster gives the same key the same certificate again.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from metropolis.api import aaa_pb2, curator_pb2
from metropolis.api.rpc_aaa import AAA
from metropolis.api.rpc_curator import CuratorLocal
from metropolis.base.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    MetropolisError,
    UnauthenticatedError,
    UnavailableError,
    UnknownError,
)
from metropolis.ctl import credentials as owner
from metropolis.ctl.connection import TIMEOUT_S, endpoints_of, log, make_transport
from metropolis.ctl.contexts import Context
from metropolis.ctl.user_credentials import proven_key
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.pki import keys
from metropolis.pki.certificates import OWNER
from metropolis.pki.credentials import Credentials
from metropolis.pki.identity import (
    insecure_verifier,
    server_verifier,
    verify_ca,
    verify_signed_by,
)
from metropolis.rpc.dialling import NETWORK_REMEDY
from metropolis.rpc.resolver import ClusterChannel
from metropolis.rpc.transport import Endpoint, Transport

AcceptCa = Callable[[bytes], bool]  # shown the CA (DER); whether to trust it from now on

_RETRY_S: Final = 0.5
_ONE_ENDPOINT_S: Final = 5.0  # then the next one gets its chance


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """What ownership consists of: both in DER."""

    ca: bytes
    certificate: bytes


async def take_ownership(
    context: Context,
    *,
    accept_ca: AcceptCa,
    transport: Transport | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Ownership:
    """Become the owner of a cluster that was bootstrapped with the context's owner key.

    Args:
        context: Holds the owner key and at least one endpoint; gets `ca.pem` and `owner.pem`.
        accept_ca: Asked only while the context has no CA.
        timeout_s: Of each of the two calls, finding the leader included.

    Raises:
        FailedPreconditionError: there is no owner key or endpoint, or the CA was rejected.
        UnauthenticatedError: the cluster, or its CA, is not what it says.
        PermissionDeniedError: the cluster has another owner key.
        UnavailableError: no leader was reached in time.
    """
    transport = transport or make_transport(context)
    endpoints_of(context)
    credentials = owner.ephemeral_credentials(context)
    ca = await trusted_ca(context, accept_ca=accept_ca, transport=transport, timeout_s=timeout_s)
    async with ClusterChannel(
        transport,
        endpoints_of(context),
        credentials=credentials,
        verify=server_verifier(ca),
        rng=LinuxEntropy().jitter(),
        follows_members=False,
        log=log,
    ) as channel:
        certificate = await _escrow(channel, credentials, timeout_s)
    owner.check_issued(certificate, ca=ca, key=credentials.key)
    owner.store_certificate(context, certificate)
    return Ownership(ca=ca, certificate=certificate)


async def trusted_ca(
    context: Context,
    *,
    accept_ca: AcceptCa,
    transport: Transport | None = None,
    timeout_s: float = TIMEOUT_S,
) -> bytes:
    """Return the CA (DER) of a context; without one, ask the cluster and then a person.

    With an owner certificate nobody is asked: the CA must have signed it.

    Raises:
        FailedPreconditionError: the CA was rejected, or there is no key to ask with.
        UnauthenticatedError: the node's own certificate is not signed by the CA it names.
        UnavailableError: no node answered in time.
    """
    ca = owner.read_ca(context)
    if ca is None:
        ca = await named_ca(context, transport=transport, timeout_s=timeout_s)
        adopt_ca(context, ca, accept_ca=accept_ca)
    return ca


async def named_ca(
    context: Context, *, transport: Transport | None = None, timeout_s: float = TIMEOUT_S
) -> bytes:
    """Ask the nodes at a context's endpoints which CA (DER) they belong to; nobody vouches for it.

    Raises:
        UnauthenticatedError: the node's own certificate is not signed by the CA it names.
        UnavailableError: no node answered in time.
    """
    # Not the owner's certificate: a foreign cluster would hang up on it without saying why.
    credentials = proven_key(context)
    transport = transport or make_transport(context)
    return await _ask_every(endpoints_of(context), transport, credentials, timeout_s)


def adopt_ca(context: Context, ca: bytes, *, accept_ca: AcceptCa) -> None:
    """Trust a CA (DER) from now on, if it signed the owner's certificate or a person says so.

    Raises:
        FailedPreconditionError: the person does not.
        UnauthenticatedError: there is an owner's certificate, and another CA signed it.
    """
    certificate = owner.read_certificate(context)
    if certificate is not None:
        verify_signed_by(certificate, ca)
    elif not accept_ca(ca):
        raise FailedPreconditionError(
            "cluster CA rejected by user",
            remedy="Compare the fingerprint with what the node's console shows, and answer yes.",
        )
    owner.store_ca(context, ca)


async def _ask_every(
    endpoints: Sequence[Endpoint],
    transport: Transport,
    credentials: Credentials,
    timeout_s: float,
) -> bytes:
    """Ask one endpoint after the other, again and again until the time is over."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + timeout_s
    while True:
        failure: MetropolisError = UnavailableError("nobody was asked")
        for endpoint in endpoints:
            rest_s = max(0.1, min(_ONE_ENDPOINT_S, deadline_s - loop.time()))
            try:
                return await _ask_for_ca(endpoint, transport, credentials, rest_s)
            except (UnavailableError, DeadlineExceededError) as error:
                failure = error
        if loop.time() + _RETRY_S >= deadline_s:
            raise _no_answer(endpoints, timeout_s, failure) from failure.__cause__
        await asyncio.sleep(_RETRY_S)


def _no_answer(
    endpoints: Sequence[Endpoint], timeout_s: float, last: MetropolisError
) -> UnavailableError:
    """Say what all attempts together came to; this is the first contact with a cluster."""
    named = ", ".join(map(str, endpoints))
    # An attempt without a cause ran out of its own little time.
    text = str(last) if last.__cause__ else f"nobody answered at {named} within {timeout_s:g} s"
    return UnavailableError(
        text,
        remedy=f"{last.remedy or NETWORK_REMEDY} After an installation, give the machine a minute "
        "or two more: its console says what it waits for.",
    )


async def _ask_for_ca(
    endpoint: Endpoint, transport: Transport, credentials: Credentials, timeout_s: float
) -> bytes:
    """Ask a node, unverified, which CA it belongs to; it must at least belong to that one."""
    verify = insecure_verifier()
    channel = transport.dial(endpoint, credentials=credentials, verify=verify)
    try:
        response = await channel.call(
            CuratorLocal.GET_CA_CERTIFICATE,
            curator_pb2.GetCACertificateRequest(),
            timeout_s=timeout_s,
        )
    finally:
        await channel.close()
    ca = response.identity_ca_certificate
    verify_ca(ca)
    if verify.certificate is None:
        raise UnauthenticatedError(
            f"{endpoint} presented no certificate", remedy="Check that the address is a node's."
        )
    server_verifier(ca)(verify.certificate)
    return ca


async def _escrow(channel: ClusterChannel, credentials: Credentials, timeout_s: float) -> bytes:
    request = aaa_pb2.EscrowRequest(
        parameters=aaa_pb2.EscrowRequest.Parameters(
            requested_identity_name=OWNER, public_key=keys.raw_public_key(credentials.key)
        )
    )
    async with channel.open(AAA.ESCROW, timeout_s=timeout_s) as stream:
        await stream.send(request)
        await stream.end()
        while (response := await stream.receive()) is not None:
            if response.emitted_certificate:
                return response.emitted_certificate
    raise UnknownError(
        "the cluster ended the conversation without issuing a certificate",
        remedy="Check that the key is the one the cluster was bootstrapped with, and try again.",
    )
