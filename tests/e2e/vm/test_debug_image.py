# SPDX-License-Identifier: Apache-2.0
"""A machine with a debug image: its owner traces the real kernel, and hears what that refuses."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from e2e.vm.machines import Trio, launched
from metropolis.api import debug_pb2
from metropolis.api.rpc_debug import NodeDebugService
from metropolis.base.errors import (
    AbortedError,
    FailedPreconditionError,
    InvalidArgumentError,
    UnauthenticatedError,
    UnimplementedError,
)
from metropolis.base.ids import parse_node_id
from metropolis.base.ports import NODE_DEBUG_TCP_PORT
from metropolis.host.linux.debian.checkout import checkout_fetcher, project_root
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.image.build import BuildRequest, build_image
from metropolis.image.keys import default_key_directory
from metropolis.pki.certificates import issue_ephemeral
from metropolis.pki.credentials import Credentials
from metropolis.pki.identity import server_verifier
from metropolis.pki.keys import generate_key
from metropolis.rpc.channel import Channel
from metropolis.rpc.transport import Endpoint

pytestmark = [pytest.mark.timeout(600), pytest.mark.trio]

LOOK_AGAIN_S = 0.2
TRACE_S = 60.0  # to change the kernel's code takes an emulated processor seconds
OFTEN_CALLED = "vfs_read"


@pytest.fixture(scope="module")
def debug_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place, root = tmp_path_factory.mktemp("debug") / "image", project_root()
    build_image(
        BuildRequest(
            checkout=root,
            output=place,
            cache=root / ".cache" / "image",
            keys=default_key_directory(os.environ),
            is_debug=True,
            fetcher=checkout_fetcher(os.environ, say=lambda _: None),
            say=lambda _: None,
        )
    )
    return place


@pytest.fixture(scope="module")
def one(debug_image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trio]:
    with launched(tmp_path_factory.mktemp("one"), debug_image, count=1) as made:
        yield made


@asynccontextmanager
async def dialled(one: Trio, credentials: Credentials | None = None) -> AsyncIterator[Channel]:
    """Dial the debug port, as the owner unless told otherwise."""
    node = (await one.nodes())[0]
    async with one.connected() as cluster:
        channel = cluster.transport.dial(
            Endpoint(node.status.external_address, NODE_DEBUG_TCP_PORT),
            credentials=credentials or cluster.credentials,
            verify=server_verifier(cluster.ca, parse_node_id(node.id)),
        )
        try:
            yield channel
        finally:
            await channel.close()


async def traced(channel: Channel, tracer: str, functions: Sequence[str] = ()) -> str:
    """Trace until a line has come that tells of a call."""
    request = debug_pb2.TraceRequest(tracer=tracer, function_filter=functions)
    async with channel.open(NodeDebugService.TRACE, timeout_s=TRACE_S) as stream:
        await stream.send(request)
        await stream.end()
        while (event := await stream.receive()) is not None:
            if OFTEN_CALLED in event.raw_line:
                return event.raw_line
    raise AssertionError("the trace ended by itself")


async def nobody_traces(channel: Channel) -> None:
    """Wait until the trace before is over: the kernel needs a moment to undo what it changed."""
    async with asyncio.timeout(TRACE_S):
        while True:
            try:
                await traced(channel, "telepathy")
            except AbortedError:
                await asyncio.sleep(LOOK_AGAIN_S)
            except FailedPreconditionError:
                return


def test_the_owner_traces_the_kernel_and_it_is_off_afterwards(one: Trio) -> None:
    async def scenario() -> None:
        async with dialled(one) as channel:
            for tracer in ("function", "function_graph"):
                await nobody_traces(channel)
                assert OFTEN_CALLED in await traced(channel, tracer, [OFTEN_CALLED])

    asyncio.run(scenario())


def test_what_the_kernel_refuses_is_told_and_leaves_nothing_on(one: Trio) -> None:
    async def scenario() -> None:
        async with dialled(one) as channel:
            await nobody_traces(channel)
            with pytest.raises(FailedPreconditionError, match="no tracer telepathy") as unknown:
                await traced(channel, "telepathy")
            assert "function_graph" in unknown.value.remedy
            refusal = "refuses 'no_such_function' in set_ftrace_filter: Invalid argument"
            with pytest.raises(FailedPreconditionError, match=refusal):
                await traced(channel, "function", ["no_such_function"])
            with pytest.raises(InvalidArgumentError, match="no name of a tracer or function"):
                await traced(channel, "function", ["vfs_read; echo"])
            assert await traced(channel, "function", [OFTEN_CALLED])

    asyncio.run(scenario())


def test_one_trace_at_a_time_and_only_the_owners(one: Trio) -> None:
    async def scenario() -> None:
        key = generate_key(LinuxEntropy())
        stranger = Credentials(certificate=issue_ephemeral(key), key=key)
        async with dialled(one, stranger) as channel:
            with pytest.raises(UnauthenticatedError):
                await traced(channel, "function", [OFTEN_CALLED])
        request = debug_pb2.TraceRequest(tracer="function", function_filter=[OFTEN_CALLED])
        async with dialled(one) as channel:
            await nobody_traces(channel)
            async with channel.open(NodeDebugService.TRACE, timeout_s=TRACE_S) as stream:
                await stream.send(request)
                await stream.end()
                assert await stream.receive() is not None
                with pytest.raises(AbortedError, match="somebody traces already"):
                    await traced(channel, "function", [OFTEN_CALLED])
            async with channel.open(NodeDebugService.LOAD_IMAGE) as stream_of_parts:
                await stream_of_parts.send(debug_pb2.ImagePart(data_part=b"x"))
                await stream_of_parts.end()
                with pytest.raises(UnimplementedError):
                    await stream_of_parts.receive()

    asyncio.run(scenario())
