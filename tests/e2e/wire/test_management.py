# SPDX-License-Identifier: Apache-2.0
"""Management as upstream's metroctl uses it: bytes out, status and bytes back."""

from collections.abc import Iterator

import pytest
from cryptography import x509

from e2e.wire import paths
from e2e.wire.enrolment import Machine, enrolled_node, new_machine, registered_node
from e2e.wire.go_client import (
    FAILED_PRECONDITION,
    INVALID_ARGUMENT,
    NOT_FOUND,
    OK,
    OUT_OF_RANGE,
    UNIMPLEMENTED,
    GoClient,
    Status,
)
from e2e.wire.protobuf_bytes import encode
from e2e.wire.site import BEST_EFFORT, PERMISSIVE, Site

NOBODY = "metropolis-00000000000000000000000000000000"
RULES = "kubernetes.node_labels_to_synchronize"
BYPASS = ((3, b""), (4, b""))


def test_the_register_ticket_has_34_bytes_and_stays_the_same(owner: GoClient) -> None:
    answer = owner.call(paths.GET_REGISTER_TICKET).only_message
    assert answer.numbers == [1]
    ticket = answer.data(1)
    assert (len(ticket), ticket[:2]) == (34, b"\x0a\x20")
    assert owner.call(paths.GET_REGISTER_TICKET).only_message.data(1) == ticket


def test_cluster_info_has_what_an_installer_embeds(site: Site, owner: GoClient) -> None:
    silent, machine = enrolled_node(site), enrolled_node(site)
    assert machine.report(site, "10.1.0.99").code == OK
    info = owner.call(paths.GET_CLUSTER_INFO).only_message
    for each in (silent, machine):  # newcomers refuse a directory with a node without address
        each.delete(owner)
    assert info.numbers == [1, 2, 3]
    assert x509.load_der_x509_certificate(info.data(2)) == site.ca
    nodes = info.message(1).messages(1)
    assert all(set(node.numbers) <= {2, 3} for node in nodes)
    listed = {node.text(3): [each.text(1) for each in node.messages(2)] for node in nodes}
    assert listed == {site.node_id: ["10.1.0.2"], machine.node_id: ["10.1.0.99"]}
    configuration = info.message(3)
    assert configuration.text(4) == "cluster.internal"
    assert (configuration.integer(1), configuration.integer(2)) == (BEST_EFFORT, PERMISSIVE)


def test_upstream_approves_by_the_key_that_it_listed(site: Site, owner: GoClient) -> None:
    machine = registered_node(site)
    for _ in range(2):  # repeating it changes nothing
        assert machine.approve(owner).only_message.numbers == []
    assert machine.commit(site).code == OK
    assert machine.approve(owner).code == OK
    machine.delete(owner)


@pytest.mark.parametrize(
    ("path", "request_bytes", "code"),
    [
        (paths.APPROVE_NODE, b"", INVALID_ARGUMENT),
        (paths.APPROVE_NODE, encode((1, bytes(31))), INVALID_ARGUMENT),
        (paths.APPROVE_NODE, encode((1, bytes(33))), INVALID_ARGUMENT),
        (paths.APPROVE_NODE, encode((1, bytes(32))), NOT_FOUND),
        (paths.UPDATE_NODE_ROLES, b"", INVALID_ARGUMENT),
        (paths.UPDATE_NODE_ROLES, encode((2, 1)), INVALID_ARGUMENT),
        (paths.UPDATE_NODE_ROLES, encode((1, bytes(5)), (2, 1)), INVALID_ARGUMENT),
        (paths.UPDATE_NODE_ROLES, encode((1, bytes(32)), (2, 1)), NOT_FOUND),
        (paths.UPDATE_NODE_ROLES, encode((4, NOBODY), (2, 1)), NOT_FOUND),
        (paths.UPDATE_NODE_ROLES, encode((4, "a/b"), (2, 1)), INVALID_ARGUMENT),
        (paths.UPDATE_NODE_LABELS, b"", INVALID_ARGUMENT),
        (paths.UPDATE_NODE_LABELS, encode((1, bytes(3))), INVALID_ARGUMENT),
        (paths.UPDATE_NODE_LABELS, encode((1, bytes(32))), NOT_FOUND),
        (paths.UPDATE_NODE_LABELS, encode((2, NOBODY)), NOT_FOUND),
        (paths.DELETE_NODE, b"", INVALID_ARGUMENT),
        (paths.DELETE_NODE, encode((1, bytes(31)), *BYPASS), INVALID_ARGUMENT),
        (paths.DELETE_NODE, encode((1, bytes(32)), *BYPASS), NOT_FOUND),
        (paths.DELETE_NODE, encode((2, NOBODY), *BYPASS), NOT_FOUND),
        (paths.DECOMMISSION_NODE, b"", INVALID_ARGUMENT),
        (paths.DECOMMISSION_NODE, encode((1, bytes(31))), INVALID_ARGUMENT),
        (paths.DECOMMISSION_NODE, encode((1, bytes(32))), NOT_FOUND),
        (paths.DECOMMISSION_NODE, encode((4, NOBODY)), NOT_FOUND),
    ],
)
def test_requests_about_no_node_are_refused(
    owner: GoClient, path: str, request_bytes: bytes, code: int
) -> None:
    status = owner.call(path, request_bytes)
    assert status.code == code, status.text
    assert status.text


def roles_of(owner: GoClient, machine: Machine) -> list[int]:
    status = owner.call(paths.GET_NODES, encode((1, f'node.id == "{machine.node_id}"')))
    return list(status.only_message.message(4).numbers)


def test_worker_roles_come_and_go_in_every_state(site: Site, owner: GoClient) -> None:
    machine = registered_node(site)
    by_id, by_key = encode((4, machine.node_id)), encode((1, machine.raw_key))
    for name in (by_id, by_key):
        assert owner.call(paths.UPDATE_NODE_ROLES, name + encode((2, 1))).code == OK
        assert roles_of(owner, machine) == [1]
        assert owner.call(paths.UPDATE_NODE_ROLES, name).code == OK  # asks for nothing
        assert roles_of(owner, machine) == [1]
        assert owner.call(paths.UPDATE_NODE_ROLES, name + encode((2, 0))).code == OK
        assert roles_of(owner, machine) == []
    machine.delete(owner)


def test_a_controller_must_be_a_consensus_member(site: Site, owner: GoClient) -> None:
    machine = registered_node(site)
    wanted = encode((4, machine.node_id), (5, 1))
    status = owner.call(paths.UPDATE_NODE_ROLES, wanted)
    assert (status.code, roles_of(owner, machine)) == (FAILED_PRECONDITION, [])
    # What is asked for together is judged together, and nothing is half done.
    status = owner.call(paths.UPDATE_NODE_ROLES, wanted + encode((3, 0), (2, 1)))
    assert (status.code, roles_of(owner, machine)) == (FAILED_PRECONDITION, [])
    machine.delete(owner)
    status = owner.call(paths.UPDATE_NODE_ROLES, encode((4, site.node_id), (3, 0)))
    assert status.code == FAILED_PRECONDITION


def test_a_node_with_roles_is_deleted_only_on_demand(site: Site, owner: GoClient) -> None:
    machine = registered_node(site)
    assert owner.call(paths.UPDATE_NODE_ROLES, encode((4, machine.node_id), (2, 1))).code == OK
    status = owner.call(paths.DELETE_NODE, encode((2, machine.node_id)))
    assert (status.code, "KubernetesWorker" in status.text) == (FAILED_PRECONDITION, True)
    assert owner.call(paths.DELETE_NODE, encode((2, machine.node_id), (3, b""))).code == OK
    assert owner.call(paths.DELETE_NODE, encode((2, machine.node_id))).code == NOT_FOUND


def test_a_member_is_deleted_only_on_demand(site: Site, owner: GoClient) -> None:
    machine = enrolled_node(site)
    status = owner.call(paths.DELETE_NODE, encode((2, machine.node_id)))
    assert status.code == FAILED_PRECONDITION
    assert "node must be decommissioned first" in status.text
    assert owner.call(paths.DELETE_NODE, encode((1, machine.raw_key), (4, b""))).code == OK
    status = owner.call(paths.DELETE_NODE, encode((2, site.node_id)))
    assert (status.code, "ConsensusMember" in status.text) == (FAILED_PRECONDITION, True)


def pair(key: str, value: str = "") -> tuple[int, bytes]:
    return (3, encode((1, key), (2, value)))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ([pair("rack", "7"), pair("example.com/zone", "a")], OK),
        ([pair("rack", "")], OK),
        ([(4, "rack"), (4, "never-was")], OK),
        ([], OK),
        ([pair("")], INVALID_ARGUMENT),
        ([pair("-rack")], INVALID_ARGUMENT),
        ([pair("a/b/c")], INVALID_ARGUMENT),
        ([pair("UPPER.example/x")], INVALID_ARGUMENT),
        ([pair("/x")], INVALID_ARGUMENT),
        ([pair("x" * 64)], INVALID_ARGUMENT),
        ([pair("x" * 63, "y" * 63)], OK),
        ([(4, "x" * 63)], OK),
        ([pair("x", "y" * 64)], INVALID_ARGUMENT),
        ([pair("x", "has space")], INVALID_ARGUMENT),
        ([pair("x", "ends-")], INVALID_ARGUMENT),
        ([(4, "-bad")], INVALID_ARGUMENT),
        ([pair("x", "1"), pair("x", "2")], INVALID_ARGUMENT),
        ([(4, "x"), (4, "x")], INVALID_ARGUMENT),
        ([pair("x", "1"), (4, "x")], INVALID_ARGUMENT),
        ([pair(f"x{number}") for number in range(129)], OUT_OF_RANGE),
    ],
)
def test_labels_follow_upstreams_rules(
    labelled: Machine, owner: GoClient, changes: list[tuple[int, str | bytes]], code: int
) -> None:
    status = owner.call(paths.UPDATE_NODE_LABELS, encode((2, labelled.node_id), *changes))
    assert status.code == code, status.text


def test_a_bad_label_change_changes_nothing(labelled: Machine, owner: GoClient) -> None:
    status = owner.call(
        paths.UPDATE_NODE_LABELS,
        encode((2, labelled.node_id), pair("unseen", "1"), pair("-bad")),
    )
    assert status.code == INVALID_ARGUMENT
    node = owner.call(paths.GET_NODES, encode((1, f'node.id == "{labelled.node_id}"')))
    keys = [each.text(1) for each in node.only_message.message(9).messages(1)]
    assert "unseen" not in keys


@pytest.fixture(scope="module")
def labelled(site: Site) -> Iterator[Machine]:
    """A machine whose labels change."""
    machine = registered_node(site)
    yield machine
    with site.as_owner() as owner:
        machine.delete(owner)


def rules(*regexps: str) -> bytes:
    return encode((3, encode(*((3, encode((1, regexp))) for regexp in regexps))))


def mask(*paths_: str) -> tuple[int, bytes]:
    return (3, encode(*((1, path) for path in paths_)))


def configured(status: Status) -> list[str]:
    """The label rules that an answer holds."""
    kubernetes = status.only_message.message(1).message(3)
    return [rule.text(1) for rule in kubernetes.messages(3)]


def test_upstreams_configure_sends_no_base_and_gets_the_result(owner: GoClient) -> None:
    for wanted in (["^a/", r"b\.c"], ["d"], []):
        status = owner.call(paths.CONFIGURE_CLUSTER, encode((2, rules(*wanted)), mask(RULES)))
        assert configured(status) == wanted
        info = owner.call(paths.GET_CLUSTER_INFO).only_message
        assert info.message(3).raw == status.only_message.data(1)


def test_a_base_must_be_what_is_stored(owner: GoClient) -> None:
    owner.call(paths.CONFIGURE_CLUSTER, encode((2, rules("old")), mask(RULES)))
    change = encode((2, rules("new")), mask(RULES))
    status = owner.call(paths.CONFIGURE_CLUSTER, encode((1, rules("stale"))) + change)
    assert status.code == FAILED_PRECONDITION
    status = owner.call(paths.CONFIGURE_CLUSTER, encode((1, rules("old"))) + change)
    assert configured(status) == ["new"]
    owner.call(paths.CONFIGURE_CLUSTER, encode((2, rules()), mask(RULES)))


@pytest.mark.parametrize(
    ("request_bytes", "code"),
    [
        pytest.param(b"", INVALID_ARGUMENT, id="nothing"),
        pytest.param(encode((2, rules("x"))), INVALID_ARGUMENT, id="no mask"),
        pytest.param(encode(mask(RULES)), INVALID_ARGUMENT, id="no new"),
        pytest.param(encode((2, rules("x")), mask()), OK, id="empty mask"),
        pytest.param(encode((2, rules("x")), mask("kubernetes")), INVALID_ARGUMENT, id="message"),
        pytest.param(encode((2, b""), mask(RULES)), INVALID_ARGUMENT, id="new without kubernetes"),
        pytest.param(
            encode((1, b""), (2, rules("x")), mask(RULES)),
            INVALID_ARGUMENT,
            id="base without kubernetes",
        ),
        pytest.param(encode((2, rules("x")), mask("nonsense")), INVALID_ARGUMENT, id="unknown"),
        pytest.param(
            encode((2, encode((4, "other.example"))), mask("cluster_domain")),
            INVALID_ARGUMENT,
            id="domain",
        ),
        pytest.param(
            encode((2, rules("x")), mask("kubernetes.nodeLabelsToSynchronize")),
            INVALID_ARGUMENT,
            id="camel case",
        ),
    ],
)
def test_configurations_that_cannot_be_are_refused(
    owner: GoClient, request_bytes: bytes, code: int
) -> None:
    status = owner.call(paths.CONFIGURE_CLUSTER, request_bytes)
    assert status.code == code, status.text
    if code == OK:
        assert configured(status) == []


def test_what_cannot_be_decommissioned_says_what_to_do_first(site: Site, owner: GoClient) -> None:
    status = owner.call(paths.DECOMMISSION_NODE, encode((4, site.node_id)))
    assert (status.code, "only voting member" in status.text) == (FAILED_PRECONDITION, True)
    waiting = registered_node(site)
    status = owner.call(paths.DECOMMISSION_NODE, encode((4, waiting.node_id)))
    assert (status.code, "never in service" in status.text) == (FAILED_PRECONDITION, True)
    waiting.delete(owner)


def test_what_this_build_has_not_says_so(site: Site, owner: GoClient) -> None:
    machine = enrolled_node(site)
    with site.curator(machine.credentials) as node:
        kubelet = encode((1, encode((1, bytes(32)), (2, bytes(32)), (3, bytes(32)))))
        status = node.call(paths.ISSUE_CERTIFICATE, kubelet)
    machine.delete(owner)
    assert (status.code, "Kubernetes" in status.text) == (UNIMPLEMENTED, True)
    with site.as_owner(paths.NODE_MANAGEMENT_TCP_PORT) as node:
        for path in (paths.REBOOT, paths.UPDATE_NODE):
            status = node.call(path, encode((1, 1)))
            assert (status.code, len(status.text) > 40) == (UNIMPLEMENTED, True)


@pytest.mark.parametrize("tcp_port", [paths.CURATOR_TCP_PORT, paths.NODE_MANAGEMENT_TCP_PORT])
@pytest.mark.parametrize(
    "path",
    [
        "/metropolis.proto.api.Management/Nonsense",
        "/nonsense.Service/Method",
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/",
        "/metropolis.proto.api.Management",
        "nonsense",
    ],
)
def test_unknown_methods_are_unimplemented(site: Site, tcp_port: int, path: str) -> None:
    with site.as_owner(tcp_port) as client:
        status = client.call(path)
        assert (status.code, status.is_trailers_only) == (UNIMPLEMENTED, True)


def test_the_last_member_is_not_decommissioned(site: Site, owner: GoClient) -> None:
    status = owner.call(paths.DECOMMISSION_NODE, encode((4, site.node_id)))
    assert status.code in (UNIMPLEMENTED, FAILED_PRECONDITION)
    assert len(status.text) > 40  # a reason, not only a word


def test_nobody_deletes_what_never_was(owner: GoClient) -> None:
    machine = new_machine()
    status = owner.call(paths.DELETE_NODE, encode((2, machine.node_id), *BYPASS))
    assert status.code == NOT_FOUND
