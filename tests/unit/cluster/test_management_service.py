# SPDX-License-Identifier: Apache-2.0
"""What operators do to the cluster and to its nodes."""

import asyncio
from dataclasses import replace

import pytest
from typing_extensions import override

from metropolis.api.common_pb2 import (
    NODE_STATE_NEW,
    NODE_STATE_UP,
    NODE_TPM_USAGE_PRESENT_AND_USED,
    ClusterConfiguration,
)
from metropolis.api.curator_pb2 import GetConsensusStatusRequest, GetConsensusStatusResponse
from metropolis.api.introspection_pb2 import ExplainNodeRequest
from metropolis.api.management_pb2 import (
    ApproveNodeRequest,
    ConfigureClusterRequest,
    DecommissionNodeRequest,
    DeleteNodeRequest,
    GetClusterInfoRequest,
    GetNodesRequest,
    GetRegisterTicketRequest,
    Node,
    UpdateNodeLabelsRequest,
    UpdateNodeRolesRequest,
)
from metropolis.base.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    OutOfRangeError,
    UnavailableError,
    UnimplementedError,
)
from metropolis.base.ids import node_id_from_public_key
from metropolis.cluster.planner.health import HEARTBEAT_TIMEOUT_S
from metropolis.cluster.planner.reconfigure import default_configuration
from metropolis.cluster.services import introspection, management
from metropolis.cluster.services.curator import get_consensus_status
from metropolis.cluster.services.enrolment import commit_node
from metropolis.cluster.services.nodes import get_nodes
from metropolis.cluster.state import keys, pki
from metropolis.cluster.sync import synchronize
from metropolis.consensus.store import Delete, Put
from metropolis.pki.certificates import serial_number
from metropolis.rpc.status import NotLeaderError
from unit.cluster.harness import (
    FIRST,
    OWNER,
    Bench,
    Call,
    Machine,
    commit_request,
    machine,
    run,
)

NEW, OTHER = machine(2), machine(3)
HAS_ROLES = DeleteNodeRequest.SafetyBypassHasRoles()
NOT_DECOMMISSIONED = DeleteNodeRequest.SafetyBypassNotDecommissioned()


async def set_roles(bench: Bench, who: Machine, **roles: bool) -> None:
    request = UpdateNodeRolesRequest(id=who.node_id, **roles)  # type: ignore[arg-type]
    await management.update_node_roles(bench.leader, request, OWNER)


async def held(bench: Bench, who: Machine) -> tuple[str, ...]:
    record = await bench.leader.load(who.node_id)
    return record.roles.names


async def delete(bench: Bench, who: Machine, *, roles: bool = False, force: bool = False) -> None:
    request = DeleteNodeRequest(
        id=who.node_id,
        safety_bypass_has_roles=HAS_ROLES if roles else None,
        safety_bypass_not_decommissioned=NOT_DECOMMISSIONED if force else None,
    )
    await management.delete_node(bench.leader, request, OWNER)


async def make_member(bench: Bench, who: Machine) -> None:
    """Give a node the role, let its member start and let it be promoted."""
    await asyncio.sleep(6)  # until the store counts every member as connected
    await set_roles(bench, who, consensus_member=True)
    bench.start_member(who)
    for member in await bench.membership.members():
        if member.is_learner:
            await bench.membership.promote(member.member_id)


def test_the_register_ticket_is_made_once_and_has_34_bytes() -> None:
    async def scenario(bench: Bench) -> None:
        tickets = [
            (
                await management.get_register_ticket(
                    bench.leader, GetRegisterTicketRequest(), OWNER
                )
            ).ticket
            for _ in range(2)
        ]
        assert tickets[0] == tickets[1]
        assert tickets[0][:2] == b"\x0a\x20"
        assert len(tickets[0]) == 34

    run(scenario)


def test_cluster_info_lists_members_ca_and_configuration() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.report(FIRST, "192.0.2.1")
        await bench.register(NEW)
        info = await management.get_cluster_info(bench.leader, GetClusterInfoRequest(), OWNER)
        (listed,) = info.cluster_directory.nodes
        assert listed.id == FIRST.node_id
        assert listed.addresses[0].host == "192.0.2.1"
        assert info.ca_certificate == bench.born.ca_certificate
        assert info.cluster_configuration == default_configuration()

    run(scenario)


@pytest.mark.parametrize("damage", [b"\xff\xff", None])
def test_cluster_info_without_a_readable_configuration_still_answers(damage: bytes | None) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.report(FIRST, "192.0.2.1")
        if damage is None:
            await bench.store.transact([], [Delete(keys.CONFIGURATION)])
        else:
            await bench.store.transact([], [Put(keys.CONFIGURATION, damage)])
        info = await management.get_cluster_info(bench.leader, GetClusterInfoRequest(), OWNER)
        assert info.cluster_directory.nodes
        assert not info.HasField("cluster_configuration")

    run(scenario)


def test_nodes_are_shown_as_clients_need_them() -> None:
    async def scenario(bench: Bench) -> None:
        (shown,) = await bench.list()
        assert shown.pubkey == FIRST.key
        assert shown.id == FIRST.node_id
        assert shown.state == NODE_STATE_UP
        assert shown.tpm_usage == NODE_TPM_USAGE_PRESENT_AND_USED
        assert not shown.HasField("status")
        assert shown.HasField("labels")
        assert shown.roles.HasField("consensus_member")
        assert shown.roles.HasField("kubernetes_controller")
        assert not shown.roles.consensus_member.ByteSize()  # nothing but its presence
        assert shown.time_since_heartbeat.seconds == 9223372036
        assert shown.time_since_heartbeat.nanos == 854775807

    run(scenario)


def test_a_worker_without_roles_still_has_the_field() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.register(NEW)
        assert (await bench.show(NEW)).HasField("roles")

    run(scenario)


def test_filters_select_nodes() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.register(NEW)
        await set_roles(bench, NEW, kubernetes_worker=True)
        bench.leader.heartbeats.hear(FIRST.node_id)

        async def ids(condition: str) -> set[str]:
            return {node.id for node in await bench.list(condition)}

        both = {FIRST.node_id, NEW.node_id}
        assert await ids("") == both
        assert await ids("node.state == NODE_STATE_UP") == {FIRST.node_id}
        assert await ids("node.state == NODE_STATE_NEW") == {NEW.node_id}
        assert await ids("has(node.roles.kubernetes_worker)") == {NEW.node_id}
        assert await ids("node.time_since_heartbeat < duration('6s')") == {FIRST.node_id}
        assert await ids("node.time_since_heartbeat > duration('6s')") == {NEW.node_id}
        assert await ids("node.health == HEALTH_HEALTHY") == {FIRST.node_id}
        with pytest.raises(InvalidArgumentError):
            await ids("nonsense")

    run(scenario)


def test_a_slow_reader_of_the_list_blocks_nobody() -> None:
    """The original holds its lock while it streams."""

    class Stuck(Call[GetNodesRequest, Node]):
        @override
        async def send(self, _message: Node) -> None:
            await asyncio.get_running_loop().create_future()

    async def scenario(bench: Bench) -> None:
        reader = bench.group.create_task(get_nodes(bench.leader, Stuck(OWNER, GetNodesRequest())))
        await asyncio.sleep(1)
        await bench.enrol(NEW, address="192.0.2.2")
        assert (await bench.show(NEW)).status.external_address == "192.0.2.2"
        reader.cancel()

    run(scenario)


def test_health_follows_heartbeats_and_tenure() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.register(NEW)

        async def health() -> Node.Health.ValueType:
            return (await bench.show(FIRST)).health

        assert await health() == Node.HEALTH_UNKNOWN
        await asyncio.sleep(HEARTBEAT_TIMEOUT_S + 1)
        assert await health() == Node.HEALTH_HEARTBEAT_TIMEOUT
        bench.leader.heartbeats.hear(FIRST.node_id)
        assert await health() == Node.HEALTH_HEALTHY
        await asyncio.sleep(HEARTBEAT_TIMEOUT_S - 1)
        assert await health() == Node.HEALTH_HEALTHY
        await asyncio.sleep(2)
        assert await health() == Node.HEALTH_HEARTBEAT_TIMEOUT
        assert (await bench.show(NEW)).health == Node.HEALTH_UNKNOWN

    run(scenario)


def test_approval_needs_a_known_whole_key() -> None:
    async def scenario(bench: Bench) -> None:
        for key, error in (
            (b"", InvalidArgumentError),
            (b"x" * 31, InvalidArgumentError),
            (NEW.key, NotFoundError),
        ):
            with pytest.raises(error):
                await management.approve_node(bench.leader, ApproveNodeRequest(pubkey=key), OWNER)
        await bench.register(NEW)
        twin = NEW.key[:16] + b"another half key"
        assert node_id_from_public_key(twin) == NEW.node_id
        with pytest.raises(NotFoundError):
            await management.approve_node(bench.leader, ApproveNodeRequest(pubkey=twin), OWNER)
        assert (await bench.show(NEW)).state == NODE_STATE_NEW

    run(scenario)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (UpdateNodeRolesRequest(), InvalidArgumentError),
        (UpdateNodeRolesRequest(pubkey=b"short"), InvalidArgumentError),
        (UpdateNodeRolesRequest(id="nonsense"), InvalidArgumentError),
        (UpdateNodeRolesRequest(id=f"{FIRST.node_id}/x"), InvalidArgumentError),
        (UpdateNodeRolesRequest(id=NEW.node_id), NotFoundError),
        (UpdateNodeRolesRequest(pubkey=NEW.key), NotFoundError),
    ],
)
def test_a_request_names_a_node_properly(
    request_: UpdateNodeRolesRequest, error: type[Exception]
) -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(error):
            await management.update_node_roles(bench.leader, request_, OWNER)

    run(scenario)


def test_roles_are_given_and_taken_one_by_one() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        await set_roles(bench, NEW, kubernetes_worker=True)
        assert await held(bench, NEW) == ("KubernetesWorker",)
        await set_roles(bench, NEW)
        assert await held(bench, NEW) == ("KubernetesWorker",)
        await set_roles(bench, NEW, kubernetes_worker=False)
        assert await held(bench, NEW) == ()
        with pytest.raises(FailedPreconditionError):
            await set_roles(bench, NEW, kubernetes_controller=True)
        await asyncio.sleep(6)
        await set_roles(bench, NEW, consensus_member=True, kubernetes_controller=True)
        assert await held(bench, NEW) == ("ConsensusMember", "KubernetesController")

    run(scenario)


def test_a_new_consensus_member_is_told_whom_it_finds() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        await asyncio.sleep(6)
        await set_roles(bench, NEW, consensus_member=True)
        told = (await bench.leader.load(NEW.node_id)).message.roles.consensus_member
        assert told.ca_certificate == bench.born.consensus.ca_certificate
        assert told.initial_crl == bench.born.consensus.initial_crl
        assert [(peer.name, peer.url) for peer in told.peers] == [
            (FIRST.node_id, f"https://{FIRST.node_id}:7834")
        ]
        status = await get_consensus_status(bench.leader, GetConsensusStatusRequest(), OWNER)
        member = GetConsensusStatusResponse.EtcdMember
        assert {(entry.id, entry.status) for entry in status.etcd_member} == {
            (FIRST.node_id, member.STATUS_FULL),
            (NEW.node_id, member.STATUS_LEARNER),
        }
        await set_roles(bench, NEW, consensus_member=True)  # a repeat changes nothing
        again = (await bench.leader.load(NEW.node_id)).message.roles.consensus_member
        assert again == told

    run(scenario)


def test_a_second_learner_has_to_wait() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        await bench.enrol(OTHER)
        await asyncio.sleep(6)
        await set_roles(bench, NEW, consensus_member=True)
        with pytest.raises(UnavailableError, match="could not add node"):
            await set_roles(bench, OTHER, consensus_member=True)
        assert await held(bench, OTHER) == ()

    run(scenario)


def test_a_request_that_cannot_be_carried_out_whole_changes_nothing() -> None:
    """The original removes the consensus member first and then finds out."""

    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        await make_member(bench, NEW)
        with pytest.raises(FailedPreconditionError):
            await set_roles(bench, NEW, consensus_member=False, kubernetes_controller=True)
        assert len(await bench.membership.members()) == 2
        assert await held(bench, NEW) == ("ConsensusMember",)

    run(scenario)


def test_a_removed_member_is_refused_by_its_peers_and_may_come_back() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        await make_member(bench, NEW)
        await set_roles(bench, NEW, kubernetes_controller=True)
        before = (await bench.leader.load(NEW.node_id)).message.roles.consensus_member
        await asyncio.sleep(6)
        await set_roles(bench, NEW, consensus_member=False, kubernetes_controller=False)
        assert await held(bench, NEW) == ()
        assert len(await bench.membership.members()) == 1
        crl = await bench.raw(pki.CONSENSUS.crl)
        assert crl is not None
        assert pki.read_crl(crl) == ((serial_number(before.peer_certificate),), 2)
        await set_roles(bench, NEW, consensus_member=True)
        after = (await bench.leader.load(NEW.node_id)).message.roles.consensus_member
        assert serial_number(after.peer_certificate) != serial_number(before.peer_certificate)
        assert after.initial_crl == crl

    run(scenario)


def test_the_last_voter_keeps_its_role() -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(FailedPreconditionError, match="only voting member"):
            await set_roles(bench, FIRST, consensus_member=False, kubernetes_controller=False)
        assert await held(bench, FIRST) == ("ConsensusMember", "KubernetesController")

    run(scenario)


def test_decommissioning_says_that_it_comes_later() -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(UnimplementedError, match="later release") as caught:
            await management.decommission_node(
                bench.leader, DecommissionNodeRequest(id=FIRST.node_id), OWNER
            )
        assert caught.value.remedy

    run(scenario)


def test_a_node_is_deleted_only_when_nothing_is_lost_or_the_caller_insists() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        with pytest.raises(FailedPreconditionError, match="decommissioned first"):
            await delete(bench, NEW)
        await set_roles(bench, NEW, kubernetes_worker=True)
        with pytest.raises(FailedPreconditionError, match="KubernetesWorker"):
            await delete(bench, NEW, force=True)
        with pytest.raises(FailedPreconditionError, match="decommissioned first"):
            await delete(bench, NEW, roles=True)
        await delete(bench, NEW, roles=True, force=True)
        with pytest.raises(NotFoundError):
            await delete(bench, NEW, roles=True, force=True)
        left = (await bench.store.range(b"namespaced:")).items
        assert not [item.key for item in left if NEW.node_id.encode() in item.key + item.value]

    run(scenario)


def test_a_machine_that_waits_is_deleted_without_insisting() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.register(NEW)
        await delete(bench, NEW)
        await bench.register(NEW)
        await management.approve_node(bench.leader, ApproveNodeRequest(pubkey=NEW.key), OWNER)
        await delete(bench, NEW)
        assert len(await bench.list()) == 1

    run(scenario)


def test_deleting_a_member_of_the_consensus_removes_it_there_first() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        await make_member(bench, NEW)
        await asyncio.sleep(6)
        await delete(bench, NEW, roles=True, force=True)
        assert len(await bench.membership.members()) == 1
        sentence = await synchronize(bench.leader)
        assert sentence is not None
        assert sentence.startswith(f"Renewing what {FIRST.node_id} is told")
        assert await synchronize(bench.leader) is None
        told = (await bench.leader.load(FIRST.node_id)).message.roles.consensus_member
        assert told.initial_crl == await bench.raw(pki.CONSENSUS.crl)

    run(scenario)


def test_the_leader_does_not_delete_itself() -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(FailedPreconditionError, match="leads the cluster"):
            await delete(bench, FIRST, roles=True, force=True)

    run(scenario)


def test_a_damaged_record_hides_nobody_and_can_be_deleted() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        await bench.store.transact([], [Put(keys.node(NEW.node_id), b"\xff\xff\xff")])
        assert [node.id for node in await bench.list()] == [FIRST.node_id]
        assert [node.id for node in await bench.list()] == [FIRST.node_id]
        assert bench.log_text().count("is damaged") == 1
        with pytest.raises(FailedPreconditionError, match="damaged"):
            await delete(bench, NEW, force=True)
        await delete(bench, NEW, roles=True, force=True)
        assert await bench.raw(keys.node(NEW.node_id)) is None

    run(scenario)


def test_labels_are_changed_all_or_none() -> None:
    async def scenario(bench: Bench) -> None:
        async def relabel(upsert: dict[str, str], *unwanted: str) -> None:
            request = UpdateNodeLabelsRequest(id=FIRST.node_id, delete=unwanted)
            for key, value in upsert.items():
                request.upsert.add(key=key, value=value)
            await management.update_node_labels(bench.leader, request, OWNER)

        async def labels() -> dict[str, str]:
            return {pair.key: pair.value for pair in (await bench.show(FIRST)).labels.pairs}

        await relabel({"b": "1", "a": "2"}, "absent")
        assert list((await labels()).items()) == [("a", "2"), ("b", "1")]
        await relabel({"c": ""}, "a")
        assert await labels() == {"b": "1", "c": ""}
        for upsert, unwanted in (({"bad key": ""}, ()), ({"x": "1"}, ("x",)), ({}, ("b", "b"))):
            with pytest.raises(InvalidArgumentError):
                await relabel(upsert, *unwanted)
        with pytest.raises(OutOfRangeError):
            await relabel({f"k{number}": "" for number in range(127)})
        assert await labels() == {"b": "1", "c": ""}

    run(scenario)


def test_bad_labels_are_refused_before_the_node_is_looked_for() -> None:
    async def scenario(bench: Bench) -> None:
        request = UpdateNodeLabelsRequest(id=NEW.node_id, delete=["bad key"])
        with pytest.raises(InvalidArgumentError):
            await management.update_node_labels(bench.leader, request, OWNER)

    run(scenario)


def test_the_configuration_is_merged_and_stored() -> None:
    async def scenario(bench: Bench) -> None:
        base, new = default_configuration(), default_configuration()
        base.kubernetes.SetInParent()
        new.kubernetes.node_labels_to_synchronize.add(regexp="^a$")
        request = ConfigureClusterRequest(base_config=base, new_config=new)
        request.update_mask.paths.append("kubernetes.node_labels_to_synchronize")
        answer = await management.configure_cluster(bench.leader, request, OWNER)
        assert answer.resulting_config == new
        stored = await bench.raw(keys.CONFIGURATION)
        assert stored is not None
        assert ClusterConfiguration.FromString(stored) == new
        with pytest.raises(FailedPreconditionError):
            await management.configure_cluster(bench.leader, request, OWNER)

    run(scenario)


@pytest.mark.parametrize("missing", ["update_mask", "new_config"])
def test_an_incomplete_configuration_request_is_a_bad_request(missing: str) -> None:
    async def scenario(bench: Bench) -> None:
        request = ConfigureClusterRequest(
            base_config=default_configuration(), new_config=default_configuration()
        )
        request.update_mask.SetInParent()
        request.ClearField(missing)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgumentError, match=missing):
            await management.configure_cluster(bench.leader, request, OWNER)

    run(scenario)


def test_a_node_is_explained() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.register(NEW)
        answer = await introspection.explain_node(
            bench.leader, ExplainNodeRequest(node_id=NEW.node_id), OWNER
        )
        assert answer.node.id == NEW.node_id
        assert [finding.code for finding in answer.findings] == ["NOT_APPROVED"]
        own = await introspection.explain_node(bench.leader, ExplainNodeRequest(), OWNER)
        assert own.node.id == FIRST.node_id
        with pytest.raises(NotFoundError):
            await introspection.explain_node(
                bench.leader, ExplainNodeRequest(node_id=OTHER.node_id), OWNER
            )

    run(scenario)


def test_a_deposed_leader_neither_answers_nor_changes_anything() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.register(NEW)
        await bench.depose()
        before = (await bench.store.range(b"namespaced:")).items
        request = UpdateNodeLabelsRequest(id=FIRST.node_id, delete=["a"])
        calls = (
            bench.list,
            lambda: management.get_cluster_info(bench.leader, GetClusterInfoRequest(), OWNER),
            lambda: management.get_register_ticket(bench.leader, GetRegisterTicketRequest(), OWNER),
            lambda: management.approve_node(
                bench.leader, ApproveNodeRequest(pubkey=NEW.key), OWNER
            ),
            lambda: management.update_node_labels(bench.leader, request, OWNER),
            lambda: set_roles(bench, NEW, consensus_member=True),
            lambda: delete(bench, NEW),
            lambda: bench.report(FIRST, "192.0.2.9"),
            lambda: get_consensus_status(bench.leader, GetConsensusStatusRequest(), OWNER),
            lambda: synchronize(bench.leader),
        )
        for call in calls:
            with pytest.raises(NotLeaderError):
                await call()
        after = (await bench.store.range(b"namespaced:")).items
        assert after == before
        assert len(await bench.membership.members()) == 1

    run(scenario)


def test_a_leader_deposed_while_it_decides_removes_no_member() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        await make_member(bench, NEW)
        await asyncio.sleep(6)
        real = bench.membership

        class Deposing:
            """Lists the members, and meanwhile somebody else is elected."""

            def __getattr__(self, name: str) -> object:
                return getattr(real, name)

            async def members(self) -> object:
                found = await real.members()
                await bench.depose()
                return found

        bench.leader.members = replace(bench.leader.members, membership=Deposing())  # type: ignore[arg-type]
        with pytest.raises(NotLeaderError):
            await set_roles(bench, NEW, consensus_member=False)
        assert len(await real.members()) == 2

    run(scenario)


def test_no_secret_reaches_the_log() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW, address="192.0.2.2")
        await bench.register(OTHER)
        request = commit_request(NEW)
        request.cluster_unlock_key = OTHER.unlock_key
        with pytest.raises(FailedPreconditionError) as caught:
            await commit_node(bench.leader, request, NEW.stranger)
        ticket = await bench.raw(keys.REGISTER_TICKET)
        ca_key = await bench.raw(pki.CLUSTER.key("cluster-ca"))
        assert ticket is not None
        assert ca_key is not None
        text = bench.log_text() + str(caught.value) + repr(await bench.leader.load(NEW.node_id))
        text += repr(bench.born)
        for secret in (ticket[2:], ca_key[:32], NEW.unlock_key, OTHER.unlock_key):
            assert secret.hex() not in text
            assert repr(secret)[2:-1] not in text

    run(scenario)


def test_a_register_ticket_made_twice_at_once_is_one() -> None:
    async def scenario(bench: Bench) -> None:
        answers = await asyncio.gather(
            *(
                management.get_register_ticket(bench.leader, GetRegisterTicketRequest(), OWNER)
                for _ in range(5)
            )
        )
        assert len({answer.ticket for answer in answers}) == 1

    for seed in range(20):
        run(scenario, seed=seed)
