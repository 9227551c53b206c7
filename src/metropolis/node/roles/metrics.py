# SPDX-License-Identifier: Apache-2.0
"""Port 7840: figures for Prometheus, out of the values that the parts of this room share."""

import asyncio
from collections.abc import Mapping
from math import isfinite

from metropolis.api import common_pb2, curator_pb2
from metropolis.base.ports import METRICS_TCP_PORT
from metropolis.node.identity import NodeIdentity
from metropolis.node.metrics.edges import MetricsEdges
from metropolis.node.metrics.figures import ClusterView, CoreSources
from metropolis.node.metrics.gateway import Gateway
from metropolis.node.metrics.process import started_s
from metropolis.node.roles.access import recall_owner_key
from metropolis.node.roles.edges import RoleEdges
from metropolis.node.version import product_version
from metropolis.rpc.authentication import PolicyAuthenticator
from metropolis.rpc.transport import Endpoint
from metropolis.supervision import Context


async def metrics(ctx: Context, *, edges: RoleEdges, outside: MetricsEdges) -> None:
    """Answer scrapes while this runnable lives."""
    identity = await edges.wait_identity()
    await recall_owner_key(edges)
    milestones: dict[str, float] = {}
    clock = edges.host.clock
    sources = CoreSources(
        node_id=identity.node_id,
        version=_version(edges),
        edges=outside,
        clock=clock,
        storage=edges.host.storage,
        consensus=lambda: edges.consensus.current,
        view=lambda: _view(edges, identity),
        milestones=milestones,
    )
    gateway = Gateway(
        sources,
        authenticator=PolicyAuthenticator(
            ca_certificate=lambda: identity.ca_certificate,
            clock=clock,
            revoked=edges.access.revoked,
            grants=edges.access.grants,
        ),
        nodes=lambda: _told(edges),
    )
    async with outside.serve(
        Endpoint(edges.host.addresses[0], METRICS_TCP_PORT),
        credentials=identity.credentials,
        trusted_ca=lambda: identity.ca_certificate,
        answer=gateway.answer,
    ):
        ctx.healthy()
        await _note_milestones(edges, outside, milestones)
        await ctx.wait_cancelled()


def _told(edges: RoleEdges) -> Mapping[str, curator_pb2.Node] | None:
    return None if edges.consensus.current is None else edges.nodes.current


def _view(edges: RoleEdges, identity: NodeIdentity) -> ClusterView:
    connection = edges.connection.current
    leader_id = "" if connection is None else connection.channel.leader_id
    silence_s = edges.access.silence_s
    beat_s = edges.heartbeat_s.current
    certificates = {
        "node": identity.credentials.certificate,
        "cluster_ca": identity.ca_certificate,
    }
    intent = edges.intent.current if edges.intent.is_set else None
    if intent is not None and intent.role.peer_certificate:
        certificates["etcd_peer"] = intent.role.peer_certificate
    return ClusterView(
        leads=leader_id == identity.node_id,
        knows_leader=bool(leader_id),
        leader_silence_s=silence_s if isfinite(silence_s) else None,
        heartbeat_age_s=None if beat_s is None else edges.host.clock.monotonic_s() - beat_s,
        roles=edges.roles.current or common_pb2.NodeRoles(),
        nodes=edges.nodes.current or {},
        certificates=certificates,
    )


async def _note_milestones(
    edges: RoleEdges, outside: MetricsEdges, reached: dict[str, float]
) -> None:
    """Write down when each step of the start was reached first."""
    try:
        began_s = started_s(outside.kernel)
    except OSError:
        return

    def note(name: str) -> None:
        reached.setdefault(name, max(0.0, edges.host.clock.monotonic_s() - began_s))

    async def connected() -> None:
        await edges.connection.wait_for(lambda now: now is not None)
        note("connected")

    async def consensus() -> None:
        await edges.consensus.wait_for(lambda now: now is not None)
        note("consensus")

    async def heard() -> None:
        await edges.heartbeat_s.wait_for(lambda now: now is not None)
        note("heard")

    note("enrolled")
    async with asyncio.TaskGroup() as group:
        for step in (connected, consensus, heard):
            group.create_task(step())


def _version(edges: RoleEdges) -> str:
    release = product_version(edges.product).release
    return f"{release.major}.{release.minor}.{release.patch}"
