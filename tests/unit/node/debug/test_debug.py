# SPDX-License-Identifier: Apache-2.0
"""The debug service: who is admitted, which names reach the kernel, what is refused truthfully."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from metropolis.api.debug_pb2 import TraceEvent, TraceRequest
from metropolis.api.rpc_debug import NodeDebugService
from metropolis.base.errors import (
    AbortedError,
    InvalidArgumentError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from metropolis.host.sim.clock import SimClock
from metropolis.host.sim.entropy import SimEntropy
from metropolis.node.debug.admission import OnlyOwner
from metropolis.node.debug.service import FUNCTIONS_MAX, DebugService
from metropolis.node.product import debug_edges, read_product_info
from metropolis.pki import certificates
from metropolis.pki.certificates import FOREVER, OWNER
from metropolis.pki.keys import generate_key, raw_public_key
from metropolis.rpc.authentication import EVERYTHING, PolicyAuthenticator
from metropolis.rpc.channel import Packed
from metropolis.rpc.peer import Peer, PeerKind
from metropolis.sim import simulate
from metropolis.supervision import LogTree

KEYS = [generate_key(SimEntropy(number)) for number in range(4)]
CA = certificates.issue_cluster_ca(KEYS[0], serial=1)
OWNERS = certificates.issue_user(CA, raw_public_key(KEYS[1]), identity=OWNER, serial=2)
ANNS = certificates.issue_user(
    CA, raw_public_key(KEYS[2]), identity="ann", serial=3, validity=FOREVER
)
NODES = certificates.issue_node(CA, raw_public_key(KEYS[3]), serial=4)


def admit(certificate: bytes | None, *, revoked: str | None = None) -> Peer:
    async def judged() -> Peer:
        judge = PolicyAuthenticator(
            ca_certificate=lambda: CA.certificate,
            clock=SimClock(),
            revoked=lambda _peer: revoked,
            grants=lambda _peer: EVERYTHING,
        )
        return OnlyOwner(judge).authenticate(NodeDebugService.TRACE, certificate, "10.0.0.1")

    return simulate(judged, seed=1)


def test_the_owner_is_admitted() -> None:
    assert (admit(OWNERS).kind, admit(OWNERS).identity) == (PeerKind.USER, OWNER)


@pytest.mark.parametrize(
    "certificate", [ANNS, NODES], ids=["a user with every permission", "a node"]
)
def test_other_members_are_not(certificate: bytes) -> None:
    with pytest.raises(PermissionDeniedError, match="only the owner may debug a node"):
        admit(certificate)


@pytest.mark.parametrize(
    "certificate", [None, certificates.issue_ephemeral(KEYS[1])], ids=["nobody", "a bare key"]
)
def test_nobody_else_is_either(certificate: bytes | None) -> None:
    with pytest.raises(UnauthenticatedError):
        admit(certificate)


def test_nor_is_an_owner_whose_key_was_replaced() -> None:
    with pytest.raises(UnauthenticatedError, match="replaced"):
        admit(OWNERS, revoked="the owner's key was replaced")


class Tracer:
    """Writes three lines, then nothing more."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[str], list[str]]] = []
        self.traces = 0  # that go on
        self.silent = asyncio.Event()

    @asynccontextmanager
    async def trace(
        self, tracer: str, *, functions: Sequence[str], graph_functions: Sequence[str]
    ) -> AsyncIterator[AsyncIterator[str]]:
        self.asked.append((tracer, list(functions), list(graph_functions)))
        self.traces += 1
        try:
            yield self._lines()
        finally:
            self.traces -= 1
            self.silent.clear()

    async def _lines(self) -> AsyncIterator[str]:
        for number in range(3):
            yield f"line {number}"
        self.silent.set()
        await asyncio.Event().wait()


class Call:
    """A caller of Trace."""

    def __init__(self, request: TraceRequest) -> None:
        self._request = request
        self.lines: list[str] = []
        self.peer = Peer(kind=PeerKind.USER, identity=OWNER)

    async def receive(self) -> TraceRequest | None:
        return self._request

    async def send(self, message: TraceEvent) -> None:
        self.lines.append(message.raw_line)

    async def send_packed(self, packed: Packed[TraceEvent]) -> None:
        raise AssertionError(packed)


def service(tracer: Tracer) -> DebugService:
    return DebugService(tracer, LogTree(clock=SimClock()).leveled("debug"))


def test_a_trace_is_streamed_until_the_caller_leaves_and_ends_then() -> None:
    async def scenario() -> None:
        tracer = Tracer()
        debug = service(tracer)
        request = TraceRequest(
            tracer="function_graph", function_filter=["vfs_read"], graph_function_filter=["do_x"]
        )
        for number in (1, 2):  # when one has ended, there may be another
            call = Call(request)
            async with asyncio.TaskGroup() as group:
                tracing = group.create_task(debug.trace(call))
                await tracer.silent.wait()
                assert (call.lines, tracer.traces) == (["line 0", "line 1", "line 2"], 1)
                with pytest.raises(AbortedError):
                    await debug.trace(Call(request))
                tracing.cancel()
            assert tracer.traces == 0
            assert tracer.asked == [("function_graph", ["vfs_read"], ["do_x"])] * number

    simulate(scenario, seed=2)


@pytest.mark.parametrize(
    "request_",
    [
        TraceRequest(tracer=""),
        TraceRequest(tracer="function\nnop"),
        TraceRequest(tracer="../trace"),
        TraceRequest(tracer="Function"),
        TraceRequest(tracer="nop", function_filter=["*"]),
        TraceRequest(tracer="nop", function_filter=["ok", "a b"]),
        TraceRequest(tracer="nop", graph_function_filter=["x" * 129]),
        TraceRequest(tracer="nop", function_filter=["x"] * FUNCTIONS_MAX),
    ],
)
def test_no_other_name_reaches_the_kernel(request_: TraceRequest) -> None:
    async def scenario() -> None:
        tracer = Tracer()
        with pytest.raises(InvalidArgumentError):
            await service(tracer).trace(Call(request_))
        assert tracer.asked == []

    simulate(scenario, seed=3)


@pytest.mark.parametrize(
    ("variant", "is_debug"),
    [("x86_64", False), ("x86_64-debug", True), ("debug", False), ("x86_64-debugger", False)],
)
def test_only_an_image_that_calls_itself_so_is_a_debug_image(
    variant: str, is_debug: bool, tmp_path: Path
) -> None:
    path = tmp_path / "product-info.json"
    path.write_text(json.dumps({"version": "1.2.3", "variant": variant, "id": "x"}))
    product = read_product_info(path)
    assert product is not None
    assert (product.version, product.variant) == ("1.2.3", variant)
    assert (debug_edges(product) is not None) is is_debug


@pytest.mark.parametrize("text", [None, "", "[]", "{}", "\xff", '{"variant": "x-debug"}'])
def test_what_says_nothing_is_no_debug_image(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "product-info.json"
    if text is not None:
        path.write_text(text, encoding="latin-1")
    assert read_product_info(path) is None
    assert debug_edges(None) is None
