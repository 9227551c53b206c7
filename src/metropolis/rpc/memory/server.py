# SPDX-License-Identifier: Apache-2.0
"""The serving side: one task per call."""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from functools import partial
from typing import Any, final

from google.protobuf.message import Message

from metropolis.base.errors import (
    CancelledCallError,
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    MetropolisError,
    UnimplementedError,
    leaves,
)
from metropolis.pki.identity import self_signed_key, verify_signed_by
from metropolis.rpc.channel import MESSAGE_BYTES_MAX, Packed, Registration, Services
from metropolis.rpc.memory import frames
from metropolis.rpc.memory.connection import Connection, End
from metropolis.rpc.memory.messages import Inbox, Outbox, parse, too_large
from metropolis.rpc.memory.network import MemoryNetwork
from metropolis.rpc.peer import Peer
from metropolis.rpc.status import to_answer, to_trailers
from metropolis.rpc.transport import Authenticator, Endpoint

SUCCESS = {"grpc-status": "0"}


@final
class _Call:
    """One call in progress; a `ServerStream`."""

    def __init__(self, registration: Registration, peer: Peer, end: End, call_id: int) -> None:
        self._registration = registration
        self._method = registration.method
        self._only_request: Message | None = None  # of a method without a request stream
        self._responses = 0
        self._end = end
        self._call_id = call_id
        self.peer = peer
        self.inbox = Inbox()
        self.outbox = Outbox(end, call_id)
        self.task: asyncio.Task[None] | None = None
        self.is_abandoned = False

    async def receive(self) -> Any:  # noqa: ANN401  # the method's type of request
        if self._method.cardinality.client_streaming:
            return await self._next_request()
        request, self._only_request = self._only_request, None
        return request

    async def send(self, message: Message) -> None:
        self._responses += 1
        await self.outbox.send(message)

    async def send_packed(self, packed: Packed[Message]) -> None:
        self._responses += 1
        await self.outbox.send_data(packed.data)

    async def handle(self) -> None:
        """Read the only request if there is but one, then run the handler."""
        if not self._method.cardinality.client_streaming:
            self._only_request = await self._next_request()
            if self._only_request is None:
                raise InvalidArgumentError("the call carries no request message")
            if await self._next_request() is not None:
                raise InvalidArgumentError("the call carries more than one request message")
        if self._registration.unary is not None:
            response = await self._registration.unary(await self.receive(), self.peer)
            assert isinstance(response, self._method.response_type), "the handler's answer"
            await self.send(response)
            return
        assert self._registration.stream is not None, "a registration has a handler"
        await self._registration.stream(self)
        if not self._method.cardinality.server_streaming and self._responses != 1:
            raise InternalError("the handler did not answer")

    async def _next_request(self) -> Message | None:
        data = await self.inbox.receive()
        return None if data is None else parse(self._method.request_type, data)

    def finish(self, error: MetropolisError | None) -> None:
        """Tell the caller how it ended."""
        trailers = SUCCESS if error is None else dict(to_trailers(error))
        self._end.send(frames.Finish(call_id=self._call_id, trailers=trailers))

    def abandon(self) -> None:
        """Stop: the caller is gone, or the server ends."""
        self.is_abandoned = True
        gone = CancelledCallError("the caller has gone")
        self.inbox.end(gone, is_urgent=True)
        self.outbox.fail(gone)
        if self.task is not None:
            self.task.cancel()


@final
class _Session:
    """The server's side of one connection."""

    def __init__(self, server: "MemoryServer", end: End, certificate: bytes | None) -> None:
        self._server = server
        self._certificate = certificate
        self._calls: dict[int, _Call] = {}
        self.end = end
        self.peers: list[Peer] = []
        end.on_frame = self._take
        end.on_lost = self._lost

    def close(self) -> None:
        """Close hard."""
        self.end.close()
        self._lost("")

    def _take(self, frame: frames.Frame) -> None:
        if isinstance(frame, frames.Open):
            self._begin(frame)
            return
        assert not isinstance(frame, frames.Goodbye), "connections keep goodbyes to themselves"
        call = self._calls.get(frame.call_id)
        if call is None:
            return  # it has ended
        if isinstance(frame, frames.Message):
            if len(frame.data) > MESSAGE_BYTES_MAX:
                call.inbox.end(too_large(len(frame.data)), is_urgent=True)
            else:
                call.inbox.put(frame)
        elif isinstance(frame, frames.HalfClose):
            call.inbox.end()
        elif isinstance(frame, frames.Cancel):
            call.abandon()

    def _begin(self, frame: frames.Open) -> None:
        try:
            registration, peer = self._server.admit(
                frame.path, self._certificate, self.end.far_address
            )
        except Exception as error:  # noqa: BLE001  # a broken authenticator answers, too
            answer = self._server.answer(error, frame.path)
            trailers = dict(to_trailers(answer))
            self.end.send(frames.Finish(call_id=frame.call_id, trailers=trailers))
            return
        if peer not in self.peers:
            self.peers.append(peer)
        call = _Call(registration, peer, self.end, frame.call_id)
        self._calls[frame.call_id] = call
        call.task = self._server.start(
            self._run(call, frame), name=f"{frame.path} from {self.end.far_address}"
        )
        call.task.add_done_callback(partial(self._ended, frame.call_id))

    async def _run(self, call: _Call, frame: frames.Open) -> None:
        patience = asyncio.timeout(frame.timeout_s)
        try:
            async with patience:
                await call.handle()
        except asyncio.CancelledError:
            if not call.is_abandoned:
                call.finish(CancelledCallError("the handler was cancelled"))
            raise
        except TimeoutError as error:
            late = DeadlineExceededError(
                f"{frame.path} took longer than the caller's deadline",
                remedy="Retry with a longer timeout.",
            )
            call.finish(late if patience.expired() else self._server.answer(error, frame.path))
        except Exception as error:  # noqa: BLE001  # whatever it was, the caller gets an answer
            call.finish(self._server.answer(error, frame.path))
        else:
            call.finish(None)

    def _ended(self, call_id: int, _task: asyncio.Task[None]) -> None:
        self._calls.pop(call_id, None)

    def _lost(self, _reason: str) -> None:
        self._server.drop(self)
        for call in [*self._calls.values()]:
            call.abandon()


@final
class MemoryServer:
    """A running server. See `metropolis.rpc.transport.Server`."""

    def __init__(
        self,
        network: MemoryNetwork,
        *,
        certificate: bytes,
        services: Services,
        authenticator: Authenticator,
    ) -> None:
        self.certificate = certificate
        self._network = network
        self._services = services
        self._authenticator = authenticator
        self._sessions: dict[_Session, None] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._context = copy_context()
        self._address = ""
        self._endpoint = Endpoint("", 0)

    @property
    def endpoint(self) -> Endpoint:
        return self._endpoint

    def disconnect(self, is_unwanted: Callable[[Peer], bool]) -> int:
        unwanted = [
            session
            for session in self._sessions
            if any(is_unwanted(peer) for peer in session.peers)
        ]
        for session in unwanted:
            session.close()
        return len(unwanted)

    def bind(self, address: str, endpoint: Endpoint) -> None:
        """Listen until `close`."""
        self._endpoint = self._network.bind(address, endpoint, self)
        self._address = address

    async def close(self) -> None:
        """Stop listening, close every connection hard, wait for the handlers to end."""
        self._network.unbind(self._address, self._endpoint, self)
        for session in [*self._sessions]:
            session.close()
        while self._tasks:
            await asyncio.wait([*self._tasks])

    def accept(self, connection: Connection, certificate: bytes | None) -> None:
        """Take a connection, unless TLS would not: see `metropolis.rpc.tls`."""
        if certificate is not None and not self._passes(certificate):
            connection.server.close()
            return
        self._sessions[_Session(self, connection.server, certificate)] = None

    def _passes(self, certificate: bytes) -> bool:
        """A client certificate is self-signed, or signed by the CA that is known by now."""
        if self_signed_key(certificate) is not None:
            return True
        ca = self._authenticator.ca_certificate
        if ca is None:
            return False
        try:
            verify_signed_by(certificate, ca)
        except MetropolisError:
            return False
        return True

    def admit(
        self, path: str, certificate: bytes | None, address: str
    ) -> tuple[Registration, Peer]:
        """Find the method and judge the caller.

        Raises:
            UnimplementedError: there is no such method.
            MetropolisError: the authenticator refused.
        """
        registration = self._services.by_path.get(path)
        if registration is None:
            raise UnimplementedError(
                f"this server does not offer {path[:200]}",
                remedy="Check the address, the TCP port and the versions.",
            )
        peer = self._authenticator.authenticate(registration.method, certificate, address)
        return registration, peer

    def answer(self, error: Exception, path: str) -> MetropolisError:
        """Choose what a caller is told, and report what is a bug."""
        report = self._network.report_bug
        if report is not None and not all(
            isinstance(leaf, MetropolisError) for leaf in leaves(error)
        ):
            report(error)
        return to_answer(error, path)

    def start(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Run a handler; the server ends only after it."""
        # In the server's context: the frame that asks for it arrives in its sender's.
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(
            work, name=name, context=self._context.copy()
        )
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)
        return task

    def drop(self, session: _Session) -> None:
        """Forget a connection that is over."""
        self._sessions.pop(session, None)
