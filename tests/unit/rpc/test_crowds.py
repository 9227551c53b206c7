# SPDX-License-Identifier: Apache-2.0
"""Thousands of nodes that lose their leader at the same moment do not all come at once."""

import asyncio
from contextlib import AsyncExitStack, suppress
from random import Random

import pytest

from metropolis.base.errors import MetropolisError
from metropolis.rpc.leader_search import spread_s
from metropolis.rpc.resolver import ClusterChannel
from unit.rpc.test_resolver import Cluster, at, name, run, watch_once

CLIENTS = 40


def learn_crowd(channel: ClusterChannel, crowd: int) -> None:
    """Let a node know the others, all of which follow the leader as it does."""
    channel.learn_members({name(number): at(number % 2 + 1) for number in range(crowd)})


@pytest.mark.parametrize("crowd", [3, 99, 2000])
def test_they_look_for_the_next_one_spread_over_the_time_that_it_needs_for_all(crowd: int) -> None:
    came_s: list[float] = []

    async def follow(cluster: Cluster, number: int) -> None:
        cluster.rng = Random(number)
        async with cluster.channel(1, follows_members=False) as channel:
            learn_crowd(channel, crowd)
            while channel.leader != at(2):
                await channel.wait_leader_change()
            came_s.append(asyncio.get_running_loop().time())

    async def scenario(cluster: Cluster) -> None:
        async with cluster.running(1, 2, leader=1), asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(follow(cluster, number))
            await asyncio.sleep(5)
            cluster.told_of[2] = 2
            await cluster.stop(1)

    run(scenario)
    assert len(came_s) == CLIENTS
    assert max(came_s) < 5 + spread_s(crowd) + 0.5
    if crowd == 2000:
        assert spread_s(crowd) == 4.0
        assert max(came_s) - min(came_s) > 3.0


@pytest.mark.parametrize(("crowd", "fewest", "most"), [(3, 10, 60), (10_000, 1, 8)])
def test_a_crowd_leaves_whoever_it_asks_time_to_win_an_election(
    crowd: int, fewest: int, most: int
) -> None:
    async def scenario(cluster: Cluster) -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(cluster.running(1, leader=1))
            channel = await stack.enter_async_context(cluster.channel(1, follows_members=False))
            learn_crowd(channel, crowd)
            await watch_once(channel)
            cluster.told_of[1] = 1  # what it tells does not change: it was the leader before
            cluster.leader.set(0)
            attempts = 0
            loop = asyncio.get_running_loop()
            until_s = loop.time() + 30
            while loop.time() < until_s:
                with suppress(MetropolisError):
                    await watch_once(channel)
                attempts += 1
                await asyncio.sleep(1)
            assert fewest <= attempts <= most

    run(scenario)
