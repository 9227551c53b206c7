# SPDX-License-Identifier: Apache-2.0
"""What a launch does next, from what the cluster says."""

import pytest

from metropolis.api import common_pb2, management_pb2
from metropolis.api.management_pb2 import Node
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.lab.model import Rack, address_of
from metropolis.lab.parameters import bootstrap_parameters, register_parameters
from metropolis.lab.plan import by_number, plan_launch, plan_start
from metropolis.node.parameters import parse_parameters
from metropolis.pki import certificates, keys

MEMBER = ("consensus_member", "kubernetes_controller")


def rack(count: int = 3) -> Rack:
    return Rack(name="r", count=count, proxy_tcp_port=1, program=(), created="", node_ids={})


def node(
    number: int,
    *,
    roles: tuple[str, ...] = MEMBER,
    state: common_pb2.NodeState.ValueType = common_pb2.NODE_STATE_UP,
    health: management_pb2.Node.Health.ValueType = Node.HEALTH_HEALTHY,
    is_known: bool = True,
) -> Node:
    made = Node(id=f"metropolis-{number}", state=state, health=health)
    if is_known:
        made.status.external_address = address_of(number)
    for role in roles:
        getattr(made.roles, role).SetInParent()
    return made


def new(number: int) -> Node:
    return node(number, roles=(), state=common_pb2.NODE_STATE_NEW, is_known=False)


def test_first_the_other_nodes_have_to_register() -> None:
    plan = plan_launch(rack(), [node(0)], voters=1)
    assert plan.awaited == "2 of 3 nodes to register"
    assert not plan.approve
    assert not plan.add_roles


def test_whoever_is_new_is_approved_at_once_without_waiting_for_the_rest() -> None:
    plan = plan_launch(rack(), [node(0), new(1)], voters=1)
    assert [each.id for each in plan.approve] == ["metropolis-1"]
    assert plan.awaited == "1 of 3 nodes to register"


def test_roles_are_given_to_who_is_up_while_others_still_join() -> None:
    standby = node(2, roles=(), state=common_pb2.NODE_STATE_STANDBY, is_known=False)
    plan = plan_launch(rack(), [node(0), node(1, roles=()), standby], voters=1)
    (given,) = plan.add_roles
    assert (given.number, given.node_id) == (1, "metropolis-1")
    assert list(given.names) == ["ConsensusMember", "KubernetesController"]
    assert plan.awaited == "node 2 to join"


def test_the_fourth_node_becomes_a_worker() -> None:
    nodes = [node(0), node(1), node(2), node(3, roles=())]
    (given,) = plan_launch(rack(4), nodes, voters=3).add_roles
    assert list(given.names) == ["KubernetesWorker"]


def test_a_role_that_is_held_is_not_given_again() -> None:
    nodes = [node(0), node(1, roles=("consensus_member",)), node(2)]
    (given,) = plan_launch(rack(), nodes, voters=3).add_roles
    assert list(given.names) == ["KubernetesController"]


@pytest.mark.parametrize(
    ("nodes", "voters", "awaited"),
    [
        ([node(0), node(1), node(2)], 2, "1 of 3 consensus members to vote"),
        (
            [node(0), node(1, health=Node.HEALTH_UNKNOWN), node(2)],
            3,
            "node 1 to be HEALTHY",
        ),
        ([node(0), node(1, is_known=False), node(2)], 3, "node 1 to join"),
        ([node(0), node(1), node(2)], 3, None),
    ],
)
def test_the_launch_ends_only_when_all_vote_and_are_healthy(
    nodes: list[Node], voters: int, awaited: str | None
) -> None:
    assert plan_launch(rack(), nodes, voters=voters).awaited == awaited


def test_a_launched_cluster_belongs_to_its_operator() -> None:
    stripped = node(1, roles=())
    plan = plan_start(rack(), [node(0), stripped, new(2)])
    assert plan.awaited is None
    assert not plan.approve
    assert not plan.add_roles


def test_nodes_are_recognised_by_their_address() -> None:
    found = by_number(rack(), [node(2), new(1), node(0)])
    assert {number: each.id for number, each in found.items()} == {
        0: "metropolis-0",
        2: "metropolis-2",
    }


def test_the_first_node_is_told_what_a_node_accepts() -> None:
    made = bootstrap_parameters(owner_public_key=bytes(32))
    parsed = parse_parameters(made.SerializeToString())
    configuration = parsed.cluster_bootstrap.initial_cluster_configuration
    assert configuration.cluster_domain == "cluster.internal"


def test_the_others_are_told_to_dial_nodes_with_addresses_only() -> None:
    ca = certificates.issue_cluster_ca(keys.generate_key(LinuxEntropy()), serial=1).certificate
    info = management_pb2.GetClusterInfoResponse(ca_certificate=ca)
    info.cluster_directory.nodes.add()
    info.cluster_directory.nodes.add().addresses.add(host="10.1.0.2")
    parsed = parse_parameters(register_parameters(info, ticket=b"t").SerializeToString())
    (dialled,) = parsed.cluster_register.cluster_directory.nodes
    assert dialled.addresses[0].host == "10.1.0.2"
