# SPDX-License-Identifier: Apache-2.0
"""Every change has its record, made in the same transaction, and says who did what."""

import asyncio
from random import Random
from typing import Any

import pytest

from metropolis.api.audit_pb2 import (
    OUTCOME_DENIED,
    OUTCOME_DONE,
    OUTCOME_FAILED,
    Actor,
    ListRequest,
    ListResponse,
    Record,
)
from metropolis.api.curator_pb2 import JoinNodeRequest, RegisterNodeRequest, UpdateNodeStatusRequest
from metropolis.api.decommission_pb2 import RotateRegisterTicketRequest
from metropolis.api.introspection_pb2 import ExplainNodeRequest
from metropolis.api.management_pb2 import (
    ApproveNodeRequest,
    ConfigureClusterRequest,
    DeleteNodeRequest,
    GetRegisterTicketRequest,
    UpdateNodeLabelsRequest,
    UpdateNodeRolesRequest,
)
from metropolis.api.methods import Method
from metropolis.api.rpc_curator import Curator
from metropolis.api.rpc_decommission import Nodes as DecommissionNodes
from metropolis.api.rpc_management import Management
from metropolis.api.rpc_users import Users
from metropolis.api.users_pb2 import (
    CreateUserRequest,
    DeleteUserRequest,
    Grants,
    IssuePasswordRequest,
    RevokeRequest,
)
from metropolis.base.errors import (
    InvalidArgumentError,
    MetropolisError,
    NotFoundError,
    OutOfRangeError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from metropolis.cluster.auditor import Auditor
from metropolis.cluster.office import Office, Presiding
from metropolis.cluster.planner.roles import Roles
from metropolis.cluster.services.audit import list_records
from metropolis.cluster.services.curator_local import CuratorLocal
from metropolis.cluster.services.introspection import explain_node
from metropolis.cluster.services.registry import control_plane
from metropolis.cluster.state import keys
from metropolis.cluster.state.audit import AuditedStore, acting
from metropolis.cluster.state.fenced import Change, ConflictError, is_absent
from metropolis.cluster.sync import synchronize
from metropolis.cluster.unrecorded import Notes
from metropolis.consensus.store import Delete, Put
from metropolis.formats.audit.chain import decode
from metropolis.formats.audit.verification import verify
from metropolis.host.sim.machine import SimHost
from metropolis.rpc.peer import Peer, PeerKind
from unit.cluster.harness import (
    FIRST,
    OWNER,
    Bench,
    Call,
    commit_request,
    machine,
    make_member,
    run,
)

NEW = machine(2)


class Registry:
    """Calls a bench through the registry, as a server does."""

    def __init__(self, bench: Bench) -> None:
        office = Office(FIRST.node_id)
        office.view.set(Presiding(bench.leader))
        self._services = control_plane(office, CuratorLocal(office, b"")).by_path

    async def call(self, method: Method[Any, Any], request: Any, peer: Peer = OWNER) -> Any:
        registration = self._services[method.path]
        assert registration.unary is not None
        return await registration.unary(request, peer)


async def records(bench: Bench, request: ListRequest | None = None) -> list[Record]:
    call: Call[ListRequest, ListResponse] = Call(OWNER, request or ListRequest())
    await list_records(bench.leader, call)
    return [decode(response.record) for response in call.sent]


async def check_chain(bench: Bench) -> None:
    end = await bench.leader.store.head()
    stored = [each async for each in bench.leader.store.walk(end.first, end.sequence)]
    assert verify(stored, end=end).broken is None
    assert len(stored) == end.sequence - end.first + 1


def test_who_was_cut_off_gets_what_is_behind_the_last_record_it_has() -> None:
    async def scenario(bench: Bench) -> None:
        registry = Registry(bench)
        for name in ("a", "b", "c"):
            request = UpdateNodeLabelsRequest(id=FIRST.node_id)
            request.upsert.add(key=name, value="x")
            await registry.call(Management.UPDATE_NODE_LABELS, request)
        told = await records(bench)
        numbers = [each.sequence for each in told]
        assert [each.sequence for each in await records(bench, ListRequest(after=1))] == numbers[1:]
        assert await records(bench, ListRequest(after=numbers[-1])) == []
        with pytest.raises(OutOfRangeError, match="ends with record"):
            await records(bench, ListRequest(after=numbers[-1] + 1))

    run(scenario)


def test_who_was_away_for_too_long_is_told_what_is_missing() -> None:
    async def scenario(bench: Bench) -> None:
        store = bench.leader.store
        store._records_max = 10
        for _ in range(3):
            await store.append([store.dated(noted()) for _ in range(10)])
        first = (await store.head()).first
        assert first > 3
        with pytest.raises(OutOfRangeError, match=f"records 2 to {first - 1} were dropped"):
            await records(bench, ListRequest(after=1))
        assert await records(bench, ListRequest(after=first - 1))

    run(scenario)


def noted() -> Record:
    record = Record(actor=Actor(kind=Actor.KIND_USER, identity="owner"), method="Some.Order")
    record.time.FromSeconds(1_700_000_000)
    return record


def test_what_a_node_was_told_without_a_leader_is_written_down_once_it_leads() -> None:
    async def scenario(bench: Bench) -> None:
        directory = SimHost("n1", rng=Random(1), addresses=["10.0.0.1"]).boot().storage
        notes = Notes(directory, "notes.pb")
        for method in ("First.Order", "Second.Order"):
            record = noted()
            record.method = method
            await notes.add(record)
        kept = await directory.read("notes.pb")
        for _ in range(2):  # the second time it is a leader that had written, and could not forget
            await directory.write("notes.pb", kept)
            await Auditor(bench.leader.store, bench.leader.log, notes).catch_up()
            assert not await directory.exists("notes.pb")
        told = await records(bench)
        assert [each.method for each in told] == ["First.Order", "Second.Order"]
        assert [each.time for each in told] == [noted().time] * 2
        assert {each.leader for each in told} == {FIRST.node_id}
        await check_chain(bench)

    run(scenario)


def test_a_damaged_note_is_told_and_stops_nothing() -> None:
    async def scenario(bench: Bench) -> None:
        directory = SimHost("n1", rng=Random(1), addresses=["10.0.0.1"]).boot().storage
        await directory.write("notes.pb", b"\xff")
        await Auditor(bench.leader.store, bench.leader.log, Notes(directory, "notes.pb")).catch_up()
        (told,) = await records(bench)
        assert (told.outcome, told.code) == (OUTCOME_FAILED, "data-loss")
        assert not await directory.exists("notes.pb")

    run(scenario)


def test_a_life_is_told_by_its_records() -> None:
    async def scenario(bench: Bench) -> None:
        registry = Registry(bench)
        ticket = await registry.call(Management.GET_REGISTER_TICKET, GetRegisterTicketRequest())
        request = await bench.register_request(NEW)
        await registry.call(Curator.REGISTER_NODE, request, NEW.stranger)
        await registry.call(Management.APPROVE_NODE, ApproveNodeRequest(pubkey=NEW.key))
        await registry.call(Curator.COMMIT_NODE, commit_request(NEW), NEW.stranger)
        await registry.call(
            Curator.JOIN_NODE, JoinNodeRequest(using_sealed_configuration=True), NEW.joiner
        )
        labels = UpdateNodeLabelsRequest(id=NEW.node_id)
        labels.upsert.add(key="zone", value="a")
        await registry.call(Management.UPDATE_NODE_LABELS, labels)
        roles = UpdateNodeRolesRequest(id=NEW.node_id, kubernetes_worker=True)
        await registry.call(Management.UPDATE_NODE_ROLES, roles)
        configure = ConfigureClusterRequest()
        configure.update_mask.paths.append("kubernetes.node_labels_to_synchronize")
        configure.base_config.CopyFrom((await bench.leader.configuration())[0])
        configure.base_config.kubernetes.SetInParent()
        configure.new_config.CopyFrom(configure.base_config)
        configure.new_config.kubernetes.node_labels_to_synchronize.add(regexp="^zone$")
        await registry.call(Management.CONFIGURE_CLUSTER, configure)
        delete = DeleteNodeRequest(
            id=NEW.node_id,
            safety_bypass_has_roles=DeleteNodeRequest.SafetyBypassHasRoles(),
            safety_bypass_not_decommissioned=DeleteNodeRequest.SafetyBypassNotDecommissioned(),
        )
        await registry.call(Management.DELETE_NODE, delete)
        told = await records(bench)
        node = NEW.node_id
        assert [(each.method, each.object, each.sentence) for each in told] == [
            ("Management.GetRegisterTicket", "", "made the register ticket"),
            ("Curator.RegisterNode", node, "registered, waits for approval"),
            ("Management.ApproveNode", node, "approved: NEW => STANDBY"),
            ("Curator.CommitNode", node, "committed: STANDBY => UP"),
            ("Curator.JoinNode", node, "came back and got its half of the disk key"),
            ("Management.UpdateNodeLabels", node, "set zone=a"),
            ("Management.UpdateNodeRoles", node, told[6].sentence),
            (
                "Management.ConfigureCluster",
                "",
                "changed kubernetes.node_labels_to_synchronize",
            ),
            ("Management.DeleteNode", node, "deleted when UP"),
        ]
        assert "KubernetesWorker" in told[6].sentence
        assert {each.outcome for each in told} == {OUTCOME_DONE}
        assert {each.leader for each in told} == {FIRST.node_id}
        owners = [each.actor for each in told if each.actor.kind == Actor.KIND_USER]
        assert {actor.identity for actor in owners} == {"owner"}
        assert len(owners) == 6
        await check_chain(bench)
        stored = b"".join([each async for _n, each in bench.leader.store.walk(1, len(told))])
        for secret in (ticket.ticket[2:], request.join_key, NEW.unlock_key, NEW.join_key):
            assert secret not in stored
            assert secret.hex().encode() not in stored

    run(scenario)


def test_what_changes_nothing_and_what_nodes_report_has_no_record() -> None:
    async def scenario(bench: Bench) -> None:
        registry = Registry(bench)
        await bench.enrol(NEW)  # directly, so without a caller and without records
        await registry.call(Management.APPROVE_NODE, ApproveNodeRequest(pubkey=NEW.key))
        report = UpdateNodeStatusRequest(node_id=NEW.node_id)
        report.status.external_address = "192.0.2.1"
        await registry.call(Curator.UPDATE_NODE_STATUS, report, NEW.peer)
        assert (await bench.show(NEW)).status.external_address == "192.0.2.1"
        assert await records(bench) == []

    run(scenario)


def test_a_report_does_not_wait_for_records() -> None:
    async def scenario(bench: Bench) -> None:
        lock = bench.leader.store._lock  # held as by a slow transaction
        async with lock:
            report = UpdateNodeStatusRequest(node_id=FIRST.node_id)
            report.status.external_address = "192.0.2.1"
            await Registry(bench).call(Curator.UPDATE_NODE_STATUS, report, FIRST.peer)

    run(scenario)


async def _relabel(registry: Registry, number: int) -> None:
    request = UpdateNodeLabelsRequest(id=FIRST.node_id)
    request.upsert.add(key=f"key-{number}", value="set")
    await registry.call(Management.UPDATE_NODE_LABELS, request)


def test_changes_at_the_same_time_have_one_record_each() -> None:
    async def scenario(bench: Bench) -> None:
        registry = Registry(bench)
        async with asyncio.TaskGroup() as group:
            for number in range(7):
                group.create_task(_relabel(registry, number))
        told = await records(bench)
        assert {each.sentence for each in told} == {f"set key-{n}=set" for n in range(7)}
        assert len(told) == 7
        await check_chain(bench)

    run(scenario)


def test_a_change_that_loses_a_race_leaves_no_record() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.store.transact([], [Put(b"there", b"already")])
        who = bench.leader.auditor.by_itself("Test")
        change = Change(compares=(is_absent(b"there"),), operations=(Put(b"there", b"new"),))
        with who, pytest.raises(ConflictError, match="a concurrent change came first"):
            await bench.leader.store.write(change)
        assert await records(bench) == []
        assert await bench.raw(b"there") == b"already"

    run(scenario)


def test_another_writer_of_the_log_is_noticed_and_followed() -> None:
    async def scenario(bench: Bench) -> None:
        registry = Registry(bench)
        await _relabel(registry, 1)
        second = AuditedStore(
            bench.store,
            fence=bench.leader.store._fence,  # type: ignore[arg-type]  # the same tenure
            clock=bench.leader.own.clock,
            leader_id="another",
        )
        with bench.leader.auditor.by_itself("Test"):
            await second.write(Change(sentence="in between"))
        await _relabel(registry, 2)
        told = await records(bench)
        assert [each.sentence for each in told] == ["set key-1=set", "in between", "set key-2=set"]
        await check_chain(bench)

    run(scenario)


def test_the_oldest_are_dropped_behind_a_checkpoint() -> None:
    async def scenario(bench: Bench) -> None:
        store = bench.leader.store
        store._records_max = 100
        for number in range(250):
            with bench.leader.auditor.by_itself("Test"):
                await store.write(Change(sentence=f"number {number}"))
            await check_chain(bench)
        end = await store.head()
        kept = (await bench.store.range(keys.AUDIT_RECORDS)).items
        assert len(kept) == end.sequence - end.first + 1 <= 100
        told = await records(bench)
        assert told[-1].sentence == "number 249"
        dropped = [each for each in told if each.method == "Audit.Checkpoint"]
        assert dropped[-1].checkpoint.dropped_through == end.first - 1
        assert dropped[-1].sentence == f"dropped the 64 oldest records, up to {end.first - 1}"

    run(scenario)


def _denied(registry: Registry, peer: Peer) -> Any:
    """A node may not report about another."""
    report = UpdateNodeStatusRequest(node_id="metropolis-" + "0" * 32)
    return registry.call(Curator.UPDATE_NODE_STATUS, report, peer)


def test_refusals_of_known_callers_are_recorded_once_and_counted() -> None:
    async def scenario(bench: Bench) -> None:
        registry = Registry(bench)
        for _ in range(5):
            with pytest.raises(PermissionDeniedError):
                await _denied(registry, FIRST.peer)
        with pytest.raises(NotFoundError):
            await registry.call(Management.APPROVE_NODE, ApproveNodeRequest(pubkey=NEW.key))
        await bench.leader.auditor.flush()
        for _ in range(30):
            with pytest.raises(PermissionDeniedError):
                await _denied(registry, FIRST.peer)
        await bench.leader.auditor.flush()
        denied, failed = await records(bench)
        assert (denied.method, denied.outcome, denied.attempts, denied.code) == (
            "Curator.UpdateNodeStatus",
            OUTCOME_DENIED,
            5,
            "permission-denied",
        )
        assert denied.actor.identity == FIRST.node_id
        assert (failed.method, failed.outcome, failed.object, failed.code) == (
            "Management.ApproveNode",
            OUTCOME_FAILED,
            NEW.node_id,
            "not-found",
        )
        await asyncio.sleep(3601)
        await bench.leader.auditor.flush()
        assert (await records(bench))[2].attempts == 30
        await check_chain(bench)

    run(scenario)


def test_strangers_are_counted_and_failed_reads_are_not_news() -> None:
    async def scenario(bench: Bench) -> None:
        auditor = bench.leader.auditor
        for _ in range(3):
            auditor.refused(
                Management.GET_NODES, Peer(kind=PeerKind.ANONYMOUS), UnauthenticatedError("who?")
            )
        auditor.refused(Management.GET_NODES, OWNER, InvalidArgumentError("no filter"))
        with pytest.raises(MetropolisError):
            await Registry(bench).call(Curator.COMMIT_NODE, commit_request(NEW), NEW.stranger)
        request = RegisterNodeRequest(register_ticket=b"guessed", join_key=NEW.join_key)
        with pytest.raises(PermissionDeniedError):
            await Registry(bench).call(Curator.REGISTER_NODE, request, NEW.stranger)
        await auditor.flush()
        assert await records(bench) == []
        assert auditor.unauthenticated == 4

    run(scenario)


@pytest.mark.parametrize("damage", [Delete(keys.AUDIT_HEAD), Put(keys.AUDIT_HEAD, b"\xff")])
def test_a_log_that_lost_its_end_goes_on_and_says_so(damage: Put | Delete) -> None:
    async def scenario(bench: Bench) -> None:
        registry = Registry(bench)
        await _relabel(registry, 1)
        await bench.store.transact([], [damage])
        await _relabel(registry, 2)
        told = await records(bench)
        assert [each.method for each in told] == [
            "Management.UpdateNodeLabels",
            "Audit.Recover",
            "Management.UpdateNodeLabels",
        ]
        assert told[1].outcome == OUTCOME_FAILED
        await check_chain(bench)

    run(scenario)


def test_a_new_leader_finds_tampering_says_so_and_goes_on() -> None:
    async def scenario(bench: Bench) -> None:
        registry = Registry(bench)
        for number in range(4):
            await _relabel(registry, number)
        assert await bench.leader.auditor.verify() is None
        key = keys.audit_record(2)
        forged = decode(await bench.raw(key) or b"")
        forged.sentence = "nothing happened"
        await bench.store.transact([], [Put(key, forged.SerializeToString(deterministic=True))])
        broken = await bench.leader.auditor.verify()
        assert broken is not None
        assert broken.position == 2
        assert broken.reason == "it was changed: record 3 names another hash for it"
        assert "The audit log is not what was written" in bench.log_text()
        await _relabel(registry, 9)
        assert (await records(bench))[-1].sentence == "set key-9=set"

    run(scenario)


def test_followers_see_every_new_record() -> None:
    async def scenario(bench: Bench) -> None:
        registry = Registry(bench)
        await _relabel(registry, 1)
        call: Call[ListRequest, ListResponse] = Call(OWNER, ListRequest(follow=True))
        task = bench.group.create_task(list_records(bench.leader, call))
        await call.wait_sent(1)
        for number in range(2, 5):
            await _relabel(registry, number)
        await call.wait_sent(4)
        assert [response.sequence for response in call.sent] == [1, 2, 3, 4]
        task.cancel()

    run(scenario)


def test_what_is_asked_for_is_what_comes() -> None:
    async def scenario(bench: Bench) -> None:
        registry = Registry(bench)
        await _relabel(registry, 1)
        bench.leader.own.clock.step(3600)  # type: ignore[attr-defined]  # simulated
        await registry.call(Management.GET_REGISTER_TICKET, GetRegisterTicketRequest())
        await _relabel(registry, 2)

        async def sequences(**wanted: Any) -> list[int]:
            return [each.sequence for each in await records(bench, ListRequest(**wanted))]

        assert await sequences(newest_first=True) == [3, 2, 1]
        assert await sequences(limit=2) == [2, 3]
        assert await sequences(limit=2, newest_first=True) == [3, 2]
        assert await sequences(user="owner") == [1, 2, 3]
        assert await sequences(user="own") == []
        assert await sequences(method="nodelabels") == [1, 3]
        assert await sequences(node=FIRST.node_id[11:15]) == [1, 3]
        assert await sequences(node=FIRST.node_id) == [1, 3]
        assert await sequences(outcome=OUTCOME_DENIED) == []
        second = (await records(bench))[1]
        assert await sequences(since=second.time) == [2, 3]
        for nonsense in (
            ListRequest(newest_first=True, follow=True),
            ListRequest(user="x" * 300),
            ListRequest(outcome=9),  # type: ignore[arg-type]
        ):
            with pytest.raises(InvalidArgumentError):
                await records(bench, nonsense)

    run(scenario)


def test_nobody_acts_outside_of_calls() -> None:
    async def scenario(bench: Bench) -> None:
        with acting(None):
            await bench.leader.store.write(Change(operations=(Put(b"a", b"b"),)))
        assert await records(bench) == []

    run(scenario)


def test_explain_tells_of_a_broken_log_where_it_lies() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        bench.leader.auditor.problem = "record 2: it cannot be read"
        codes = {}
        for one in (FIRST, NEW):
            request = ExplainNodeRequest(node_id=one.node_id)
            answer = await explain_node(bench.leader, request, OWNER)
            codes[one.number] = [finding.code for finding in answer.findings]
        assert "AUDIT_LOG_BROKEN" in codes[1]
        assert "AUDIT_LOG_BROKEN" not in codes[2]

    run(scenario)


def test_passwords_tickets_and_keys_of_users_are_not_in_it() -> None:
    async def scenario(bench: Bench) -> None:
        registry = Registry(bench)
        granted = Grants(roles=["viewer"])
        await registry.call(Users.CREATE_USER, CreateUserRequest(name="ada", grants=granted))
        issued = await registry.call(Users.ISSUE_PASSWORD, IssuePasswordRequest(user="ada"))
        rotated = await registry.call(
            DecommissionNodes.ROTATE_REGISTER_TICKET, RotateRegisterTicketRequest()
        )
        await registry.call(Users.REVOKE, RevokeRequest(user="ada", grants=granted))
        await registry.call(Users.DELETE_USER, DeleteUserRequest(name="ada"))
        told = await records(bench)
        assert [(each.object, each.sentence) for each in told] == [
            ("ada", "created; holds role viewer"),
            ("ada", "issued a one-time password"),
            ("", "replaced the register ticket"),
            ("ada", "now holds nothing"),
            ("ada", "deleted, with every certificate"),
        ]
        stored = b"".join([each async for _n, each in bench.leader.store.walk(1, len(told))])
        assert issued.password
        for secret in (issued.password.encode(), rotated.ticket[2:]):
            assert secret not in stored

    run(scenario)


def test_what_the_leader_does_by_itself_is_recorded_as_its_own() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        await make_member(bench, NEW)
        record = await bench.leader.load(NEW.node_id)
        roles = Roles(kubernetes_worker=True)
        await bench.leader.save(record.with_roles(roles, None))  # the member remains
        with bench.leader.auditor.by_itself("Leader.Synchronize"):
            sentence = await synchronize(bench.leader)
        (told,) = await records(bench)
        assert told.sentence == sentence
        assert (told.actor.kind, told.actor.identity) == (Actor.KIND_LEADER, FIRST.node_id)
        assert (told.method, told.object) == ("Leader.Synchronize", NEW.node_id)

    run(scenario)
