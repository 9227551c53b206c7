# SPDX-License-Identifier: Apache-2.0
"""What servers judge users by: one table, which the leader has and every node hears.

    store ──▶ AccessCache of every consensus member ──▶ Office, while it presides      port 7835
                   │
                   └── Users.WatchAccess, to every node ──▶ HeardAccess                port 7839

A server that has not heard the leader for `DEAF_S` admits only the owner, and says so: it cannot
know who was revoked meanwhile.
"""

import asyncio
import hashlib
import hmac
from collections.abc import Callable
from math import isfinite
from typing import Final

from metropolis.api.users_pb2 import AccessEvent, AccessTable
from metropolis.base.errors import UnavailableError
from metropolis.cluster.planner.authorization import OWNER, HeldPermissions
from metropolis.cluster.state import accounts
from metropolis.consensus.mirror import Mirror, MirrorWatcher
from metropolis.consensus.store import Store
from metropolis.rpc.authentication import EVERYTHING, NODE_PERMISSIONS, Permissions
from metropolis.rpc.peer import Peer, PeerKind

BEAT_S: Final = 10.0  # how often a leader shows nodes that it is heard
DEAF_S: Final = 30.0  # after which a server admits only the owner
SETTLE_S: Final = 2.0  # how long an answer waits for the cache to hold what it wrote

_NOTHING: Final = HeldPermissions(frozenset())


class Access:
    """One table, ready to judge by. Never changes."""

    def __init__(self, table: AccessTable) -> None:
        self.table = table
        self._held = {
            entry.name: HeldPermissions(frozenset(entry.permissions)) for entry in table.users
        }
        self._admitted = {entry.name: frozenset(entry.fingerprints) for entry in table.users}

    def why_refused(self, peer: Peer) -> str | None:
        """Say in a few words why a user is not admitted any more, or None."""
        if peer.kind is not PeerKind.USER:
            return None
        if peer.identity == OWNER:
            key = self.table.owner_public_key
            if not key or hmac.compare_digest(peer.public_key or b"", key):
                return None
            return "the owner's key was replaced"
        admitted = self._admitted.get(peer.identity)
        if admitted is None:
            return "there is no such user"
        if fingerprint(peer.certificate) not in admitted:
            return "the certificate was revoked"
        return None

    def grants(self, peer: Peer) -> Permissions:
        """Return what a node or user may do."""
        if peer.kind is PeerKind.NODE:
            return NODE_PERMISSIONS
        if peer.kind is PeerKind.USER and peer.identity == OWNER:
            return EVERYTHING
        return self._held.get(peer.identity, _NOTHING)

    def unwanted_since(self, before: "Access") -> Callable[[Peer], bool]:
        """Return what tells whether a connection that was fine before has to be closed.

        So is one of a user who may do less than before: what it reads now may be among that.
        """
        weakened = frozenset(
            name
            for name, held in before._held.items()  # noqa: SLF001 - of the same class
            if not held.names <= self._held.get(name, _NOTHING).names
        )

        def is_unwanted(peer: Peer) -> bool:
            return peer.kind is PeerKind.USER and (
                peer.identity in weakened or self.why_refused(peer) is not None
            )

        return is_unwanted


NOBODY: Final = Access(AccessTable())


class AccessCache:
    """The table of a consensus member, from its mirror of the store. `mirror.run` must run."""

    def __init__(self, store: Store) -> None:
        self.mirror = Mirror(store, accounts.PREFIX)
        self._seen_revision = 0
        self._marks: tuple[int, int] | None = None
        self._access = NOBODY
        self._event = AccessEvent(table=self._access.table)

    @property
    def current(self) -> Access:
        """The table as of now.

        Raises:
            UnavailableError: nothing was read yet.
        """
        self._refresh()
        return self._access

    @property
    def event(self) -> AccessEvent:
        """The table as nodes hear it; one message for all of them."""
        self._refresh()
        return self._event

    def watch(self) -> MirrorWatcher:
        """Return what tells that the table may have changed."""
        return self.mirror.watch()

    async def settle(self, revision: int) -> None:
        """Wait a moment until the table holds a write: who was answered then finds it so."""
        if not self.mirror.revision:
            return
        try:
            async with asyncio.timeout(SETTLE_S):
                await self.mirror.wait_revision(revision)
        except TimeoutError:
            return  # nodes and this server hear of it all the same

    def _refresh(self) -> None:
        revision = self.mirror.revision
        if not revision:
            raise UnavailableError(
                "this server does not know the cluster's users yet", remedy="Retry in a second."
            )
        if revision == self._seen_revision:
            return
        self._seen_revision = revision
        items = self.mirror.items
        marks = (len(items), max((item.mod_revision for item in items.values()), default=0))
        if marks != self._marks:
            self._marks = marks
            self._access = Access(accounts.table_of(accounts.decode(items.values())))
            self._event = AccessEvent(table=self._access.table)


class HeardAccess:
    """The table of a server that does not lead, and when its leader was last heard."""

    def __init__(self) -> None:
        self._access: Access | None = None
        self._heard_s = float("-inf")

    @property
    def current(self) -> Access:
        """The table heard last; nobody's before the first."""
        return self._access or NOBODY

    @property
    def silence_s(self) -> float:
        """Since when the leader was not heard; infinite before it first was."""
        return _now_s() - self._heard_s

    def recall(self, owner_key: bytes) -> None:
        """Know from an earlier life which key is the owner's; nothing else was heard yet."""
        if self._access is None:
            self._access = Access(AccessTable(owner_public_key=owner_key))

    def hear(self, event: AccessEvent) -> bool:
        """Take an event of the leader; return whether it brought another table."""
        self._heard_s = _now_s()
        if not event.HasField("table"):
            return False
        is_new = self._access is None or self._access.table != event.table
        if is_new:
            self._access = Access(event.table)
        return is_new

    def revoked(self, peer: Peer) -> str | None:
        """Say why a user is not admitted any more, or None. Nodes have nothing to gain here.

        Raises:
            UnavailableError: nothing was heard for too long, and it is not the owner.
        """
        if peer.kind is not PeerKind.USER:
            return None
        if peer.identity == OWNER:  # by the last key heard of, however long ago
            return None if self._access is None else self._access.why_refused(peer)
        silence_s = self.silence_s
        if self._access is None or silence_s > DEAF_S:
            raise _deaf(silence_s)
        return self._access.why_refused(peer)

    def grants(self, peer: Peer) -> Permissions:
        """Return what a node or user may do."""
        return self.current.grants(peer)


def fingerprint(certificate: bytes) -> bytes:
    """Return what admits a certificate (DER)."""
    return hashlib.sha256(certificate).digest()


def _deaf(silence_s: float) -> UnavailableError:
    since = f"for {silence_s:.0f} s" if isfinite(silence_s) else "since its start"
    return UnavailableError(
        f"this node has not heard the cluster's leader {since}, so it cannot know who was "
        "revoked and admits only the owner",
        remedy="Retry when the node is connected again, ask another node, or call as the owner.",
    )


def _now_s() -> float:
    return asyncio.get_running_loop().time()
