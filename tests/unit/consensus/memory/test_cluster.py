# SPDX-License-Identifier: Apache-2.0
"""The faults of the memory twin do what they say. What it promises as a store: tests/contract."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from metropolis.base.errors import NotFoundError, UnavailableError
from metropolis.consensus.memory.client import MemoryMembership, MemoryStore
from metropolis.consensus.memory.cluster import MemoryCluster
from metropolis.consensus.memory.faults import Faults
from metropolis.consensus.store import KeyValue, Put
from metropolis.sim import simulate

ELECTION_S = 1.0


class Trio:
    """Three members and their clients."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.cluster = MemoryCluster(faults=self.faults, election_s=ELECTION_S)
        self.ids = [self.cluster.bootstrap(name="m0", peer_url="https://m0:7834")]
        for name in ("m1", "m2"):
            state = self.cluster.roster.add(f"https://{name}:7834", is_learner=False)
            self.cluster.start_member(state.member_id, name=name)
            self.ids.append(state.member_id)
        self.stores = [MemoryStore(self.cluster, member_id) for member_id in self.ids]
        self.memberships = [MemoryMembership(self.cluster, member_id) for member_id in self.ids]


def run(scenario: Callable[[Trio], Awaitable[None]]) -> None:
    async def main() -> None:
        await scenario(Trio())

    simulate(main, seed=1)


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def put(store: MemoryStore, key: bytes, lease_id: int = 0) -> int:
    return (await store.transact([], [Put(key, b"v", lease_id)])).revision


async def read(store: MemoryStore) -> KeyValue | None:
    return await store.get(b"/a")


def test_a_lost_reply_is_an_error_although_the_write_took_effect() -> None:
    async def scenario(trio: Trio) -> None:
        trio.faults.loses_reply = lambda member_id: member_id == trio.ids[0]
        with pytest.raises(UnavailableError):
            await put(trio.stores[0], b"/a")
        assert await read(trio.stores[0]) is not None
        await put(trio.stores[1], b"/a")

    run(scenario)


def test_calls_take_the_time_they_are_told_to_each_way() -> None:
    async def scenario(trio: Trio) -> None:
        trio.faults.delay_s = lambda member_id: 0.25 if member_id == trio.ids[0] else 0.0
        before_s = now_s()
        await read(trio.stores[0])
        assert now_s() - before_s == 0.5
        await read(trio.stores[1])
        assert now_s() - before_s == 0.5

    run(scenario)


def test_an_isolated_member_refuses_and_the_others_elect_a_leader() -> None:
    async def scenario(trio: Trio) -> None:
        trio.cluster.isolate(trio.ids[0])
        for store in trio.stores:
            with pytest.raises(UnavailableError):
                await read(store)
        await asyncio.sleep(ELECTION_S)
        with pytest.raises(UnavailableError):
            await put(trio.stores[0], b"/a")
        await put(trio.stores[1], b"/a")
        assert trio.cluster.leader_id in trio.ids[1:]
        status = await trio.stores[0].status()
        assert (status.leader_id, status.revision) == (0, 1)
        assert status.errors
        trio.cluster.heal()
        assert await read(trio.stores[0]) is not None

    run(scenario)


def test_no_side_of_an_even_split_serves() -> None:
    async def scenario(trio: Trio) -> None:
        trio.cluster.stop_member(trio.ids[2])
        trio.cluster.isolate(trio.ids[0])
        await asyncio.sleep(10)
        for store in trio.stores:
            with pytest.raises(UnavailableError):
                await read(store)
        trio.cluster.heal()
        await asyncio.sleep(ELECTION_S)
        await read(trio.stores[1])

    run(scenario)


def test_a_call_may_hang_until_there_is_a_leader_again() -> None:
    async def scenario(trio: Trio) -> None:
        trio.faults.hang_s = lambda _member_id: 5.0
        trio.cluster.lose_leader(for_s=2.0)
        await put(trio.stores[0], b"/a")
        assert now_s() == 2.0
        trio.cluster.isolate(trio.ids[0])
        with pytest.raises(UnavailableError):
            await read(trio.stores[0])
        assert now_s() == 7.0

    run(scenario)


def test_watches_of_a_member_without_leader_end_after_three_elections() -> None:
    async def scenario(trio: Trio) -> None:
        async with (
            trio.stores[0].watch(b"/", start_revision=0) as cut,
            trio.stores[1].watch(b"/", start_revision=0) as other,
        ):
            trio.cluster.isolate(trio.ids[0])
            with pytest.raises(UnavailableError):
                await cut.receive()
            assert now_s() == 3 * ELECTION_S
            with pytest.raises(UnavailableError):
                await cut.request_progress()
            await put(trio.stores[1], b"/a")
            assert (await other.receive()).events

    run(scenario)


def test_watches_outlive_an_ordinary_election() -> None:
    async def scenario(trio: Trio) -> None:
        async with trio.stores[1].watch(b"/", start_revision=0) as watch:
            trio.cluster.stop_member(trio.ids[0])
            await asyncio.sleep(5 * ELECTION_S)
            await put(trio.stores[1], b"/a")
            assert (await watch.receive()).events

    run(scenario)


def test_a_stopped_member_loses_its_clients_and_catches_up_when_it_is_back() -> None:
    async def scenario(trio: Trio) -> None:
        async with trio.stores[2].watch(b"/", start_revision=0) as watch:
            trio.cluster.stop_member(trio.ids[2])
            with pytest.raises(UnavailableError):
                await watch.receive()
        with pytest.raises(UnavailableError):
            await trio.stores[2].status()
        revision = await put(trio.stores[0], b"/a")
        trio.cluster.start_member(trio.ids[2], name="m2")
        assert (await trio.stores[2].status()).revision == revision

    run(scenario)


def test_a_member_that_lags_shows_nothing_early_and_answers_late() -> None:
    async def scenario(trio: Trio) -> None:
        trio.faults.replication_delay_s = lambda member_id: 0.5 * (member_id == trio.ids[2])
        async with trio.stores[2].watch(b"/", start_revision=0) as watch:
            await put(trio.stores[0], b"/a")
            assert (await trio.stores[2].status()).revision == 1
            await watch.request_progress()
            assert (await watch.receive()).revision == 1
            assert now_s() == 0
            assert await read(trio.stores[2]) is not None
            assert now_s() == 0.5
            assert (await watch.receive()).events

    run(scenario)


def test_a_write_waits_for_the_disks_of_a_majority() -> None:
    async def scenario(trio: Trio) -> None:
        trio.cluster.slow_disk(trio.ids[0], delay_s=3.0)
        await put(trio.stores[0], b"/a")
        assert now_s() == 0
        trio.cluster.slow_disk(trio.ids[1], delay_s=2.0)
        await put(trio.stores[0], b"/a")
        assert now_s() == 2.0
        await read(trio.stores[0])
        assert now_s() == 2.0

    run(scenario)


def test_leases_do_not_age_without_a_leader_and_begin_anew_under_the_next() -> None:
    async def scenario(trio: Trio) -> None:
        lease_id = await trio.stores[0].grant_lease(5)
        await put(trio.stores[0], b"/a", lease_id)
        await asyncio.sleep(4)
        trio.cluster.lose_leader(for_s=10)
        await asyncio.sleep(14.5)
        assert await read(trio.stores[0]) is not None
        await asyncio.sleep(1)
        assert await read(trio.stores[0]) is None

    run(scenario)


def test_disconnected_watches_can_go_on_where_they_were() -> None:
    async def scenario(trio: Trio) -> None:
        async with trio.stores[0].watch(b"/", start_revision=0) as watch:
            trio.cluster.disconnect_watches()
            with pytest.raises(UnavailableError):
                await watch.receive()
        revision = await put(trio.stores[0], b"/a")
        async with trio.stores[0].watch(b"/", start_revision=revision) as watch:
            assert (await watch.receive()).revision == revision

    run(scenario)


def test_learners_are_added_only_once_every_voter_was_connected_for_a_while() -> None:
    async def scenario(trio: Trio) -> None:
        with pytest.raises(UnavailableError):
            await trio.memberships[0].add_learner("https://m3:7834")
        await asyncio.sleep(5)
        trio.cluster.stop_member(trio.ids[2])
        with pytest.raises(UnavailableError):
            await trio.memberships[0].add_learner("https://m3:7834")
        trio.cluster.start_member(trio.ids[2], name="m2")
        await asyncio.sleep(5)
        await trio.memberships[0].add_learner("https://m3:7834")

    run(scenario)


def test_with_one_member_down_only_that_one_can_be_removed() -> None:
    async def scenario(trio: Trio) -> None:
        await asyncio.sleep(5)
        trio.cluster.stop_member(trio.ids[2])
        with pytest.raises(UnavailableError):
            await trio.memberships[0].remove(trio.ids[1])
        await trio.memberships[0].remove(trio.ids[2])
        with pytest.raises(NotFoundError):
            await trio.memberships[0].remove(trio.ids[2])
        assert [member.name for member in await trio.memberships[0].members()] == ["m0", "m1"]

    run(scenario)


def test_a_member_that_removed_itself_serves_no_more() -> None:
    async def scenario(trio: Trio) -> None:
        await asyncio.sleep(5)
        await trio.memberships[0].remove(trio.ids[0])
        with pytest.raises(UnavailableError):
            await read(trio.stores[0])
        await asyncio.sleep(ELECTION_S)
        await put(trio.stores[1], b"/a")

    run(scenario)


def test_a_cancelled_write_may_have_taken_effect() -> None:
    async def scenario(trio: Trio) -> None:
        trio.faults.delay_s = lambda _member_id: 1.0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await put(trio.stores[0], b"/a")
        assert trio.cluster.keyspace.get(b"/a") is not None

    run(scenario)
