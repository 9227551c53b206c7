# SPDX-License-Identifier: Apache-2.0
"""Health of nodes across leaders, on real control planes: nobody blamed, nothing forgotten."""

import asyncio
from contextlib import suppress

import pytest

from contract.cluster.rack import Rack, Site, run, three_members
from metropolis.api import curator_pb2 as curator_api
from metropolis.api.management_pb2 import Node
from metropolis.api.rpc_curator import Curator
from metropolis.base.errors import MetropolisError

SILENT_S = 30.0  # until a leader has noticed, and has left its note


async def beating(made: Rack, site: Site) -> None:
    """Beat as a node does, at whoever leads."""
    turn = 0
    while True:
        target = made.sites[turn % len(made.sites)]
        turn += 1
        with suppress(MetropolisError, TimeoutError):
            channel = made.dial(target, site.credentials, address=site.address)
            async with channel.open(Curator.HEARTBEAT) as call:
                while True:
                    await call.send(curator_api.HeartbeatRequest())
                    async with asyncio.timeout(5):
                        assert await call.receive() is not None
                    await asyncio.sleep(5)
        await asyncio.sleep(1)


@pytest.mark.parametrize("seed", range(5))
def test_who_beats_is_never_blamed_and_who_was_silent_stays_so(seed: int) -> None:
    async def scenario(made: Rack) -> None:
        first, second, third = await three_members(made)
        silent = await made.enrol(first)
        beats = [made.group.create_task(beating(made, site)) for site in (second, third)]
        await asyncio.sleep(SILENT_S)
        before = {node.id: node.health for node in await made.list(first)}
        assert before[silent.node_id] == Node.HEALTH_HEARTBEAT_TIMEOUT
        assert before[second.node_id] == before[third.node_id] == Node.HEALTH_HEALTHY
        await made.kill(first)
        leader = await made.leader_among(second, third)
        for _ in range(30):
            shown = {node.id: node.health for node in await made.list(leader)}
            assert shown[silent.node_id] == Node.HEALTH_HEARTBEAT_TIMEOUT
            for site in (second, third):
                assert shown[site.node_id] != Node.HEALTH_HEARTBEAT_TIMEOUT
            await asyncio.sleep(1)
        shown = {node.id: node.health for node in await made.list(leader)}
        for site in (second, third):
            assert shown[site.node_id] == Node.HEALTH_HEALTHY
        for each in beats:
            each.cancel()

    run(scenario, seed=seed)
