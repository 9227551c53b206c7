# SPDX-License-Identifier: Apache-2.0
"""A connection to one cluster as its owner or a user: the leader, and single nodes."""

import asyncio
import ipaddress
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from metropolis.api import curator_pb2
from metropolis.api.management_pb2 import Node
from metropolis.api.rpc_curator import CuratorLocal
from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError, MetropolisError
from metropolis.base.ids import parse_node_id
from metropolis.base.ports import CURATOR_TCP_PORT, NODE_MANAGEMENT_TCP_PORT
from metropolis.ctl import credentials as owner
from metropolis.ctl.contexts import Context
from metropolis.ctl.user_credentials import shown_credentials
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.pki.credentials import Credentials
from metropolis.pki.identity import server_verifier
from metropolis.rpc.channel import Channel
from metropolis.rpc.grpc import GrpcTransport
from metropolis.rpc.resolver import ClusterChannel
from metropolis.rpc.transport import Endpoint, ServerVerifier, Transport

TIMEOUT_S: Final = 15.0  # of one call, finding the leader included
HEAD_START_S: Final = 0.25  # that every endpoint has before the next one is asked, too
log: Final = logging.getLogger("metropolis.ctl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """An open connection.

    Attributes:
        channel: To the leader; follows it.
        ca: DER of the cluster's CA.
        timeout_s: Of each call.
        proxy: `host:port` of the SOCKS5 proxy that leads to the nodes, or None.
    """

    channel: Channel
    transport: Transport
    credentials: Credentials
    ca: bytes
    timeout_s: float = TIMEOUT_S
    proxy: str | None = None

    @asynccontextmanager
    async def dial_node(
        self, node: Node, tcp_port: int = NODE_MANAGEMENT_TCP_PORT
    ) -> AsyncGenerator[Channel, None]:
        """Open a channel to what one node serves about itself; no other node will do.

        Raises:
            FailedPreconditionError: the node never reported an address.
        """
        channel = self.transport.dial(
            Endpoint(address_of(node), tcp_port),
            credentials=self.credentials,
            verify=server_verifier(self.ca, parse_node_id(node.id)),
        )
        try:
            yield channel
        finally:
            await channel.close()


@asynccontextmanager
async def connect(
    context: Context,
    *,
    transport: Transport | None = None,
    timeout_s: float = TIMEOUT_S,
    follows_members: bool = False,
) -> AsyncGenerator[Cluster, None]:
    """Connect as the owner or user of a context, through whichever endpoint answers first.

    Args:
        follows_members: Whether to learn from the cluster where else it can be asked: for
            connections that may outlive the endpoints they were begun with.

    Raises:
        FailedPreconditionError: no endpoint is known, or there is no certificate.
        InvalidArgumentError: a file of the context, or an endpoint, is something else.
    """
    seeds = endpoints_of(context)
    credentials = shown_credentials(context)
    ca = owner.read_ca(context)
    if ca is None:
        raise owner.not_owner(context)
    transport = transport or make_transport(context)
    verify = server_verifier(ca)
    async with ClusterChannel(
        transport,
        await _answering_first(seeds, transport, credentials, verify, timeout_s),
        credentials=credentials,
        verify=verify,
        rng=LinuxEntropy().jitter(),
        follows_members=follows_members,
        log=log,
    ) as channel:
        yield Cluster(
            channel=channel,
            transport=transport,
            credentials=credentials,
            ca=ca,
            timeout_s=timeout_s,
            proxy=context.proxy,
        )


async def _answering_first(
    seeds: Sequence[Endpoint],
    transport: Transport,
    credentials: Credentials,
    verify: ServerVerifier,
    timeout_s: float,
) -> Sequence[Endpoint]:
    """Put the endpoint that answers first in front: a machine that is off answers nothing at all.

    Where nobody answers the order stays, and finding the leader says what is wrong.
    """
    if len(seeds) == 1:
        return seeds
    winners: list[Endpoint] = []
    racers: list[asyncio.Task[None]] = []

    async def ask(endpoint: Endpoint, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        channel = transport.dial(endpoint, credentials=credentials, verify=verify)
        request = curator_pb2.GetCACertificateRequest()
        try:
            await channel.call(CuratorLocal.GET_CA_CERTIFICATE, request, timeout_s=timeout_s)
        except MetropolisError:
            return
        finally:
            await channel.close()
        winners.append(endpoint)
        for racer in racers:
            if racer is not asyncio.current_task():
                racer.cancel()

    async with asyncio.TaskGroup() as race:
        for number, seed in enumerate(seeds):
            racers.append(race.create_task(ask(seed, number * HEAD_START_S)))
    return [*winners[:1], *(seed for seed in seeds if seed not in winners[:1])]


def make_transport(context: Context) -> Transport:
    """Return what dials the nodes of a context."""
    return GrpcTransport(proxy=context.proxy)


def endpoints_of(context: Context) -> Sequence[Endpoint]:
    """Return where to look for the leader.

    Raises:
        FailedPreconditionError: nowhere.
        InvalidArgumentError: an endpoint is not a host.
    """
    if not context.endpoints:
        raise FailedPreconditionError(
            "no address of the cluster is known",
            remedy="Give the address of any of its nodes with --endpoints.",
        )
    return [Endpoint(parse_host(text), CURATOR_TCP_PORT) for text in context.endpoints]


def parse_host(text: str) -> str:
    """Understand a host as given with --endpoints: an address or a name, without port.

    Raises:
        InvalidArgumentError: it is something else.
    """
    host = text.strip()
    bare = host.removeprefix("[").removesuffix("]")
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        pass
    name, colon, port = host.rpartition(":")
    if colon and port.isdigit():
        raise InvalidArgumentError(
            f"{text[:64]!r} has a port, but the ports of a node are fixed",
            remedy=f"Give the host alone: {name}",
        )
    if not host or len(host) > 253 or not all(char.isalnum() or char in ".-_" for char in host):  # noqa: PLR2004  # RFC 1035
        raise InvalidArgumentError(
            f"{text[:64]!r} is not a host",
            remedy="Give the IP address or the name of a node.",
        )
    return host


def address_of(node: Node) -> str:
    """Return where a node can be reached.

    Raises:
        FailedPreconditionError: it never told.
    """
    if not node.status.external_address:
        raise FailedPreconditionError(
            f"node {node.id} has no external address: it has not reported any yet",
            remedy=f"Run `metroctl explain {node.id}` to see what it waits for.",
        )
    return node.status.external_address
