# SPDX-License-Identifier: Apache-2.0
"""Any one address is enough: what upstream's resolver meets before, during and after a failover."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest

from e2e.wire import paths
from e2e.wire.go_certificates import check_node
from e2e.wire.go_client import OK, UNAVAILABLE, GoClient, GoStream, dialled
from e2e.wire.go_tls import Address, GoTls, RefusedError
from e2e.wire.protobuf_bytes import Fields, encode
from e2e.wire.site import Site, founded_site, joining_parameters, write_parameters

COUNT = 3
FULL_MEMBER = 2
LAUNCH_TIMEOUT_S = 50.0
FAILOVER_TIMEOUT_S = 20.0

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Three voting members, enrolled with nothing but upstream's calls."""
    with founded_site(tmp_path_factory.mktemp("trio"), count=COUNT) as site:
        joining = joining_parameters(site.ca, site.ticket, "10.1.0.2")
        for number in range(1, COUNT):
            write_parameters(site.cluster, number, joining)
            asyncio.run(site.cluster.power(number, "on"))
        until_s = time.monotonic() + LAUNCH_TIMEOUT_S
        with site.as_owner() as owner:
            while not all_vote(owner):
                assert time.monotonic() < until_s, "the nodes never voted"
                approve_newcomers(owner)
                promote_members(owner)
                time.sleep(0.1)
        yield site


def nodes(owner: GoClient, condition: str) -> list[Fields]:
    status = owner.call(paths.GET_NODES, encode((1, condition)))
    assert status.code == OK, status.text
    return [Fields(message) for message in status.messages]


def approve_newcomers(owner: GoClient) -> None:
    for node in nodes(owner, "node.state == NODE_STATE_NEW"):
        assert owner.call(paths.APPROVE_NODE, encode((1, node.data(1)))).code == OK


def promote_members(owner: GoClient) -> None:
    """Make the next node a member; one at a time, so "not yet" is an answer."""
    for node in nodes(owner, "node.state == NODE_STATE_UP && !has(node.roles.consensus_member)"):
        status = owner.call(paths.UPDATE_NODE_ROLES, encode((4, node.text(7)), (3, 1)))
        assert status.code in (OK, UNAVAILABLE), status


def all_vote(owner: GoClient) -> bool:
    members = owner.call(paths.GET_CONSENSUS_STATUS).only_message.messages(1)
    voting = [member for member in members if member.integer(2) == FULL_MEMBER]
    reachable = nodes(owner, "node.status.running_curator.port == 7835")
    return len(voting) == len(reachable) == COUNT


@contextmanager
def watching_leader(site: Site, number: int) -> Iterator[GoStream]:
    """Hold a GetCurrentLeader stream to a node, as the resolver does."""
    with site.curator(site.owner, number=number) as client:
        yield client.begin(paths.GET_CURRENT_LEADER)


def leader_via(site: Site, number: int) -> Fields:
    with watching_leader(site, number) as stream:
        return stream.receive()


def call_leader(site: Site, leader: Fields) -> int:
    """Call the leader where a node says it is; return the status."""
    address = Address(
        host=leader.text(2), tcp_port=leader.integer(3), proxy_tcp_port=site.proxy_tcp_port
    )
    client = GoClient(address, site.owner)
    try:
        assert check_node(client.server_certificate, site.ca) == leader.text(1)
        return client.call(paths.GET_CLUSTER_INFO).code
    finally:
        client.close()


def call_via(site: Site, number: int) -> int:
    """Make a call knowing one address only, as metroctl with one `--endpoints` does."""
    until_s = time.monotonic() + FAILOVER_TIMEOUT_S
    while True:
        try:
            code = call_leader(site, leader_via(site, number))
        except (RefusedError, AssertionError):
            code = UNAVAILABLE
        if code == OK or time.monotonic() > until_s:
            return code
        time.sleep(0.05)


def wait_for_all(streams: Sequence[GoStream]) -> None:
    """Keep every connection alive until each has something to say."""
    until_s = time.monotonic() + FAILOVER_TIMEOUT_S
    while not all(stream.messages for stream in streams):
        assert time.monotonic() < until_s, "nobody was told of a new leader"
        for stream in streams:
            assert not stream.is_ended, stream.status()
            stream.client.idle(0.02)


def number_of(leader: Fields) -> int:
    return int(leader.text(2).rpartition(".")[2]) - 2


def test_every_node_names_the_leader_and_itself(trio: Site) -> None:
    answers = [leader_via(trio, number) for number in range(COUNT)]
    assert len({answer.text(1) for answer in answers}) == 1
    assert len({answer.text(4) for answer in answers}) == COUNT
    for number, answer in enumerate(answers):
        assert call_leader(trio, answer) == OK
        with trio.curator(None, number=number) as client:
            assert client.expect_node(trio.ca) == answer.text(4)
            assert client.call(paths.GET_CA_CERTIFICATE).code == OK


def test_a_follower_does_nothing_but_say_who_leads(trio: Site) -> None:
    leader = leader_via(trio, 0)
    for number in set(range(COUNT)) - {number_of(leader)}:
        with trio.curator(trio.owner, number=number) as client:
            for path in (paths.GET_NODES, paths.GET_CLUSTER_INFO, paths.WATCH, paths.APPROVE_NODE):
                status = client.call(path)
                assert (status.code, status.messages) == (UNAVAILABLE, ())
                assert leader.text(1) in status.text


def test_every_node_serves_its_own_logs_and_name(trio: Site) -> None:
    for number in range(COUNT):
        name = leader_via(trio, number).text(4)
        management = trio.address(paths.NODE_MANAGEMENT_TCP_PORT, number=number)
        with dialled(management, trio.owner) as client:
            assert client.expect_node(trio.ca) == name
            assert client.call(paths.LOGS, encode((1, "root.enrolment"), (3, 2))).messages
        tls = GoTls(trio.address(paths.KUBERNETES_TCP_PORT, number=number), None, alpn=())
        assert check_node(tls.server_certificates[0], trio.ca) == name
        tls.close()


def test_any_one_address_works_before_during_and_after_a_change_of_leader(trio: Site) -> None:
    first = leader_via(trio, 0)
    lost = number_of(first)
    survivors = [number for number in range(COUNT) if number != lost]
    with ExitStack() as stack:
        streams = [stack.enter_context(watching_leader(trio, number)) for number in survivors]
        for stream in streams:
            assert stream.receive().text(1) == first.text(1)
        asyncio.run(trio.cluster.power(lost, "kill"))
        # The streams that the resolver holds tell it of the next leader, without a new call.
        wait_for_all(streams)
        told = [stream.receive() for stream in streams]
        assert {answer.text(1) for answer in told} == {told[0].text(1)} != {first.text(1)}
        assert number_of(told[0]) in survivors
        assert call_leader(trio, told[0]) == OK
    for number in survivors:
        assert call_via(trio, number) == OK
    asyncio.run(trio.cluster.power(lost, "on"))
    assert call_via(trio, lost) == OK
    assert leader_via(trio, lost).text(1) == leader_via(trio, survivors[0]).text(1)


def test_a_leader_that_is_cut_off_sends_its_callers_elsewhere(trio: Site) -> None:
    cut_off = number_of(leader_via(trio, 0))
    others = [number for number in range(COUNT) if number != cut_off]
    with ExitStack() as stack:
        (old, *rest) = [
            stack.enter_context(watching_leader(trio, number)) for number in (cut_off, *others)
        ]
        for stream in (old, *rest):
            assert number_of(stream.receive()) == cut_off
        asyncio.run(trio.cluster.split([[cut_off], others]))
        wait_for_all(rest)
        assert {number_of(stream.receive()) for stream in rest} < set(others)
        # Upstream's resolver leaves a node only when its stream ends.
        assert old.status(FAILOVER_TIMEOUT_S).code == UNAVAILABLE
        with trio.curator(trio.owner, number=cut_off) as client:
            assert client.call(paths.GET_REGISTER_TICKET).code == UNAVAILABLE
        for number in others:
            assert call_via(trio, number) == OK
    asyncio.run(trio.cluster.split([list(range(COUNT))]))
    assert call_via(trio, cut_off) == OK
    assert number_of(leader_via(trio, cut_off)) in others
