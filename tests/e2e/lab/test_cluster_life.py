# SPDX-License-Identifier: Apache-2.0
"""What a cluster of three real nodes survives: lost leaders, split networks, restarts."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import uvloop

from e2e.lab.clusters import Launched, launched
from metropolis.base.errors import MetropolisError
from metropolis.base.ports import CURATOR_TCP_PORT
from metropolis.ctl import nodes
from metropolis.ctl.connection import Cluster, connect
from metropolis.lab.model import address_of
from metropolis.rpc.resolver import ClusterChannel
from metropolis.rpc.transport import Endpoint

WRITE_TIMEOUT_S = 30.0


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    """Three nodes; every test leaves them HEALTHY."""
    with launched(tmp_path_factory.mktemp("life"), count=3) as made:
        yield made


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(55):
            await scenario()

    uvloop.run(bounded())


async def write(connection: Cluster, node_id: str, value: str) -> None:
    """Have the cluster acknowledge a write, however often that takes."""
    async with asyncio.timeout(WRITE_TIMEOUT_S):
        while True:
            try:
                await nodes.update_labels(
                    connection.channel, node_id, upsert={"mark": value}, timeout_s=5
                )
            except MetropolisError as error:
                if not error.retryable:
                    raise
                await asyncio.sleep(0.1)
            else:
                return


async def marks(connection: Cluster) -> dict[str, str]:
    """What was written last about each node."""
    found = await nodes.list_nodes(connection.channel, timeout_s=WRITE_TIMEOUT_S)
    return {
        node.id: pair.value for node in found for pair in node.labels.pairs if pair.key == "mark"
    }


@asynccontextmanager
async def leader_of(trio: Launched) -> AsyncIterator[tuple[Cluster, int]]:
    """Connect, and say which machine leads."""
    async with trio.connected() as connection:
        await nodes.list_nodes(connection.channel)
        channel = connection.channel
        assert isinstance(channel, ClusterChannel)
        assert channel.leader is not None
        yield connection, int(channel.leader.host.split(".")[3]) - 2


def test_after_a_power_cut_of_the_leader_another_node_takes_writes(trio: Launched) -> None:
    async def scenario() -> None:
        numbers = await trio.node_numbers()
        async with leader_of(trio) as (connection, leader):
            survivor = next(node_id for node_id, number in numbers.items() if number != leader)
            await write(connection, survivor, "before")
            await trio.cluster.power(leader, "kill")
            assert (await marks(connection))[survivor] == "before"
            await write(connection, survivor, "after")
            assert (await marks(connection))[survivor] == "after"
        await trio.bring_up()

    run(scenario)


def test_the_minority_of_a_split_network_refuses_writes_and_converges(trio: Launched) -> None:
    async def scenario() -> None:
        numbers = await trio.node_numbers()
        async with leader_of(trio) as (connection, leader):
            others = [number for number in range(3) if number != leader]
            target = next(node_id for node_id, number in numbers.items() if number != leader)
            await trio.cluster.split([[leader], others])
            await write(connection, target, "majority")
        minority = connection.transport.dial(
            Endpoint(address_of(leader), CURATOR_TCP_PORT),
            credentials=connection.credentials,
            verify=lambda _certificate: None,
        )
        try:
            with pytest.raises(MetropolisError) as refused:
                await nodes.update_labels(
                    minority, target, upsert={"mark": "minority"}, timeout_s=5
                )
            assert refused.value.retryable
        finally:
            await minority.close()
        await trio.cluster.split([[0, 1, 2]])
        await trio.bring_up()
        async with trio.connected() as connection:
            assert (await marks(connection))[target] == "majority"

    run(scenario)


def test_nodes_restart_one_by_one_while_writes_go_on(trio: Launched) -> None:
    async def scenario() -> None:
        numbers = await trio.node_numbers()
        for number in range(3):
            await trio.cluster.power(number, "off")
            async with trio.connected() as connection:
                for node_id in numbers:
                    await write(connection, node_id, f"without-{number}")
                assert set((await marks(connection)).values()) == {f"without-{number}"}
            await trio.bring_up()
        assert await trio.node_numbers() == numbers

    run(scenario)


def test_a_power_cut_of_all_nodes_at_once_loses_nothing(trio: Launched) -> None:
    async def scenario() -> None:
        numbers = await trio.node_numbers()
        async with trio.connected() as connection:
            for node_id in numbers:
                await write(connection, node_id, "durable")
        for number in range(3):
            await trio.cluster.power(number, "kill")
        await trio.bring_up()
        assert await trio.node_numbers() == numbers
        async with trio.connected() as connection:
            assert set((await marks(connection)).values()) == {"durable"}

    run(scenario)


@pytest.mark.parametrize("number", range(3))
def test_a_client_that_knows_one_node_only_finds_the_leader(trio: Launched, number: int) -> None:
    async def scenario() -> None:
        numbers = await trio.node_numbers()
        context = replace(trio.context, endpoints=(address_of(number),))
        async with connect(context) as connection:
            found = await nodes.list_nodes(connection.channel)
            await write(connection, found[0].id, "found")
        assert {node.id for node in found} == set(numbers)

    run(scenario)
