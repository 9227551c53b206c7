# SPDX-License-Identifier: Apache-2.0
"""What one leader knows about the health of nodes, and the next one is told."""

import asyncio

import pytest

from metropolis.api.health_pb2 import HealthMemory
from metropolis.api.management_pb2 import Node
from metropolis.cluster.heartbeats import LOOK_S, REFRESH_S, SILENT_MAX, HealthNote, Heartbeats
from metropolis.cluster.lifecycle import NodeState
from metropolis.cluster.planner.health import (
    GRACE_S_MAX,
    HEARTBEAT_TIMEOUT_S,
    NEVER_NS,
    judge,
)
from metropolis.cluster.state import keys
from metropolis.cluster.state.records import encode, new_record
from metropolis.consensus.store import Put
from unit.cluster.harness import FIRST, Bench, machine, run

NEW, OTHER = machine(2), machine(3)
UNKNOWN, HEALTHY = Node.HEALTH_UNKNOWN, Node.HEALTH_HEALTHY
TIMEOUT = Node.HEALTH_HEARTBEAT_TIMEOUT


def health(heartbeats: Heartbeats, node_id: str) -> Node.Health.ValueType:
    return judge(NodeState.UP, heartbeats.pulse(node_id))


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def next_leader(bench: Bench) -> HealthNote:
    """Let the leader be followed by one that has heard nobody and reads the note."""
    leader = bench.leader
    leader.heartbeats = Heartbeats(tenure_start_s=now_s())
    note = HealthNote(leader.heartbeats, bench.nodes, leader.store, leader.own.clock, leader.log)
    await note.load()
    leader.health_note = note
    return note


async def beat(bench: Bench, *ids: str, for_s: float) -> None:
    end_s = now_s() + for_s
    while now_s() < end_s:
        for node_id in ids:
            bench.leader.heartbeats.hear(node_id)
        await asyncio.sleep(1.0)


async def enrolled(bench: Bench) -> None:
    await bench.enrol(NEW, address="192.0.2.2")
    await bench.enrol(OTHER, address="192.0.2.3")


def test_the_next_leader_still_knows_who_was_silent_and_blames_nobody_else() -> None:
    async def scenario(bench: Bench) -> None:
        await enrolled(bench)
        bench.leader.heartbeats.hear(OTHER.node_id)
        heard_s = now_s()
        await beat(bench, FIRST.node_id, NEW.node_id, for_s=HEARTBEAT_TIMEOUT_S + 5)
        await bench.leader.health_note.write()
        await next_leader(bench)
        heartbeats = bench.leader.heartbeats
        assert health(heartbeats, OTHER.node_id) == TIMEOUT
        silence_s = heartbeats.pulse(OTHER.node_id).silence_ns / 1e9
        assert silence_s == pytest.approx(now_s() - heard_s, abs=0.01)
        assert health(heartbeats, NEW.node_id) == UNKNOWN
        assert heartbeats.pulse(NEW.node_id).silence_ns < 2e9  # not "never"
        heartbeats.hear(NEW.node_id)
        heartbeats.hear(OTHER.node_id)
        assert health(heartbeats, NEW.node_id) == HEALTHY
        assert health(heartbeats, OTHER.node_id) == HEALTHY

    run(scenario)


def test_a_third_leader_hears_what_the_first_knew_but_not_of_those_that_came_back() -> None:
    async def scenario(bench: Bench) -> None:
        await enrolled(bench)
        await beat(bench, FIRST.node_id, for_s=HEARTBEAT_TIMEOUT_S + 5)
        await bench.leader.health_note.write()
        second = await next_leader(bench)
        running = bench.group.create_task(second.run())
        bench.leader.heartbeats.hear(NEW.node_id)
        await asyncio.sleep(1.0)
        running.cancel()
        await next_leader(bench)
        assert health(bench.leader.heartbeats, NEW.node_id) == UNKNOWN
        assert health(bench.leader.heartbeats, OTHER.node_id) == TIMEOUT
        assert bench.leader.heartbeats.pulse(OTHER.node_id).silence_ns == NEVER_NS

    run(scenario)


def test_silence_counts_only_after_nodes_have_stopped_coming_back() -> None:
    async def scenario(_bench: Bench) -> None:
        heartbeats = Heartbeats(tenure_start_s=now_s())
        for number in range(4):
            await asyncio.sleep(10.0)
            heartbeats.hear(f"node-{number}")
            assert health(heartbeats, "late") == UNKNOWN
        await asyncio.sleep(HEARTBEAT_TIMEOUT_S)
        assert health(heartbeats, "late") == UNKNOWN
        await asyncio.sleep(0.1)
        assert health(heartbeats, "late") == TIMEOUT
        heartbeats.hear("latecomer")
        assert health(heartbeats, "late") == TIMEOUT

    run(scenario)


def test_grace_ends_whoever_still_comes_back() -> None:
    async def scenario(_bench: Bench) -> None:
        heartbeats = Heartbeats(tenure_start_s=now_s())
        for number in range(int(GRACE_S_MAX)):
            heartbeats.hear(f"node-{number}")
            await asyncio.sleep(1.0)
        assert health(heartbeats, "late") == UNKNOWN
        heartbeats.hear("one more")
        await asyncio.sleep(1.0)
        assert health(heartbeats, "late") == TIMEOUT

    run(scenario)


def test_the_note_costs_the_store_next_to_nothing() -> None:
    async def scenario(bench: Bench) -> None:
        await enrolled(bench)
        everybody = (FIRST.node_id, NEW.node_id, OTHER.node_id)
        running = bench.group.create_task(bench.leader.health_note.run())
        await beat(bench, *everybody, for_s=HEARTBEAT_TIMEOUT_S + 2 * LOOK_S)
        before = (await bench.leader.store.read()).revision
        await beat(bench, *everybody, for_s=4 * REFRESH_S)
        assert (await bench.leader.store.read()).revision - before <= 4
        found = await bench.store.get(keys.HEALTH)
        assert found is not None
        assert len(found.value) < 32
        running.cancel()

    run(scenario)


def test_a_note_about_very_many_silent_nodes_is_bounded() -> None:
    async def scenario(bench: Bench) -> None:
        crowd = [machine(number) for number in range(100, 100 + SILENT_MAX + 50)]
        for each in crowd:
            record = new_record(public_key=each.key, state=NodeState.UP)
            await bench.store.transact([], [Put(keys.node(each.node_id), encode(record))])
        await asyncio.sleep(HEARTBEAT_TIMEOUT_S + 1)
        await bench.leader.health_note.write()
        found = await bench.store.get(keys.HEALTH)
        assert found is not None
        assert len(HealthMemory.FromString(found.value).silent) == SILENT_MAX
        assert len(found.value) < 48 << 10

    run(scenario)


@pytest.mark.parametrize("damage", [b"\xff\xff", b""])
def test_a_damaged_note_is_no_note(damage: bytes) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.store.transact([], [Put(keys.HEALTH, damage)])
        await next_leader(bench)
        assert health(bench.leader.heartbeats, FIRST.node_id) == UNKNOWN
        assert bench.leader.heartbeats.pulse(FIRST.node_id).silence_ns == NEVER_NS

    run(scenario)
