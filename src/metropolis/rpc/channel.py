# SPDX-License-Identifier: Apache-2.0
"""What callers and handlers of an RPC see, whatever carries the bytes."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from google.protobuf.message import Message

from metropolis.api.methods import Method
from metropolis.rpc.peer import Peer

Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)
Req_contra = TypeVar("Req_contra", bound=Message, contravariant=True)
Req_co = TypeVar("Req_co", bound=Message, covariant=True)
Res_co = TypeVar("Res_co", bound=Message, covariant=True)
Res_contra = TypeVar("Res_contra", bound=Message, contravariant=True)

MESSAGE_BYTES_MAX = 4 << 20  # what either side accepts in one message, as grpc implementations do


class Packed(Generic[Res_co]):
    """A message that is sent to many: encoded once, when it is first sent. Never change it."""

    __slots__ = ("_data", "message")

    def __init__(self, message: Res_co) -> None:
        self.message = message
        self._data: bytes | None = None

    @property
    def data(self) -> bytes:
        if self._data is None:
            self._data = self.message.SerializeToString()
        return self._data


class ClientStream(Protocol[Req_contra, Res_co]):
    """The caller's half of a streaming call."""

    async def send(self, message: Req_contra) -> None: ...

    async def end(self) -> None:
        """Say that nothing more will be sent. Receiving goes on."""
        ...

    async def receive(self) -> Res_co | None:
        """Return the next message, or None after the server ended the stream without an error.

        Cancel-safe: a cancelled receive loses nothing.

        Raises:
            MetropolisError: the call failed; the class follows the gRPC status.
        """
        ...


class Channel(Protocol):
    """A way to call one service endpoint. Connects lazily and reconnects by itself."""

    async def call(
        self,
        method: Method[Req, Res],
        request: Req,
        *,
        timeout_s: float = 10.0,
        metadata: Mapping[str, str] | None = None,
    ) -> Res:
        """Make a unary call. `metadata` is sent beside it: etcd reads some, a `MetadataJudge` may.

        Raises:
            MetropolisError: the server's error, or `UnavailableError` when it was not reached,
                or `DeadlineExceededError` after `timeout_s`.
        """
        ...

    def open(
        self,
        method: Method[Req, Res],
        *,
        timeout_s: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> AbstractAsyncContextManager[ClientStream[Req, Res]]:
        """Open a streaming call; leaving the block cancels what is still open."""
        ...

    async def close(self) -> None: ...


class DialledChannel(Channel, Protocol):
    """A channel to one endpoint, as a transport makes it."""

    def give_up_connecting(self) -> None:
        """Fail the calls that wait for a connection with `NotReachedError`. Later ones try anew."""
        ...


class ServerStream(Protocol[Req_co, Res_contra]):
    """The handler's half of a streaming call. The handler is cancelled when the caller goes."""

    @property
    def peer(self) -> Peer: ...

    async def receive(self) -> Req_co | None:
        """Return the next message, or None when the caller will send no more."""
        ...

    async def send(self, message: Res_contra) -> None: ...

    async def send_packed(self, packed: Packed[Res_contra]) -> None:
        """Send what others are sent, too."""
        ...


UnaryHandler = Callable[[Req, Peer], Awaitable[Res]]
StreamHandler = Callable[[ServerStream[Req, Res]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Registration:
    """One method and what answers it."""

    method: Method[Any, Any]
    unary: Callable[[Any, Peer], Awaitable[Any]] | None = None
    stream: Callable[[Any], Awaitable[None]] | None = None


class Services:
    """A set of methods with their handlers; what a server serves.

    A unary handler takes (request, peer) and returns the response. A stream handler takes a
    `ServerStream` (its `receive` yields the single request of a server-streaming method).
    """

    def __init__(self) -> None:
        self._by_path: dict[str, Registration] = {}

    def unary(self, method: Method[Req, Res], handler: UnaryHandler[Req, Res]) -> None:
        """Register the handler of a unary method."""
        self._add(Registration(method, unary=handler))

    def stream(self, method: Method[Req, Res], handler: StreamHandler[Req, Res]) -> None:
        """Register the handler of a method with a stream on either side."""
        self._add(Registration(method, stream=handler))

    def include(self, other: "Services") -> None:
        """Add everything that `other` serves."""
        for registration in other.by_path.values():
            self._add(registration)

    @property
    def by_path(self) -> Mapping[str, Registration]:
        return self._by_path

    def _add(self, registration: Registration) -> None:
        path = registration.method.path
        assert path not in self._by_path, f"{path} has a handler already"
        self._by_path[path] = registration
