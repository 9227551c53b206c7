# SPDX-License-Identifier: Apache-2.0
"""gRPC over ordinary mutual TLS, for peers that are no members of a cluster.

Elsewhere in this room a certificate is judged per call and nobody has more than one; here both
sides have certificates of an authority that somebody else runs, with chains and names, and TLS
itself refuses whoever has none. TLS 1.2 is enough, because clients of others must get in.
"""

import asyncio
import os
import ssl
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from metropolis.api.methods import Method
from metropolis.base.errors import InvalidArgumentError, UnauthenticatedError
from metropolis.rpc.channel import DialledChannel, Services
from metropolis.rpc.grpc.client import ClientHandler, GrpcChannel
from metropolis.rpc.grpc.server import GrpcServer, serve
from metropolis.rpc.grpc.wire import Wire
from metropolis.rpc.limits import Limits
from metropolis.rpc.peer import Peer, PeerKind
from metropolis.rpc.status import NotReachedError
from metropolis.rpc.transport import Authenticator, Endpoint

CONNECT_S: Final = 10.0
KEEPALIVE_IDLE_S: Final = 20.0
KEEPALIVE_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MutualTls:
    """Paths of PEM files, for a server or a client.

    Attributes:
        certificate: Of this side, followed by its intermediate authorities.
        key: Of that certificate, without a password.
        authority: The authorities whose certificates the other side may show.
    """

    certificate: str
    key: str
    authority: str


class _Connection(ssl.SSLObject):
    """A connection that tells its peer's certificate by the name under which servers ask."""

    @property
    def peer_certificate(self) -> bytes | None:
        return self.getpeercert(binary_form=True)


def _context(purpose: int, files: MutualTls) -> ssl.SSLContext:
    context = ssl.SSLContext(purpose)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.sslobject_class = _Connection
    context.set_alpn_protocols(["h2"])
    try:
        context.load_cert_chain(files.certificate, files.key, password=_no_password)
        context.load_verify_locations(cafile=files.authority)
    except (OSError, ValueError) as cause:  # ssl.SSLError is an OSError
        names = f"{files.certificate}, {files.key}, {files.authority}"
        raise InvalidArgumentError(
            f"one of the files {names} cannot be used for TLS: {cause}",
            remedy="Name a PEM certificate, its unencrypted PEM key, and the PEM authority of the"
            " other side.",
        ) from cause
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted")  # OpenSSL would ask the terminal


class CertificateAuthenticator:
    """Admits everybody whom TLS let in; they are named after their certificate's common name."""

    @property
    def ca_certificate(self) -> bytes | None:
        """None: the TLS context knows the authorities."""
        return None

    def authenticate(
        self, method: Method[Any, Any], certificate: bytes | None, address: str
    ) -> Peer:
        """Name the caller.

        Raises:
            UnauthenticatedError: there is no certificate, which TLS should have refused.
        """
        del method
        return self.identify(certificate, address)

    def identify(self, certificate: bytes | None, address: str) -> Peer:
        """Name whoever is at the other end.

        Raises:
            UnauthenticatedError: there is no certificate.
        """
        if certificate is None:
            raise UnauthenticatedError(
                "no client certificate presented", remedy="Connect with a client certificate."
            )
        return Peer(
            kind=PeerKind.USER,
            identity=_common_name(certificate),
            address=address,
            certificate=certificate,
        )


@lru_cache(maxsize=1024)
def _common_name(certificate: bytes) -> str:
    subject = x509.load_der_x509_certificate(certificate).subject
    names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def serve_mutual(
    endpoint: Endpoint,
    *,
    tls: MutualTls,
    services: Services,
    authenticator: Authenticator | None = None,
    limits: Limits | None = None,
) -> AbstractAsyncContextManager[GrpcServer]:
    """Listen while the block runs; whoever has no certificate of the authority is refused.

    Args:
        authenticator: What else a caller must prove; see `MetadataJudge`. None: nothing.
        limits: Whoever shows the same common name shares those of an identity.

    Raises:
        InvalidArgumentError: the files cannot be used.
        UnavailableError: the endpoint cannot be bound.
    """
    return serve(
        endpoint,
        context=_context(ssl.PROTOCOL_TLS_SERVER, tls),
        services=services,
        authenticator=authenticator or CertificateAuthenticator(),
        limits=limits or Limits(),
    )


def dial_mutual(
    endpoint: Endpoint, *, tls: MutualTls, server_name: str, limits: Limits | None = None
) -> DialledChannel:
    """Return a channel that connects when first used.

    Args:
        server_name: What the server's certificate must name: a DNS name or an address.

    Raises:
        InvalidArgumentError: the files cannot be used.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT, tls)
    granted = limits or Limits()

    async def connect() -> Wire:
        wire = Wire(ClientHandler(), is_client=True, limits=granted)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S):
                await loop.create_connection(
                    lambda: wire,
                    endpoint.host,
                    endpoint.tcp_port,
                    ssl=context,
                    server_hostname=server_name,
                )
            if not wire.is_made:
                raise ConnectionResetError("the peer closed the connection during the handshake")
        except OSError as error:  # a time-out, too
            raise NotReachedError(
                f"cannot reach {endpoint}: {_reason(error)}",
                remedy="Check the address, that the server runs, and the certificates of both.",
            ) from error
        wire.keep_alive(KEEPALIVE_IDLE_S, KEEPALIVE_TIMEOUT_S)
        return wire

    return GrpcChannel(
        connect,
        name=str(endpoint),
        scheme="https",
        authority=server_name,
        message_bytes_max=granted.message_bytes,
    )


def _reason(error: OSError) -> str:
    if error.errno is not None and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
