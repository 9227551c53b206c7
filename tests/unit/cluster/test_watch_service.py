# SPDX-License-Identifier: Apache-2.0
"""Nodes as they are, then as they change."""

import pytest

from metropolis.api.common_pb2 import NODE_STATE_NEW, NODE_STATE_UP
from metropolis.api.curator_pb2 import WatchEvent, WatchRequest
from metropolis.api.management_pb2 import (
    DeleteNodeRequest,
    UpdateNodeLabelsRequest,
    UpdateNodeRolesRequest,
)
from metropolis.base.errors import InvalidArgumentError, UnimplementedError
from metropolis.cluster.lifecycle import NodeState
from metropolis.cluster.services.management import (
    delete_node,
    update_node_labels,
    update_node_roles,
)
from metropolis.cluster.services.watch import EVENT_BYTES_MAX, watch
from metropolis.cluster.state import keys
from metropolis.cluster.state.records import encode, new_record
from metropolis.cluster.told import Told
from metropolis.consensus.store import Put
from metropolis.rpc.channel import MESSAGE_BYTES_MAX, Packed
from unit.cluster.harness import FIRST, OWNER, Bench, Call, ended, machine, run

NEW, OTHER = machine(2), machine(3)
Watching = Call[WatchRequest, WatchEvent]
LAST = WatchEvent.PROGRESS_LAST_BACKLOGGED


def of_one(node_id: str = NEW.node_id) -> Watching:
    request = WatchRequest(node_in_cluster=WatchRequest.NodeInCluster(node_id=node_id))
    return Watching(OWNER, request)


def of_all() -> Watching:
    return Watching(OWNER, WatchRequest(nodes_in_cluster=WatchRequest.NodesInCluster()))


async def delete(bench: Bench) -> None:
    request = DeleteNodeRequest(
        id=NEW.node_id,
        safety_bypass_has_roles=DeleteNodeRequest.SafetyBypassHasRoles(),
        safety_bypass_not_decommissioned=DeleteNodeRequest.SafetyBypassNotDecommissioned(),
    )
    await delete_node(bench.leader, request, OWNER)


def test_one_node_is_waited_for_then_seen_changing_then_gone_then_back() -> None:
    async def scenario(bench: Bench) -> None:
        call = of_one()
        task = bench.group.create_task(watch(bench.leader, call))
        await bench.register(NEW)
        (event,) = await call.wait_sent(1)
        assert [node.id for node in event.nodes] == [NEW.node_id]
        assert event.nodes[0].state == NODE_STATE_NEW
        assert event.progress == WatchEvent.PROGRESS_UNSPECIFIED
        await bench.enrol(OTHER)  # somebody else is no news
        await delete(bench)
        event = (await call.wait_sent(2))[-1]
        assert [tombstone.node_id for tombstone in event.node_tombstones] == [NEW.node_id]
        assert not event.nodes
        await bench.register(NEW)
        assert (await call.wait_sent(3))[-1].nodes
        await ended(task)

    run(scenario)


def test_all_nodes_are_sent_then_the_mark_then_changes() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.register(NEW)
        call = of_all()
        task = bench.group.create_task(watch(bench.leader, call))
        (event,) = await call.wait_sent(1)
        assert sorted(node.id for node in event.nodes) == sorted((FIRST.node_id, NEW.node_id))
        assert event.progress == LAST
        await bench.report(FIRST, "192.0.2.1")
        event = (await call.wait_sent(2))[-1]
        (node,) = event.nodes
        assert node.status.external_address == "192.0.2.1"
        assert node.roles.consensus_member.ca_certificate  # in full
        assert event.progress == WatchEvent.PROGRESS_UNSPECIFIED
        await delete(bench)
        event = (await call.wait_sent(3))[-1]
        assert [tombstone.node_id for tombstone in event.node_tombstones] == [NEW.node_id]
        await ended(task)

    run(scenario)


def test_what_many_are_told_is_made_and_encoded_once() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.register(NEW)
        calls = [of_all() for _ in range(20)]
        tasks = [bench.group.create_task(watch(bench.leader, call)) for call in calls]
        for call in calls:
            await call.wait_sent(1)
        await bench.report(FIRST, "192.0.2.1")
        for call in calls:
            await call.wait_sent(2)
        late = of_all()
        tasks.append(bench.group.create_task(watch(bench.leader, late)))
        await late.wait_sent(1)
        await delete(bench)
        for call in calls:
            await call.wait_sent(3)
        for told in zip(*(call.packed for call in calls), strict=True):
            assert len({id(packed) for packed in told}) == 1
            assert told[0].data is told[-1].data
        assert [packed.message.progress for packed in calls[0].packed] == [LAST, 0, 0]
        news = late.packed[0]
        assert news is not calls[0].packed[0]  # it came later, and is told how things are now
        addresses = {node.id: node.status.external_address for node in news.message.nodes}
        assert addresses == {FIRST.node_id: "192.0.2.1", NEW.node_id: ""}
        for task in tasks:
            await ended(task)

    run(scenario)


def test_what_was_told_long_ago_is_forgotten() -> None:
    told = Told(events_max=2, keys_max=1)
    made: list[int] = []

    def tell(number: int, keys_count: int = 1) -> None:
        versions = tuple((b"key %d" % key, number) for key in range(keys_count))

        def make() -> list[Packed[WatchEvent]]:
            made.append(number)
            return [Packed(WatchEvent())]

        told.get(versions, make)

    for number in (1, 2, 1, 3, 1, 2):
        tell(number)
    assert made == [1, 2, 3, 2]  # 2 was heard of for longest when 3 came
    tell(9, keys_count=2)
    tell(9, keys_count=2)
    assert made[4:] == [9, 9]


def test_an_empty_backlog_still_has_the_mark() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.store.transact([], [Put(keys.node(FIRST.node_id), b"\xff")])
        call = of_all()
        task = bench.group.create_task(watch(bench.leader, call))
        (event,) = await call.wait_sent(1)
        assert event == WatchEvent(progress=LAST)
        await ended(task)

    run(scenario)


def test_a_damaged_record_ends_no_watch() -> None:
    async def scenario(bench: Bench) -> None:
        call = of_all()
        task = bench.group.create_task(watch(bench.leader, call))
        await call.wait_sent(1)
        await bench.store.transact([], [Put(keys.NODES + b"not-a-node", b"\xff")])
        await bench.report(FIRST, "192.0.2.1")
        assert (await call.wait_sent(2))[-1].nodes[0].id == FIRST.node_id
        await ended(task)

    run(scenario)


def test_a_large_backlog_comes_in_pieces_of_which_the_last_is_marked() -> None:
    async def scenario(bench: Bench) -> None:
        labels = {f"label-{number:02}": "v" * 60 for number in range(60)}
        for number in range(1000):
            record = new_record(public_key=number.to_bytes(32, "little"), state=NodeState.NEW)
            put = Put(keys.node(record.node_id), encode(record.with_labels(labels)))
            await bench.store.transact([], [put])
        call = of_all()
        task = bench.group.create_task(watch(bench.leader, call))
        events = await call.wait_sent(3)
        assert [event.progress for event in events[:-1]] == [0] * (len(events) - 1)
        assert events[-1].progress == LAST
        assert all(event.ByteSize() <= EVENT_BYTES_MAX + 8192 for event in events)
        assert EVENT_BYTES_MAX < MESSAGE_BYTES_MAX
        assert len({node.id for event in events for node in event.nodes}) == 1001
        await ended(task)

    run(scenario)


def test_a_slow_watcher_gets_the_newest_state_of_each_node_only() -> None:
    async def scenario(bench: Bench) -> None:
        call = of_all()
        slow = bench.group.create_task(watch(bench.leader, call))
        await call.wait_sent(1)
        call.hold()
        for number in range(50):
            await bench.report(FIRST, f"192.0.2.{number}")
        await bench.enrol(NEW)
        call.release()
        while not any(n.id == NEW.node_id for event in call.sent for n in event.nodes):
            await call.wait_sent(len(call.sent) + 1)
        assert len(call.sent) <= 4
        last = {node.id: node for event in call.sent for node in event.nodes}
        assert last[FIRST.node_id].status.external_address == "192.0.2.49"
        assert last[NEW.node_id].state == NODE_STATE_UP
        await ended(slow)

    run(scenario)


def test_what_watchers_do_not_see_is_no_news_to_a_node() -> None:
    async def scenario(bench: Bench) -> None:
        call = of_one(FIRST.node_id)
        task = bench.group.create_task(watch(bench.leader, call))
        await call.wait_sent(1)
        record = await bench.leader.load(FIRST.node_id)
        await bench.leader.save(record.with_unlock_key(b"another" * 4 + b"half"))
        request = UpdateNodeLabelsRequest(id=FIRST.node_id)
        request.upsert.add(key="a", value="b")
        await update_node_labels(bench.leader, request, OWNER)
        events = await call.wait_sent(2)
        assert len(events) == 2
        assert events[1].nodes[0].labels.pairs[0].key == "a"
        assert b"another" not in b"".join(event.SerializeToString() for event in events)
        await ended(task)

    run(scenario)


def test_a_watch_begins_with_everything_that_was_acknowledged() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.register(NEW)
        request = UpdateNodeRolesRequest(id=NEW.node_id, kubernetes_worker=True)
        await update_node_roles(bench.leader, request, OWNER)
        call = of_one()
        task = bench.group.create_task(watch(bench.leader, call))
        (event,) = await call.wait_sent(1)
        assert event.nodes[0].roles.HasField("kubernetes_worker")
        await ended(task)

    for seed in range(10):
        run(scenario, seed=seed)


@pytest.mark.parametrize("seed", range(10))
def test_a_watch_of_one_node_begins_with_what_another_leader_wrote(seed: int) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.register(NEW)
        record = await bench.leader.load(NEW.node_id)
        put = Put(keys.node(NEW.node_id), encode(record.with_labels({"a": "b"})))
        await bench.elsewhere().transact([], [put])
        call = of_one()
        task = bench.group.create_task(watch(bench.leader, call))
        (event,) = await call.wait_sent(1)
        assert event.nodes[0].labels.pairs[0].key == "a"
        await ended(task)

    run(scenario, seed=seed)


@pytest.mark.parametrize("request_", [None, WatchRequest()])
def test_a_watch_of_nothing_is_not_implemented(request_: WatchRequest | None) -> None:
    async def scenario(bench: Bench) -> None:
        call = Watching(OWNER) if request_ is None else Watching(OWNER, request_)
        with pytest.raises(UnimplementedError):
            await watch(bench.leader, call)

    run(scenario)


@pytest.mark.parametrize("node_id", ["", "nonsense", "a/b"])
def test_a_watch_needs_a_node_id(node_id: str) -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(InvalidArgumentError):
            await watch(bench.leader, of_one(node_id))

    run(scenario)
