# SPDX-License-Identifier: Apache-2.0
"""How often strangers may ask: floods are slowed, and nobody who behaves ever notices."""

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from metropolis.api.methods import Method
from metropolis.api.rpc_aaa import AAA
from metropolis.api.rpc_curator import Curator, CuratorLocal
from metropolis.api.rpc_decommission import Farewell, Nodes
from metropolis.api.rpc_introspection import Introspection
from metropolis.api.rpc_management import Management
from metropolis.api.rpc_users import Users
from metropolis.base.errors import ResourceExhaustedError
from metropolis.rpc.peer import Peer, PeerKind
from metropolis.rpc.status import ThrottledError, from_trailers, to_trailers
from metropolis.rpc.throttle import (
    KEYS_MAX,
    RATES,
    Buckets,
    Rate,
    Throttle,
    neighbourhood,
    subject,
)

OPEN: Sequence[Method[Any, Any]] = (
    Curator.REGISTER_NODE,
    Curator.COMMIT_NODE,
    Curator.JOIN_NODE,
    AAA.ESCROW,
    Farewell.REPORT_WIPED,
    CuratorLocal.GET_CURRENT_LEADER,
    CuratorLocal.GET_CA_CERTIFICATE,
)
RACK = "203.0.113.7"


def stranger(address: str = RACK) -> Peer:
    return Peer(kind=PeerKind.EPHEMERAL, public_key=bytes(32), address=address)


def granted(throttle: Throttle, method: Method[Any, Any], caller: Peer, *, at_s: float) -> bool:
    try:
        throttle.check(method, caller, now_s=at_s)
    except ThrottledError:
        return False
    return True


@pytest.mark.parametrize("method", OPEN, ids=lambda method: method.name)
def test_a_flood_is_slowed_and_the_next_address_does_not_notice(method: Method[Any, Any]) -> None:
    throttle = Throttle()
    calls = [granted(throttle, method, stranger(), at_s=n / 5000) for n in range(50_000)]
    let_through_last_s = sum(calls[-5000:])
    assert let_through_last_s <= 301
    assert sum(calls) <= 1000 + 10 * 300 + 1
    assert granted(throttle, method, stranger("203.0.113.8"), at_s=10.0)
    assert granted(throttle, method, stranger(), at_s=60.0)


def test_a_refusal_says_when_to_come_back_and_is_true() -> None:
    buckets = Buckets(Rate(per_s=0.5, burst=1.0))
    assert buckets.take("a", now_s=0.0) == 0.0
    wait_s = buckets.take("a", now_s=0.0)
    assert wait_s == 2.0
    assert buckets.wait_s("a", now_s=0.0) == 2.0
    assert buckets.take("a", now_s=wait_s - 0.01) > 0.0
    assert buckets.take("a", now_s=wait_s) == 0.0
    throttle = Throttle()
    while granted(throttle, Curator.REGISTER_NODE, stranger(), at_s=5.0):
        pass
    with pytest.raises(ThrottledError, match="RegisterNode") as caught:
        throttle.check(Curator.REGISTER_NODE, stranger(), now_s=5.0)
    assert caught.value.remedy == "Try again in 0.1 s."
    assert caught.value.retryable


def test_a_refusal_keeps_its_class_on_the_wire() -> None:
    error = ThrottledError("too many calls", remedy="Try again in 0.5 s.")
    back = from_trailers(dict(to_trailers(error)))
    assert isinstance(back, ThrottledError)
    assert (str(back), back.remedy) == (str(error), error.remedy)
    plain = from_trailers(dict(to_trailers(ResourceExhaustedError("full"))))
    assert isinstance(plain, ResourceExhaustedError)
    assert not isinstance(plain, ThrottledError)


def test_a_rack_of_200_machines_behind_one_address_enrols_and_waits() -> None:
    throttle = Throttle()
    draw = Random(7)
    for _ in range(200):
        assert granted(throttle, Curator.REGISTER_NODE, stranger(), at_s=draw.random())
    for second in range(1, 1200):
        for _ in range(200):
            assert granted(throttle, Curator.COMMIT_NODE, stranger(), at_s=float(second))
        assert granted(throttle, CuratorLocal.GET_CURRENT_LEADER, stranger(), at_s=float(second))


def test_a_rack_of_200_machines_that_starts_again_gets_its_keys() -> None:
    throttle = Throttle()
    for attempt in range(100):
        for _ in range(200):
            assert granted(throttle, Curator.JOIN_NODE, stranger(), at_s=2.0 * attempt)


def test_members_behind_one_address_are_counted_one_by_one() -> None:
    """As 10,000 nodes that look for the new leader all at once."""
    throttle = Throttle()
    for number in range(4000):
        node = Peer(kind=PeerKind.NODE, identity=f"metropolis-{number}", address=RACK)
        assert granted(throttle, CuratorLocal.GET_CURRENT_LEADER, node, at_s=0.0)
    assert granted(throttle, CuratorLocal.GET_CURRENT_LEADER, stranger(), at_s=0.0)


def test_memory_is_bounded_and_the_newest_callers_are_remembered() -> None:
    buckets = Buckets(Rate(per_s=1.0, burst=1.0))
    for number in range(3 * KEYS_MAX):
        assert buckets.take(f"10.{number}", now_s=0.0) == 0.0
    assert len(buckets) == KEYS_MAX
    assert buckets.take(f"10.{3 * KEYS_MAX - 1}", now_s=0.0) > 0.0


def test_time_that_goes_back_gives_nothing() -> None:
    buckets = Buckets(Rate(per_s=1.0, burst=1.0))
    buckets.take("a", now_s=100.0)
    assert buckets.take("a", now_s=50.0) > 0.0
    assert buckets.take("a", now_s=50.5) > 0.0


def test_whoever_has_a_network_of_ipv6_is_one_stranger() -> None:
    assert neighbourhood("2001:db8:1:2::5") == neighbourhood("2001:db8:1:2:ffff::1")
    assert neighbourhood("2001:db8:1:2::5") != neighbourhood("2001:db8:1:3::5")
    assert neighbourhood("fe80::1%eth0") == neighbourhood("fe80::2%eth0")
    assert neighbourhood(RACK) == RACK
    assert neighbourhood("not:an:address") == "not:an:address"


def test_nothing_is_open_to_strangers_that_nobody_thought_of() -> None:
    services = (AAA, Curator, CuratorLocal, Introspection, Management, Nodes, Farewell, Users)
    found = {
        method.path
        for service in services
        for method in service.ALL
        if method.allow_unauthenticated and not (*(method.needs or ()), *method.requires)
    }
    assert found == {method.path for method in OPEN}
    assert set(RATES) <= {method.name for method in OPEN}


def test_who_asked_longest_ago_is_forgotten_first() -> None:
    buckets = Buckets(Rate(per_s=1.0, burst=1), keys_max=2)
    for key in ("a", "b", "a", "c"):  # b is the one that was silent
        buckets.take(key, now_s=0.0)
    assert buckets.wait_s("a", now_s=0.0) > 0
    assert buckets.wait_s("b", now_s=0.0) == 0


def test_members_are_told_apart_by_name_and_strangers_by_address() -> None:
    node = Peer(kind=PeerKind.NODE, identity="a", address=RACK)
    user = Peer(kind=PeerKind.USER, identity="a", address=RACK)
    assert len({subject(node), subject(user), subject(stranger())}) == 3
    assert subject(Peer(kind=PeerKind.NODE, identity="a", address="198.51.100.1")) == subject(node)
