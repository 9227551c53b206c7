# SPDX-License-Identifier: Apache-2.0
"""Certificate + policy of the method -> Peer, or a gRPC error that carries a remedy.

    no authorization option                   -> INTERNAL: what has no policy is not served
    allow_unauthenticated, needs nothing      -> EPHEMERAL (self-signed Ed25519), else ANONYMOUS
    anything else, no certificate             -> UNAUTHENTICATED
                   not of this cluster        -> UNAUTHENTICATED
                   node, user; revoked        -> UNAUTHENTICATED
                   user but owner; expired    -> UNAUTHENTICATED
                   lacks a permission         -> PERMISSION_DENIED
                   otherwise                  -> NODE, USER

A method open to everybody sees a certificate that the cluster signed as *no key* (ANONYMOUS), as
upstream does: Escrow, RegisterNode, CommitNode and JoinNode take a key as proven only when it was
presented for that purpose, in a certificate that says nothing else. Their handlers therefore need
one check: `peer.kind is PeerKind.EPHEMERAL`. Who is behind such a connection, say for limits and
for closing revoked connections, `identify` tells.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from metropolis.api.authorization_pb2 import Permission
from metropolis.api.methods import Method
from metropolis.base.errors import (
    InternalError,
    MetropolisError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)
from metropolis.host import Clock
from metropolis.pki.certificates import OWNER
from metropolis.pki.identity import (
    judge_dates,
    key_if_self_signed,
    node_of,
    user_of,
    verify_ca,
    verify_leaf,
)
from metropolis.pki.reading import CertificateFacts, read_certificate
from metropolis.rpc.peer import Peer, PeerKind
from metropolis.rpc.throttle import Throttle

MEMBERS_MAX: Final = 16384  # certificates of the cluster remembered, a few KiB each
STRANGERS_MAX: Final = 256  # other certificates; apart, so that strangers never displace members

NODE_PERMISSIONS: Final = frozenset(
    (Permission.PERMISSION_READ_CLUSTER_STATUS, Permission.PERMISSION_UPDATE_NODE_SELF)
)


class Permissions(Protocol):
    """A set of permissions, perhaps without end: upstream's by number, ours by name."""

    def __contains__(self, permission: object, /) -> bool: ...


class _Everything:
    """Every permission there is or will be."""

    def __contains__(self, permission: object, /) -> bool:
        return True


EVERYTHING: Final = _Everything()


def standard_grants(peer: Peer) -> Permissions:
    """Grant what upstream grants: nodes a fixed pair of permissions, users everything."""
    return EVERYTHING if peer.kind is PeerKind.USER else NODE_PERMISSIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verdict:
    """What never changes about a certificate under one CA.

    Attributes:
        member: The peer (without an address) that a certificate of the cluster names.
        refusal: Message and remedy for a caller who is no member.
        self_signed_key: Raw key of a self-signed certificate.
        facts: Of a member, for its dates.
    """

    member: Peer | None = None
    refusal: tuple[str, str] = ("", "")
    self_signed_key: bytes | None = None
    facts: CertificateFacts | None = None


class PolicyAuthenticator:
    """The `Authenticator` of every server of a cluster.

    Verdicts are kept by the certificate's bytes; they are forgotten when the CA changes. Dates,
    revocation and grants are judged at every call.

    Args:
        ca_certificate: Returns the cluster CA (DER), None while it is not known yet. Called often.
        revoked: Says in a few words why a NODE or USER is not admitted any more, or None. May
            raise a MetropolisError of its own, e.g. when nothing is known about revocations.
        grants: The permissions that a NODE or USER holds.
        throttle: How often calls that need no certificate may be made.
        members_max: How many certificates of the cluster are remembered.
    """

    def __init__(
        self,
        *,
        ca_certificate: Callable[[], bytes | None],
        clock: Clock,
        revoked: Callable[[Peer], str | None],
        grants: Callable[[Peer], Permissions] = standard_grants,
        throttle: Throttle | None = None,
        members_max: int = MEMBERS_MAX,
    ) -> None:
        self._ca_certificate = ca_certificate
        self._clock = clock
        self._revoked = revoked
        self._grants = grants
        self._throttle = throttle
        self._members_max = members_max
        self._ca: bytes | None = None  # what the verdicts below were found under
        self._authority: CertificateFacts | None = None
        self._members: OrderedDict[bytes, _Verdict] = OrderedDict()
        self._strangers: OrderedDict[bytes, _Verdict] = OrderedDict()

    @property
    def ca_certificate(self) -> bytes | None:
        """DER of the cluster CA, None while it is not known yet."""
        return self._ca_certificate()

    def authenticate(
        self, method: Method[Any, Any], certificate: bytes | None, address: str
    ) -> Peer:
        """Judge a call; see the head of this module.

        Raises:
            UnauthenticatedError: the caller did not prove what the method needs.
            PermissionDeniedError: the caller is known and may not call this method.
            ThrottledError: it needs no certificate, and the caller asks too often.
            UnavailableError: this node does not know the cluster's CA yet.
            InternalError: the method has no policy, or the CA cannot be one.
        """
        if method.needs is None:
            raise InternalError(
                f"{method.path} has no authorization policy, so nobody may call it",
                remedy="Report this as a bug: the method's definition lacks its option.",
            )
        needed: tuple[int | str, ...] = (*method.needs, *method.requires)
        if method.allow_unauthenticated and not needed:
            if self._throttle is not None:
                caller = self.identify(certificate, address)
                self._throttle.check(method, caller, now_s=self._clock.monotonic_s())
            return self._stranger(certificate, address)
        peer = self._member(certificate, address)
        self._authorize(method, needed, peer)
        return peer

    def identify(self, certificate: bytes | None, address: str) -> Peer:
        """Say who holds a certificate, whatever they call: for limits, and to close connections.

        Neither dates nor revocation are judged: a NODE or USER may not be admitted any more.
        """
        if certificate is not None:
            member = self._verdict(certificate).member
            if member is not None:
                return _at(member, address)
        return self._stranger(certificate, address)

    def is_unwelcome(self, peer: Peer) -> bool:
        """Tell whether a user's open connection has to be closed: dates and revocation."""
        if peer.kind is not PeerKind.USER:
            return False
        facts = self._verdict(peer.certificate).facts
        try:
            if peer.identity != OWNER and facts is not None:
                judge_dates(peer.identity, facts, now=self._clock.wall())
            return self._revoked(peer) is not None
        except MetropolisError:
            return True

    def _stranger(self, certificate: bytes | None, address: str) -> Peer:
        if certificate is not None:
            key = self._verdict(certificate).self_signed_key
            if key is not None:
                return Peer(
                    kind=PeerKind.EPHEMERAL,
                    public_key=key,
                    address=address,
                    certificate=certificate,
                )
        return Peer(kind=PeerKind.ANONYMOUS, address=address)

    def _member(self, certificate: bytes | None, address: str) -> Peer:
        if certificate is None:
            raise UnauthenticatedError(
                "no client certificate presented",
                remedy="Connect with a certificate of this cluster: "
                "`metroctl takeownership` gets the owner's.",
            )
        verdict = self._verdict(certificate)
        if self._authority is None:
            raise UnavailableError(
                "this node does not know the cluster's CA yet",
                remedy="Try again in a few seconds, or ask another node.",
            )
        if verdict.member is None:
            message, remedy = verdict.refusal
            raise UnauthenticatedError(message, remedy=remedy)
        peer = _at(verdict.member, address)
        if peer.kind is PeerKind.USER and peer.identity != OWNER:
            assert verdict.facts is not None, "members have facts"
            judge_dates(peer.identity, verdict.facts, now=self._clock.wall())
        reason = self._revoked(peer)
        if reason is not None:
            raise UnauthenticatedError(
                f"{peer.kind.value} {peer.identity} is not admitted any more: {reason}",
                remedy="Ask the cluster's owner for a new certificate; "
                "a node that was removed must be installed again.",
            )
        return peer

    def _authorize(
        self, method: Method[Any, Any], needed: tuple[int | str, ...], peer: Peer
    ) -> None:
        if not needed:
            return  # any member will do
        held = self._grants(peer)
        for permission in needed:
            if permission not in held:
                who = "node" if peer.kind is PeerKind.NODE else f"user {peer.identity!r}"
                raise PermissionDeniedError(
                    f"{who} missing {_permission_name(permission)} permission",
                    remedy=f"Call {method.path.rpartition('/')[2]} as a user who holds it; "
                    "the owner holds every permission.",
                )

    def _verdict(self, certificate: bytes) -> _Verdict:
        self._follow_ca()
        for cache in (self._members, self._strangers):
            verdict = cache.get(certificate)
            if verdict is not None:
                cache.move_to_end(certificate)
                return verdict
        verdict = _judge(certificate, self._authority)
        is_member = verdict.member is not None
        cache = self._members if is_member else self._strangers
        cache[certificate] = verdict
        if len(cache) > (self._members_max if is_member else STRANGERS_MAX):
            cache.popitem(last=False)
        return verdict

    def _follow_ca(self) -> None:
        ca = self._ca_certificate()
        if ca is self._ca or ca == self._ca:
            return
        try:
            authority = None if ca is None else verify_ca(ca)
        except MetropolisError as cause:
            raise InternalError(
                "this node keeps a cluster CA that cannot be one",
                remedy="Restore the node's credentials, or remove the node and install it again.",
            ) from cause
        self._ca, self._authority = ca, authority
        self._members.clear()
        self._strangers.clear()


def _judge(certificate: bytes, authority: CertificateFacts | None) -> _Verdict:
    try:
        facts = read_certificate(certificate)
    except MetropolisError as error:
        return _Verdict(refusal=(str(error), error.remedy))
    if authority is None:
        return _Verdict(self_signed_key=key_if_self_signed(facts))
    try:
        verify_leaf(facts, authority)
        kind, identity = _name(facts)
    except UnauthenticatedError as error:
        # Only now: what the cluster signed proves no key, and to look takes 65 us, which count when
        # ten thousand nodes come at once.
        key = key_if_self_signed(facts)
        return _Verdict(refusal=(str(error), error.remedy), self_signed_key=key)
    member = Peer(
        kind=kind, public_key=facts.public_key, identity=identity, certificate=certificate
    )
    return _Verdict(member=member, facts=facts)


def _name(facts: CertificateFacts) -> tuple[PeerKind, str]:
    try:
        return PeerKind.NODE, node_of(facts)
    except UnauthenticatedError as no_node:
        try:
            return PeerKind.USER, user_of(facts)
        except UnauthenticatedError as no_user:
            raise UnauthenticatedError(f"{no_node}; {no_user}", remedy=no_user.remedy) from None


def _at(member: Peer, address: str) -> Peer:
    return Peer(
        kind=member.kind,
        public_key=member.public_key,
        identity=member.identity,
        address=address,
        certificate=member.certificate,
    )


def _permission_name(permission: int | str) -> str:
    if isinstance(permission, str):
        return permission
    value = Permission.DESCRIPTOR.values_by_number.get(permission)
    return f"PERMISSION_{permission}" if value is None else str(value.name)
