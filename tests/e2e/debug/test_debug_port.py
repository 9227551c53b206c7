# SPDX-License-Identifier: Apache-2.0
"""Port 7837: closed on a release image, whatever one asks; on a debug image only for the owner."""

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from e2e.cluster.site import Site, unlaunched_site
from e2e.debug import debug_node
from metropolis.api import debug_pb2
from metropolis.api.management_pb2 import LogsRequest
from metropolis.api.rpc_debug import NodeDebugService
from metropolis.base.errors import (
    InvalidArgumentError,
    MetropolisError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
)
from metropolis.base.ids import parse_node_id
from metropolis.base.ports import NODE_DEBUG_TCP_PORT
from metropolis.ctl import nodes
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.pki.certificates import issue_ephemeral
from metropolis.pki.credentials import Credentials
from metropolis.pki.identity import server_verifier
from metropolis.pki.keys import generate_key
from metropolis.rpc.channel import Channel
from metropolis.rpc.status import NotReachedError
from metropolis.rpc.transport import Endpoint

WARNING = "THIS IS A DEBUG IMAGE"


def site_of(path: Path, variant: str) -> Iterator[Site]:
    info = path / "product-info.json"
    info.write_text(json.dumps({"version": "0.0.1", "variant": variant}))
    program = (sys.executable, debug_node.__file__, str(info))
    with unlaunched_site(path, count=1, program=program) as site:

        async def scenario() -> None:
            await site.launch().run()

        site.run(scenario)
        yield site


@pytest.fixture(scope="module")
def debug_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from site_of(tmp_path_factory.mktemp("debug"), "x86_64-debug")


@pytest.fixture(scope="module")
def release_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from site_of(tmp_path_factory.mktemp("release"), "x86_64")


@asynccontextmanager
async def dialled(site: Site, credentials: Credentials | None = None) -> AsyncIterator[Channel]:
    """Dial the debug port, as the owner unless told otherwise."""
    async with site.operator() as cluster:
        (node,) = await nodes.list_nodes(cluster.channel)
        channel = cluster.transport.dial(
            Endpoint(node.status.external_address, NODE_DEBUG_TCP_PORT),
            credentials=credentials or cluster.credentials,
            verify=server_verifier(cluster.ca, parse_node_id(node.id)),
        )
        try:
            yield channel
        finally:
            await channel.close()


async def read_log(channel: Channel) -> int:
    """Read the log; return how many entries came."""
    request = LogsRequest(
        backlog_mode=LogsRequest.BACKLOG_MODE_ALL, stream_mode=LogsRequest.STREAM_MODE_DISABLE
    )
    request.filters.add().with_children.SetInParent()
    count = 0
    async with channel.open(NodeDebugService.LOGS) as stream:
        await stream.send(request)
        await stream.end()
        while (response := await stream.receive()) is not None:
            count += len(response.backlog_entries)
    return count


async def trace(channel: Channel, tracer: str) -> None:
    async with channel.open(NodeDebugService.TRACE, timeout_s=5) as stream:
        await stream.send(debug_pb2.TraceRequest(tracer=tracer))
        await stream.end()
        await stream.receive()


async def load_image(channel: Channel) -> None:
    async with channel.open(NodeDebugService.LOAD_IMAGE) as stream:
        await stream.send(debug_pb2.ImagePart(data_part=b"x"))
        await stream.end()
        await stream.receive()


def run(site: Site, act: Callable[[Channel], Awaitable[None]]) -> None:
    async def scenario() -> None:
        async with dialled(site) as channel:
            await act(channel)

    site.run(scenario)


@pytest.mark.timeout(120)
def test_a_release_image_answers_nothing_there(release_site: Site) -> None:
    async def act(channel: Channel) -> None:
        with pytest.raises(NotReachedError, match="refused"):
            await read_log(channel)

    run(release_site, act)
    assert WARNING not in release_site.printed(0)


@pytest.mark.timeout(120)
def test_the_owner_reads_the_log_of_a_debug_image(debug_site: Site) -> None:
    async def act(channel: Channel) -> None:
        assert await read_log(channel) > 50

    run(debug_site, act)
    assert WARNING in debug_site.printed(0)


def test_nobody_else_does(debug_site: Site) -> None:
    async def scenario() -> None:
        key = generate_key(LinuxEntropy())
        stranger = Credentials(certificate=issue_ephemeral(key), key=key)
        async with dialled(debug_site, stranger) as channel:
            with pytest.raises(UnauthenticatedError):
                await read_log(channel)

    debug_site.run(scenario)


def test_what_needs_kubernetes_is_refused_truthfully(debug_site: Site) -> None:
    async def act(channel: Channel) -> None:
        with pytest.raises(UnimplementedError, match="there is no Kubernetes in this build"):
            await channel.call(
                NodeDebugService.GET_DEBUG_KUBECONFIG,
                debug_pb2.GetDebugKubeconfigRequest(id="somebody"),
            )
        with pytest.raises(UnimplementedError, match="there is no Kubernetes in this build"):
            await load_image(channel)

    run(debug_site, act)


def test_a_trace_that_cannot_be_says_why_and_harms_nobody(debug_site: Site) -> None:
    async def act(channel: Channel) -> None:
        with pytest.raises(InvalidArgumentError):
            await trace(channel, "../../etc/shadow")
        with pytest.raises(MetropolisError) as refused:  # nodes of the lab may not trace the host
            await trace(channel, "no_such_tracer")
        assert not isinstance(refused.value, UnavailableError)
        assert await read_log(channel) > 50

    run(debug_site, act)
