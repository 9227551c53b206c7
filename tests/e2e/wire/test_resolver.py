# SPDX-License-Identifier: Apache-2.0
"""What upstream's resolver does behind every command: who leads, and who could."""

from e2e.wire import paths
from e2e.wire.enrolment import enrolled_node, registered_node
from e2e.wire.go_client import (
    OK,
    PERMISSION_DENIED,
    UNAUTHENTICATED,
    UNIMPLEMENTED,
    GoClient,
    GoStream,
)
from e2e.wire.protobuf_bytes import Fields, encode
from e2e.wire.site import FOUNDER_LABELS, Site

LAST_BACKLOGGED = 1
NODES_IN_CLUSTER = encode((2, b""))
NEW, STANDBY, UP = 1, 2, 3


def next_about(stream: GoStream, node_id: str) -> Fields:
    """Read events until one is about a node."""
    while True:
        event = stream.receive()
        if node_id in [node.text(1) for node in event.messages(1)]:
            return event
        if node_id in [node.text(1) for node in event.messages(3)]:
            return event


def state_in(event: Fields, node_id: str) -> int:
    (node,) = [each for each in event.messages(1) if each.text(1) == node_id]
    return node.integer(5)


def test_the_leader_is_told_at_once_and_the_stream_stays_open(site: Site) -> None:
    with site.curator(None) as client:
        stream = client.begin(paths.GET_CURRENT_LEADER)
        leader = stream.receive()
        assert leader.text(1) == site.node_id
        client.idle(1.0)
        assert not stream.is_ended
        assert stream.messages == []  # nothing changed, so nothing is said
        stream.cancel()
        assert client.call(paths.GET_CA_CERTIFICATE).code == OK


def test_the_whole_backlog_comes_before_its_end_is_marked(site: Site, owner: GoClient) -> None:
    stream = owner.begin(paths.WATCH, NODES_IN_CLUSTER)
    nodes: list[Fields] = []
    while True:
        event = stream.receive()
        nodes += event.messages(1)
        if event.integer(2) == LAST_BACKLOGGED:
            break
    (founder,) = [node for node in nodes if node.text(1) == site.node_id]
    # An upstream resolver learns from these where curators are.
    status = founder.message(3)
    assert (status.text(1), status.message(3).integer(1)) == ("10.1.0.2", 7835)
    assert founder.integer(5) == UP
    labels = [(pair.text(1), pair.text(2)) for pair in founder.message(6).messages(1)]
    assert labels == sorted(FOUNDER_LABELS.items())
    stream.cancel()


def test_roles_are_shown_in_full_to_watchers(site: Site, owner: GoClient) -> None:
    stream = owner.begin(paths.WATCH, encode((1, encode((1, site.node_id)))))
    (node,) = stream.receive().messages(1)
    member = node.message(2).message(2)
    assert {1, 2} <= set(member.numbers)  # the members' CA and the node's own certificate
    stream.cancel()


def test_a_watch_follows_a_node_through_its_life(site: Site, owner: GoClient) -> None:
    machine = registered_node(site)
    stream = owner.begin(paths.WATCH, NODES_IN_CLUSTER)
    node_id = machine.node_id
    assert state_in(next_about(stream, node_id), node_id) == NEW
    machine.approve(owner)
    assert state_in(next_about(stream, node_id), node_id) == STANDBY
    assert machine.commit(site).code == OK
    assert state_in(next_about(stream, node_id), node_id) == UP
    machine.delete(owner)
    event = next_about(stream, node_id)
    assert [each.text(1) for each in event.messages(3)] == [node_id]
    assert event.messages(1) == []
    assert not stream.is_ended
    stream.cancel()


def test_a_watch_of_one_node_begins_before_the_node(site: Site, owner: GoClient) -> None:
    machine = registered_node(site)
    machine.delete(owner)
    stream = owner.begin(paths.WATCH, encode((1, encode((1, machine.node_id)))))
    owner.idle(0.3)
    assert stream.messages == []
    assert machine.register(site).code == OK
    event = stream.receive()
    assert (state_in(event, machine.node_id), event.integer(2)) == (NEW, 0)
    machine.delete(owner)
    event = stream.receive()
    assert [each.text(1) for each in event.messages(3)] == [machine.node_id]
    assert event.messages(1) == []
    owner.idle(0.2)
    assert not stream.is_ended
    stream.cancel()


def test_a_watch_of_no_kind_is_unimplemented(owner: GoClient) -> None:
    assert owner.call(paths.WATCH).code == UNIMPLEMENTED


def test_without_a_certificate_the_watch_fails_and_nothing_else(site: Site) -> None:
    # Upstream's resolver tries this during first contact and prints a warning.
    with site.curator(site.owner_key) as client:
        leader = client.begin(paths.GET_CURRENT_LEADER)
        leader.receive()
        assert client.call(paths.WATCH, NODES_IN_CLUSTER).code == UNAUTHENTICATED
        client.idle(0.1)
        assert not leader.is_ended


def test_members_report_themselves(site: Site, owner: GoClient) -> None:
    machine = enrolled_node(site)
    assert machine.report(site, "10.1.0.99").only_message.numbers == []
    status = encode((1, "10.1.0.99"))
    mine, others = (encode((1, each), (2, status)) for each in (machine.node_id, site.node_id))
    with site.curator(machine.credentials) as node:
        assert node.call(paths.UPDATE_NODE_STATUS, others).code == PERMISSION_DENIED
        beats = node.open(paths.HEARTBEAT)
        for _ in range(3):
            beats.send(b"")
            assert beats.receive().numbers == []
        beats.send_raw(b"", is_last=True)
        assert beats.status().code == OK
    assert owner.call(paths.UPDATE_NODE_STATUS, mine).code == PERMISSION_DENIED
    healthy = f'node.id == "{machine.node_id}" && node.health == HEALTH_HEALTHY'
    answer = owner.call(paths.GET_NODES, encode((1, healthy))).only_message
    assert answer.message(3).text(1) == "10.1.0.99"
    machine.delete(owner)


def test_the_members_of_the_consensus_are_listed(site: Site, owner: GoClient) -> None:
    (member,) = owner.call(paths.GET_CONSENSUS_STATUS).only_message.messages(1)
    assert (member.text(1), member.integer(2)) == (site.node_id, 2)
