# SPDX-License-Identifier: Apache-2.0
"""What operators do to the cluster and to its nodes; roles and deletion are tested apart."""

import asyncio

import pytest
from typing_extensions import override

from metropolis.api.common_pb2 import (
    NODE_STATE_NEW,
    NODE_STATE_UP,
    NODE_TPM_USAGE_PRESENT_AND_USED,
    ClusterConfiguration,
)
from metropolis.api.curator_pb2 import GetConsensusStatusRequest
from metropolis.api.introspection_pb2 import ExplainNodeRequest
from metropolis.api.management_pb2 import (
    ApproveNodeRequest,
    ConfigureClusterRequest,
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
from metropolis.rpc.status import NotLeaderError
from unit.cluster.harness import (
    FIRST,
    OWNER,
    Bench,
    Call,
    commit_request,
    delete,
    machine,
    run,
    set_roles,
)

NEW, OTHER = machine(2), machine(3)


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
