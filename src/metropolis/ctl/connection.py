# SPDX-License-Identifier: Apache-2.0
"""A connection to one cluster as its owner: the leader, wherever it is, and single nodes."""

import ipaddress
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from metropolis.api.management_pb2 import Node
from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError
from metropolis.base.ids import parse_node_id
from metropolis.base.ports import CURATOR_TCP_PORT, NODE_MANAGEMENT_TCP_PORT
from metropolis.ctl import credentials as owner
from metropolis.ctl.contexts import Context
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.pki.credentials import Credentials
from metropolis.pki.identity import server_verifier
from metropolis.rpc.channel import Channel
from metropolis.rpc.grpc import GrpcTransport
from metropolis.rpc.resolver import ClusterChannel
from metropolis.rpc.transport import Endpoint, Transport

TIMEOUT_S: Final = 15.0  # of one call, finding the leader included
log: Final = logging.getLogger("metropolis.ctl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """An open connection.

    Attributes:
        channel: To the leader; follows it.
        ca: DER of the cluster's CA.
        timeout_s: Of each call.
    """

    channel: Channel
    transport: Transport
    credentials: Credentials
    ca: bytes
    timeout_s: float = TIMEOUT_S

    @asynccontextmanager
    async def dial_node(
        self, node: Node, tcp_port: int = NODE_MANAGEMENT_TCP_PORT
    ) -> AsyncIterator[Channel]:
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
    context: Context, *, transport: Transport | None = None, timeout_s: float = TIMEOUT_S
) -> AsyncIterator[Cluster]:
    """Connect as the owner. Nothing is sent before the first call.

    Raises:
        FailedPreconditionError: no endpoint is known, or ownership was not taken.
        InvalidArgumentError: a file of the context, or an endpoint, is something else.
    """
    seeds = endpoints_of(context)
    credentials = owner.owner_credentials(context)
    ca = owner.read_ca(context)
    if ca is None:
        raise owner.not_owner(context)
    transport = transport or make_transport(context)
    async with ClusterChannel(
        transport,
        seeds,
        credentials=credentials,
        verify=server_verifier(ca),
        rng=LinuxEntropy().jitter(),
        follows_members=False,
        log=log,
    ) as channel:
        yield Cluster(
            channel=channel,
            transport=transport,
            credentials=credentials,
            ca=ca,
            timeout_s=timeout_s,
        )


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
