# SPDX-License-Identifier: Apache-2.0
"""The edge that carries calls: dial an endpoint, serve one.

`metropolis.rpc.grpc` is the real one; `metropolis.rpc.memory` carries the same serialized bytes
over a simulated network, so that identity, policies and errors are the same code in both.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from typing_extensions import override

from metropolis.api.methods import Method
from metropolis.pki.credentials import Credentials
from metropolis.rpc.channel import DialledChannel, Services
from metropolis.rpc.peer import Peer

# Judges the server's single certificate (DER) inside the handshake, before any application byte.
# Raises a MetropolisError (UnauthenticatedError) to refuse it.
ServerVerifier = Callable[[bytes], None]


class Authenticator(Protocol):
    """Decides per call who the caller is and whether the method admits it."""

    @property
    def ca_certificate(self) -> bytes | None:
        """DER of the CA under which handshakes let client certificates pass; None: none yet."""
        ...

    def authenticate(
        self, method: Method[Any, Any], certificate: bytes | None, address: str
    ) -> Peer:
        """Judge a call.

        Args:
            certificate: DER of the one certificate that the client presented, or None.
            address: Literal IP address of the client, may be empty.

        Raises:
            UnauthenticatedError: the caller did not prove what the method needs.
            PermissionDeniedError: the caller is known and may not call this method.
        """
        ...


@runtime_checkable
class Recognizer(Protocol):
    """What an `Authenticator` may know about connections, apart from calls; servers ask for it."""

    def identify(self, certificate: bytes | None, address: str) -> Peer:
        """Say who is at the other end, without admitting it to anything: for limits, revocation."""
        ...


@runtime_checkable
class MetadataJudge(Protocol):
    """What an `Authenticator` may ask of a call besides its certificate: a signature, say."""

    def judge_metadata(
        self, method: Method[Any, Any], metadata: Mapping[str, str], peer: Peer
    ) -> None:
        """Judge what the caller sent beside the request, names in lower case.

        Raises:
            UnauthenticatedError: the caller did not prove what the method needs.
        """
        ...


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """A literal IP address and a TCP port."""

    host: str
    tcp_port: int

    @override
    def __str__(self) -> str:
        return (
            f"[{self.host}]:{self.tcp_port}" if ":" in self.host else f"{self.host}:{self.tcp_port}"
        )


class Server(Protocol):
    """A running server."""

    @property
    def endpoint(self) -> Endpoint: ...

    def disconnect(self, is_unwanted: Callable[[Peer], bool]) -> int:
        """Close the connections whose peer is unwanted (revoked); return how many."""
        ...


class Transport(Protocol):
    """Carries calls between endpoints."""

    def dial(
        self, endpoint: Endpoint, *, credentials: Credentials | None, verify: ServerVerifier
    ) -> DialledChannel:
        """Return a channel that connects when first used, and again when the connection broke."""
        ...

    def serve(
        self,
        endpoint: Endpoint,
        *,
        credentials: Credentials,
        services: Services,
        authenticator: Authenticator,
    ) -> AbstractAsyncContextManager[Server]:
        """Listen while the block runs. Leaving it closes every connection hard.

        Raises:
            UnavailableError: the endpoint cannot be bound.
        """
        ...
