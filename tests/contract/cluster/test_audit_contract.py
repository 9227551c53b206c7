# SPDX-License-Identifier: Apache-2.0
"""The audit log on a real etcd, and behind a server that knows its callers."""

import asyncio
from pathlib import Path

import pytest

from contract.cluster.rack import OPERATOR_ADDRESS, Rack, run
from contract.cluster.real_etcd import run_on_etcd
from metropolis.api.audit_pb2 import (
    OUTCOME_DENIED,
    OUTCOME_DONE,
    Actor,
    GetHeadRequest,
    ListRequest,
    ListResponse,
    Record,
)
from metropolis.api.management_pb2 import (
    ApproveNodeRequest,
    UpdateNodeLabelsRequest,
)
from metropolis.api.rpc_audit import Audit
from metropolis.api.rpc_management import Management
from metropolis.base.errors import PermissionDeniedError, UnauthenticatedError
from metropolis.cluster.services.audit import list_records
from metropolis.cluster.services.management import update_node_labels
from metropolis.cluster.state import keys
from metropolis.cluster.state.audit import AuditedStore
from metropolis.cluster.state.fenced import Change
from metropolis.consensus.store import Put
from metropolis.formats.audit.chain import decode
from metropolis.formats.audit.verification import Verdict, verify
from metropolis.rpc.channel import Channel
from metropolis.rpc.status import NotLeaderError
from unit.cluster.harness import FIRST, OWNER, Bench, Call


async def relabel(bench: Bench, number: int) -> None:
    request = UpdateNodeLabelsRequest(id=FIRST.node_id)
    request.upsert.add(key=f"key-{number}", value="set")
    with bench.leader.auditor.calling(Management.UPDATE_NODE_LABELS, OWNER, request):
        await update_node_labels(bench.leader, request, OWNER)


async def verdict(store: AuditedStore) -> Verdict:
    end = await store.head()
    stored = [each async for each in store.walk(end.first, end.sequence)]
    return verify(stored, end=end)


def test_changes_records_and_checkpoints_on_real_etcd(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        store = bench.leader.store
        store._records_max = 90
        for wave in range(30):
            await asyncio.gather(*(relabel(bench, wave * 4 + one) for one in range(4)))
        end = await store.head()
        assert end.first > 1
        found = await verdict(store)
        assert found.broken is None
        assert found.records == len((await bench.store.range(keys.AUDIT_RECORDS)).items) <= 90
        call: Call[ListRequest, ListResponse] = Call(OWNER, ListRequest(user="owner", limit=1))
        await list_records(bench.leader, call)
        assert decode(call.sent[0].record).actor.identity == "owner"
        await bench.store.transact([], [Put(keys.audit_record(end.sequence), b"forged")])
        broken = (await verdict(store)).broken
        assert broken is not None
        assert broken.position == end.sequence

    run_on_etcd(tmp_path, scenario)


def test_a_deposed_leader_writes_neither_change_nor_record(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        await relabel(bench, 1)
        await bench.depose()
        with pytest.raises(NotLeaderError):
            await relabel(bench, 2)
        with (
            pytest.raises(NotLeaderError),
            bench.leader.auditor.by_itself("Test"),
        ):
            await bench.leader.store.write(Change(sentence="nothing"))
        assert len((await bench.store.range(keys.AUDIT_RECORDS)).items) == 1

    run_on_etcd(tmp_path, scenario)


async def told(channel: Channel) -> list[Record]:
    records = []
    async with channel.open(Audit.LIST) as call:
        await call.send(ListRequest())
        await call.end()
        while (response := await call.receive()) is not None:
            records.append(decode(response.record))
    return records


def test_callers_are_recorded_as_who_they_proved_to_be() -> None:
    async def scenario(made: Rack) -> None:
        first = made.sites[0]
        second = await made.enrol(first)
        operator = made.dial(first)
        node = made.dial(first, second.credentials)
        with pytest.raises(PermissionDeniedError):
            await node.call(Management.APPROVE_NODE, ApproveNodeRequest(pubkey=bytes(32)))
        with pytest.raises(PermissionDeniedError):
            await told(node)
        anonymous = made.dial_anonymously(first)
        for _ in range(3):
            with pytest.raises(UnauthenticatedError):
                await anonymous.call(Management.APPROVE_NODE, ApproveNodeRequest())
        with pytest.raises(UnauthenticatedError):
            await told(anonymous)
        await asyncio.sleep(2)
        records = await told(operator)
        story = [(each.method, each.actor.kind, each.object) for each in records]
        assert story[:5] == [
            ("AAA.Escrow", Actor.KIND_KEY, "owner"),
            ("Management.GetRegisterTicket", Actor.KIND_USER, ""),
            ("Curator.RegisterNode", Actor.KIND_KEY, second.node_id),
            ("Management.ApproveNode", Actor.KIND_USER, second.node_id),
            ("Curator.CommitNode", Actor.KIND_KEY, second.node_id),
        ]
        assert {each.outcome for each in records[:5]} == {OUTCOME_DONE}
        assert {each.actor.address for each in records} == {OPERATOR_ADDRESS}
        denied = records[5:]
        assert {(each.method, each.outcome, each.actor.identity) for each in denied} == {
            ("Management.ApproveNode", OUTCOME_DENIED, second.node_id),
            ("Audit.List", OUTCOME_DENIED, second.node_id),
        }
        head = await operator.call(Audit.GET_HEAD, GetHeadRequest())
        assert head.head.sequence == len(records) == 7
        assert head.unauthenticated_refusals == 4
        assert head.problem == ""

    run(scenario)


def test_the_log_outlives_its_leader() -> None:
    async def scenario(made: Rack) -> None:
        first = made.sites[0]
        for _ in range(2):
            site = await made.enrol(first)
            await made.promote(site, first)
        before = await told(made.dial(first))
        await made.kill(first)
        leader = await made.leader_among(*made.sites[1:])
        request = UpdateNodeLabelsRequest(id=leader.node_id)
        request.upsert.add(key="a", value="b")
        await made.dial(leader).call(Management.UPDATE_NODE_LABELS, request)
        after = await told(made.dial(leader))
        assert after[: len(before)] == before
        assert after[-1].sentence == "set a=b"
        assert after[-1].leader == leader.node_id

    run(scenario)
