# SPDX-License-Identifier: Apache-2.0
"""GetNodes as `metroctl node list` and every per-node command read it."""

import pytest

from e2e.wire import paths
from e2e.wire.enrolment import enrolled_node, registered_node
from e2e.wire.go_client import INVALID_ARGUMENT, OK, GoClient, Status
from e2e.wire.protobuf_bytes import Fields, encode
from e2e.wire.site import FOUNDER_LABELS, Site

NEW, STANDBY, UP = 1, 2, 3
HEALTH_UNKNOWN, HEALTHY = 1, 2
TPM_NOT_PRESENT = 1
NEVER_HEARD = (9223372036, 854775807)  # the largest duration of Go, as metroctl prints it


def get_nodes(client: GoClient, text: str = "") -> Status:
    return client.call(paths.GET_NODES, encode((1, text)) if text else b"")


def found(client: GoClient, text: str = "") -> list[Fields]:
    status = get_nodes(client, text)
    assert status.code == OK, status.text
    return [Fields(message) for message in status.messages]


def founder(client: GoClient, site: Site) -> Fields:
    (node,) = found(client, f'node.id=="{site.node_id}"')
    return node


def test_a_member_is_shown_with_upstreams_field_numbers(site: Site, owner: GoClient) -> None:
    node = founder(owner, site)
    assert node.numbers == list(range(1, 10))
    assert len(node.data(1)) == 32
    assert node.text(7) == site.node_id == "metropolis-" + node.data(1)[:16].hex()
    assert (node.integer(2), node.integer(5), node.integer(8)) == (UP, HEALTHY, TPM_NOT_PRESENT)
    assert 0 <= node.message(6).integer(1) < 60
    labels = [(pair.text(1), pair.text(2)) for pair in node.message(9).messages(1)]
    assert labels == sorted(FOUNDER_LABELS.items())


def test_the_status_has_what_upstream_dereferences(site: Site, owner: GoClient) -> None:
    status = founder(owner, site).message(3)
    assert status.numbers == [1, 2, 3, 4, 5]
    assert status.text(1) == "10.1.0.2"
    assert status.message(2).integer(1) > 1_700_000_000
    assert status.message(3).integer(1) == 7835
    assert len(status.data(5)) == 16
    version = status.message(4)
    assert 1 in version  # printing a version without a release ends upstream's metroctl
    commit_hash = version.message(2).text(1)
    assert not commit_hash or len(commit_hash) >= 8  # so does a short hash


def test_roles_are_present_and_say_nothing_more(site: Site, owner: GoClient) -> None:
    roles = founder(owner, site).message(4)
    assert roles.numbers == [2, 3]
    assert roles.data(2) == roles.data(3) == b""
    machine = registered_node(site)
    (newcomer,) = found(owner, f'node.id == "{machine.node_id}"')
    machine.delete(owner)
    assert 4 in newcomer  # metroctl dereferences it unasked
    assert newcomer.data(4) == b""


def test_a_newcomer_has_no_status_and_was_never_heard(site: Site, owner: GoClient) -> None:
    machine = registered_node(site)
    found_nodes = found(owner, "node.state == NODE_STATE_NEW")
    machine.delete(owner)
    (node,) = [each for each in found_nodes if each.text(7) == machine.node_id]
    assert node.data(1) == machine.raw_key
    assert 3 not in node
    assert 9 in node
    assert (node.integer(2), node.integer(5)) == (NEW, HEALTH_UNKNOWN)
    assert (node.message(6).integer(1), node.message(6).integer(2)) == NEVER_HEARD


def test_nodes_come_in_the_order_of_their_ids(site: Site, owner: GoClient) -> None:
    machines = [registered_node(site) for _ in range(3)]
    ids = [node.text(7) for node in found(owner)]
    for machine in machines:
        machine.delete(owner)
    assert ids == sorted(ids)
    assert {machine.node_id for machine in machines} < set(ids)


@pytest.mark.parametrize(
    ("text", "is_selected"),
    [
        ("", True),
        ("node.state == NODE_STATE_UP", True),
        ("node.state == NODE_STATE_NEW", False),
        ("node.state != NODE_STATE_NEW", True),
        ('node.id == "{id}"', True),
        ('node.id=="{id}"', True),
        ('node.id == "metropolis-00000000000000000000000000000000"', False),
        ("has(node.roles.kubernetes_controller)", True),
        ("has(node.roles.consensus_member)", True),
        ("has(node.roles.kubernetes_worker)", False),
        ("!has(node.roles.kubernetes_worker)", True),
        ("node.health == HEALTH_HEALTHY", True),
        ("node.health != HEALTH_HEALTHY", False),
        ("node.time_since_heartbeat < duration('60s')", True),
        ("node.time_since_heartbeat > duration('3600s')", False),
        ('node.status.external_address == "10.1.0.2"', True),
        ('node.status.external_address.startsWith("10.9.")', False),
        ("node.status.running_curator.port == 7835", True),
        ("node.status.version.release.major >= 0", True),
        ("node.tpm_usage == 1", True),
        ("size(node.labels.pairs) == 2", True),
        ('size(node.labels.pairs) > 1 && node.labels.pairs[1].value == "7"', True),
        ("node.state == NODE_STATE_UP && has(node.roles.consensus_member)", True),
        ("node.state == NODE_STATE_NEW || node.health == HEALTH_HEALTHY", True),
        ("true", True),
        ("false", False),
    ],
)
def test_filters_select_as_upstreams_do(
    site: Site, owner: GoClient, text: str, is_selected: bool
) -> None:
    nodes = found(owner, text.replace("{id}", site.node_id))
    assert (site.node_id in [node.text(7) for node in nodes]) == is_selected


@pytest.mark.parametrize(
    "text",
    [
        "node.state ==",
        "node.state == NODE_STATE_NONSENSE",
        "1 + 1 == ",
        "nonsense",
        "node.id",
        "42",
        "node.id ==" + " " * 5000 + '"x"',
        'node.labels.pairs[99].value == "x"',
    ],
)
def test_a_filter_that_cannot_be_judged_is_a_bad_request(owner: GoClient, text: str) -> None:
    status = get_nodes(owner, text)
    assert (status.code, status.messages) == (INVALID_ARGUMENT, ())
    assert status.text
    assert found(owner)  # the connection lives on


def test_fields_of_absent_messages_have_their_defaults(site: Site, owner: GoClient) -> None:
    machine = registered_node(site)
    mine = f'node.id == "{machine.node_id}"'
    has_none = found(owner, f'{mine} && node.status.external_address == ""')
    has_one = found(owner, f'{mine} && node.status.external_address == "10.1.0.2"')
    machine.delete(owner)
    assert (len(has_none), len(has_one)) == (1, 0)


def test_a_member_that_never_reported_is_up_and_unknown(site: Site, owner: GoClient) -> None:
    machine = enrolled_node(site)
    (node,) = found(owner, f'node.id == "{machine.node_id}"')
    machine.delete(owner)
    assert node.integer(2) == UP
    assert 3 not in node
    assert node.integer(5) in (HEALTH_UNKNOWN, HEALTHY + 1)
