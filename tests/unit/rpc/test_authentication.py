# SPDX-License-Identifier: Apache-2.0
"""Who passes which policy, with what kind of certificate; and what a server remembers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from google.protobuf.empty_pb2 import Empty
from hypothesis import given
from hypothesis import strategies as st

from metropolis.api.authorization_pb2 import Permission
from metropolis.api.methods import Cardinality, Method
from metropolis.base.errors import (
    InternalError,
    MetropolisError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)
from metropolis.base.ids import node_id_from_public_key
from metropolis.pki import certificates
from metropolis.rpc import authentication
from metropolis.rpc.authentication import Permissions, PolicyAuthenticator, standard_grants
from metropolis.rpc.peer import Peer, PeerKind
from metropolis.rpc.transport import Authenticator

KEY: Final = Ed25519PrivateKey.from_private_bytes(b"L" * 32)
PUBLIC: Final = KEY.public_key().public_bytes_raw()
NODE_ID: Final = node_id_from_public_key(PUBLIC)
CA: Final = certificates.issue_cluster_ca(Ed25519PrivateKey.from_private_bytes(b"C" * 32), serial=1)
OTHER_CA: Final = certificates.issue_cluster_ca(
    Ed25519PrivateKey.from_private_bytes(b"O" * 32), serial=2
)
NOW: Final = datetime(2031, 1, 1, tzinfo=UTC)
NODE: Final = certificates.issue_node(CA, PUBLIC, serial=3)
OWNER: Final = certificates.issue_user(CA, PUBLIC, identity="owner", serial=4)
JOE: Final = certificates.issue_user(
    CA, PUBLIC, identity="joe", serial=5, validity=certificates.user_validity(NOW)
)
FOREIGN: Final = certificates.issue_user(OTHER_CA, PUBLIC, identity="owner", serial=6)
EPHEMERAL: Final = certificates.issue_ephemeral(KEY)
GARBAGE: Final = b"garbage"
ADDRESS: Final = "10.0.0.7"


def method(
    needs: tuple[int, ...] | None,
    *,
    allow_unauthenticated: bool = False,
    requires: tuple[str, ...] = (),
) -> Method[Empty, Empty]:
    return Method(
        path="/metropolis.test.Service/DoIt",
        request_type=Empty,
        response_type=Empty,
        cardinality=Cardinality.UNARY_UNARY,
        needs=needs,
        allow_unauthenticated=allow_unauthenticated,
        requires=requires,
    )


OPEN: Final = method((), allow_unauthenticated=True)
ANY_MEMBER: Final = method(())
READ: Final = method((Permission.PERMISSION_READ_CLUSTER_STATUS,))
SELF: Final = method((Permission.PERMISSION_UPDATE_NODE_SELF,))
TICKET: Final = method((Permission.PERMISSION_GET_REGISTER_TICKET,))
READ_AND_TICKET: Final = method(
    (Permission.PERMISSION_READ_CLUSTER_STATUS, Permission.PERMISSION_GET_REGISTER_TICKET)
)
MISLABELLED: Final = method(
    (Permission.PERMISSION_READ_CLUSTER_STATUS,), allow_unauthenticated=True
)
NO_POLICY: Final = method(None)
NO_POLICY_BUT_OPEN: Final = method(None, allow_unauthenticated=True)


@dataclass
class World:
    """What a server's surroundings say, changeable between calls."""

    ca: bytes | None = CA.certificate
    now: datetime = NOW
    revoked: dict[str, str] = field(default_factory=dict)
    judged: list[Peer] = field(default_factory=list)
    grants: Callable[[Peer], Permissions] = standard_grants

    def monotonic_s(self) -> float:
        return 0.0

    def wall(self) -> datetime:
        return self.now

    def why_revoked(self, peer: Peer) -> str | None:
        self.judged.append(peer)
        return self.revoked.get(peer.identity)

    def what_is_granted(self, peer: Peer) -> Permissions:
        return self.grants(peer)

    def authenticator(self) -> PolicyAuthenticator:
        return PolicyAuthenticator(
            ca_certificate=lambda: self.ca,
            clock=self,
            revoked=self.why_revoked,
            grants=self.what_is_granted,
        )


def call(what: Method[Any, Any], certificate: bytes | None, world: World | None = None) -> Peer:
    authenticator: Authenticator = (world or World()).authenticator()
    return authenticator.authenticate(what, certificate, ADDRESS)


MEMBERS: Final = {"node": NODE, "owner": OWNER, "joe": JOE}
CALLERS: Final[dict[str, bytes | None]] = {
    **MEMBERS,
    "foreign": FOREIGN,
    "ephemeral": EPHEMERAL,
    "garbage": GARBAGE,
    "nobody": None,
}
METHODS: Final = {
    "open": OPEN,
    "any member": ANY_MEMBER,
    "read": READ,
    "self": SELF,
    "ticket": TICKET,
    "read and ticket": READ_AND_TICKET,
    "mislabelled": MISLABELLED,
    "no policy": NO_POLICY,
    "no policy but open": NO_POLICY_BUT_OPEN,
}
# K passes by its kind, A passes as ANONYMOUS, U unauthenticated, D denied, I internal
OUTCOMES: Final = """
                    node owner joe foreign ephemeral garbage nobody
open                A    A     A   A       K         A       A
any member          K    K     K   U       U         U       U
read                K    K     K   U       U         U       U
self                K    K     K   U       U         U       U
ticket              D    K     K   U       U         U       U
read and ticket     D    K     K   U       U         U       U
mislabelled         K    K     K   U       U         U       U
no policy           I    I     I   I       I         I       I
no policy but open  I    I     I   I       I         I       I
"""
KINDS: Final = {
    "node": PeerKind.NODE,
    "owner": PeerKind.USER,
    "joe": PeerKind.USER,
    "ephemeral": PeerKind.EPHEMERAL,
}
REFUSALS: Final[dict[str, type[MetropolisError]]] = {
    "U": UnauthenticatedError,
    "D": PermissionDeniedError,
    "I": InternalError,
}


def table() -> list[tuple[str, str, str]]:
    head, *lines = OUTCOMES.strip().splitlines()
    return [
        (line[:20].strip(), caller, outcome)
        for line in lines
        for caller, outcome in zip(head.split(), line[20:].split(), strict=True)
    ]


def test_the_table_is_whole() -> None:
    assert {(name, caller) for name, caller, _ in table()} == {
        (name, caller) for name in METHODS for caller in CALLERS
    }


@pytest.mark.parametrize(("name", "caller", "outcome"), table())
def test_who_passes_which_policy(name: str, caller: str, outcome: str) -> None:
    certificate = CALLERS[caller]
    if outcome in REFUSALS:
        with pytest.raises(REFUSALS[outcome]) as caught:
            call(METHODS[name], certificate)
        assert type(caught.value) is REFUSALS[outcome]
        assert caught.value.remedy
    elif outcome == "A":
        assert call(METHODS[name], certificate) == Peer(kind=PeerKind.ANONYMOUS, address=ADDRESS)
    else:
        identity = {"node": NODE_ID, "ephemeral": ""}.get(caller, caller)
        assert call(METHODS[name], certificate) == Peer(
            kind=KINDS[caller],
            public_key=PUBLIC,
            identity=identity,
            address=ADDRESS,
            certificate=certificate or b"",
        )


@pytest.mark.parametrize(
    ("what", "certificate", "message"),
    [
        (TICKET, NODE, "node missing PERMISSION_GET_REGISTER_TICKET permission"),
        (READ, EPHEMERAL, "certificate not signed by cluster CA: "),
        (READ, FOREIGN, "certificate not signed by cluster CA: "),
        (READ, None, "no client certificate presented"),
        (READ, CA.certificate, "a CA certificate identifies nobody"),
        (READ, GARBAGE, "not a valid X.509 certificate"),
        (NO_POLICY, OWNER, "/metropolis.test.Service/DoIt has no authorization policy"),
    ],
)
def test_messages_are_upstreams_where_upstream_has_them(
    what: Method[Any, Any], certificate: bytes | None, message: str
) -> None:
    with pytest.raises(MetropolisError) as caught:
        call(what, certificate)
    assert str(caught.value).startswith(message)


def test_a_certificate_that_is_neither_names_both_failures() -> None:
    etcd_like = certificates.issue_etcd_peer(CA, PUBLIC, serial=9)
    assert call(READ, etcd_like).kind is PeerKind.NODE  # serverAuth and the right names: a node
    nameless = certificates._issue(
        certificates._Template(common_name=None, usages=(Usage.OCSP_SIGNING,)), PUBLIC, CA, serial=9
    )
    with pytest.raises(UnauthenticatedError, match=r"^not a node .*; not a user .*"):
        call(READ, nameless)


def test_permissions_we_have_no_name_for_are_still_judged() -> None:
    with pytest.raises(PermissionDeniedError, match="node missing PERMISSION_7777 permission"):
        call(method((7777,)), NODE)
    assert call(method((7777,)), OWNER).identity == "owner"


def test_grants_are_asked_at_every_call_and_may_be_plain_sets() -> None:
    world = World(grants=lambda _: frozenset({Permission.PERMISSION_READ_CLUSTER_STATUS}))
    authenticator = world.authenticator()
    assert authenticator.authenticate(READ, JOE, "").identity == "joe"
    with pytest.raises(PermissionDeniedError, match="user 'joe' missing PERMISSION_UPDATE_NODE"):
        authenticator.authenticate(SELF, JOE, "")
    world.grants = lambda _: frozenset()
    with pytest.raises(PermissionDeniedError):
        authenticator.authenticate(READ, JOE, "")


@pytest.mark.parametrize(("caller", "identity"), [("node", NODE_ID), ("owner", "owner")])
def test_revocation_is_asked_at_every_call_and_told(caller: str, identity: str) -> None:
    world = World()
    authenticator = world.authenticator()
    assert authenticator.authenticate(READ, MEMBERS[caller], ADDRESS).identity == identity
    world.revoked[identity] = "removed by owner"
    with pytest.raises(UnauthenticatedError, match="any more: removed by owner") as caught:
        authenticator.authenticate(READ, MEMBERS[caller], ADDRESS)
    assert caught.value.remedy
    assert [(peer.identity, peer.address) for peer in world.judged] == [(identity, ADDRESS)] * 2


def test_revocation_is_asked_before_permissions_and_never_for_strangers() -> None:
    world = World(revoked={NODE_ID: "gone"})
    with pytest.raises(UnauthenticatedError):
        call(TICKET, NODE, world)
    world.judged.clear()
    for certificate in (EPHEMERAL, NODE, None):
        call(OPEN, certificate, world)
    assert world.judged == []


def test_a_users_dates_are_judged_at_every_call() -> None:
    world = World()
    authenticator = world.authenticator()
    authenticator.authenticate(READ, JOE, "")
    world.now = NOW + timedelta(days=31)
    with pytest.raises(UnauthenticatedError, match="'joe' expired on 2031-01-31") as caught:
        authenticator.authenticate(READ, JOE, "")
    assert "Renew" in caught.value.remedy
    world.now = NOW - timedelta(days=1)
    with pytest.raises(UnauthenticatedError, match="not valid before"):
        authenticator.authenticate(READ, JOE, "")


@pytest.mark.parametrize("year", [1970, 2021, 2041, 9999])
def test_no_clock_locks_the_owner_or_nodes_out(year: int) -> None:
    world = World(now=datetime(year, 12, 31, tzinfo=UTC))
    assert call(READ, OWNER, world).identity == "owner"
    assert call(READ, NODE, world).identity == NODE_ID


def test_without_a_ca_only_open_methods_are_served() -> None:
    world = World(ca=None)
    authenticator = world.authenticator()
    assert authenticator.authenticate(OPEN, EPHEMERAL, "").kind is PeerKind.EPHEMERAL
    assert authenticator.authenticate(OPEN, NODE, "").kind is PeerKind.ANONYMOUS
    with pytest.raises(UnavailableError, match="does not know the cluster's CA") as caught:
        authenticator.authenticate(READ, NODE, "")
    assert caught.value.remedy
    world.ca = CA.certificate
    assert authenticator.authenticate(READ, NODE, "").identity == NODE_ID


def test_verdicts_are_forgotten_when_the_ca_changes() -> None:
    world = World()
    authenticator = world.authenticator()
    authenticator.authenticate(READ, OWNER, "")
    with pytest.raises(UnauthenticatedError):
        authenticator.authenticate(READ, FOREIGN, "")
    world.ca = OTHER_CA.certificate
    with pytest.raises(UnauthenticatedError):
        authenticator.authenticate(READ, OWNER, "")
    assert authenticator.authenticate(READ, FOREIGN, "").identity == "owner"


def test_a_damaged_ca_is_our_fault_and_admits_nobody() -> None:
    with pytest.raises(InternalError) as caught:
        call(READ, OWNER, World(ca=b"damaged"))
    assert caught.value.remedy


def test_a_connection_has_an_identity_whatever_is_called() -> None:
    world = World(revoked={NODE_ID: "gone"})
    authenticator = world.authenticator()
    seen = [authenticator.identify(certificate, ADDRESS) for certificate in CALLERS.values()]
    assert [(peer.kind, peer.identity) for peer in seen] == [
        (PeerKind.NODE, NODE_ID),
        (PeerKind.USER, "owner"),
        (PeerKind.USER, "joe"),
        (PeerKind.ANONYMOUS, ""),
        (PeerKind.EPHEMERAL, ""),
        (PeerKind.ANONYMOUS, ""),
        (PeerKind.ANONYMOUS, ""),
    ]
    assert world.judged == []


def test_a_verdict_is_found_once_per_certificate() -> None:
    authenticator = World().authenticator()
    authenticator.authenticate(READ, NODE, ADDRESS)
    authenticator.authenticate(OPEN, EPHEMERAL, ADDRESS)
    found = (authenticator._members[NODE], authenticator._strangers[EPHEMERAL])
    authenticator.authenticate(SELF, bytes(bytearray(NODE)), "")  # equal, not the same object
    authenticator.authenticate(OPEN, EPHEMERAL, "")
    assert authenticator._members[NODE] is found[0]
    assert authenticator._strangers[EPHEMERAL] is found[1]


def test_a_crowd_of_strangers_is_forgotten_and_displaces_no_member() -> None:
    authenticator = World().authenticator()
    authenticator.authenticate(READ, NODE, ADDRESS)
    for number in range(authentication.STRANGERS_MAX + 50):
        authenticator.authenticate(OPEN, b"stranger %d" % number, ADDRESS)
    assert len(authenticator._strangers) == authentication.STRANGERS_MAX
    assert b"stranger 0" not in authenticator._strangers
    assert list(authenticator._members) == [NODE]


def test_the_member_seen_longest_ago_is_forgotten_first() -> None:
    world = World()
    authenticator = PolicyAuthenticator(
        ca_certificate=lambda: world.ca, clock=world, revoked=world.why_revoked, members_max=2
    )
    for certificate in (NODE, OWNER, NODE, JOE):
        authenticator.authenticate(READ, certificate, ADDRESS)
    assert list(authenticator._members) == [NODE, JOE]


@given(st.binary(max_size=400), st.integers(0, 3300))
def test_no_certificate_makes_an_authenticator_fail_otherwise(noise: bytes, bit: int) -> None:
    changed = bytearray(OWNER)
    changed[bit // 8 % len(changed)] ^= 1 << bit % 8
    authenticator = World().authenticator()
    for certificate in (noise, bytes(changed)):
        assert authenticator.authenticate(OPEN, certificate, "").kind is PeerKind.ANONYMOUS
        with pytest.raises(UnauthenticatedError) as caught:
            authenticator.authenticate(READ, certificate, "")
        assert caught.value.remedy


def test_a_permission_of_ours_is_needed_besides_those_of_upstream() -> None:
    both = method((Permission.PERMISSION_READ_CLUSTER_STATUS,), requires=("users.write",))
    world = World(grants=lambda _: frozenset({Permission.PERMISSION_READ_CLUSTER_STATUS}))
    with pytest.raises(PermissionDeniedError, match=r"user 'joe' missing users\.write permission"):
        call(both, JOE, world)
    world.grants = lambda _: frozenset({"users.write"})
    with pytest.raises(PermissionDeniedError, match="READ_CLUSTER_STATUS"):
        call(both, JOE, world)
    world.grants = lambda _: frozenset(
        {"users.write", int(Permission.PERMISSION_READ_CLUSTER_STATUS)}
    )
    assert call(both, JOE, world).identity == "joe"
    with pytest.raises(PermissionDeniedError, match=r"node missing users\.write"):
        call(both, NODE)


def test_a_method_that_requires_a_permission_of_ours_is_never_open_to_everybody() -> None:
    closed = method((), allow_unauthenticated=True, requires=("users.write",))
    with pytest.raises(UnauthenticatedError):
        call(closed, EPHEMERAL)
