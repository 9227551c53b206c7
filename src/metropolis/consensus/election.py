# SPDX-License-Identifier: Apache-2.0
"""Leadership with a lease: at most one node writes, and a dead one is replaced within its lease.

Every contender hangs a key on a lease of its own under one prefix; the oldest key leads. The key's
create revision fences every write of the leader, so that a leader that does not know yet that it
lost cannot do harm; and it stops claiming leadership before anybody else can get it.

    Unknown ──own key is oldest──▶ Leading ──no renewal in time, key gone──▶ Unknown
       └──────another is──▶ Following ──its key is gone──▶ Leading | Following

Layout of keys and values as etcd's own `concurrency` elections have it, plus our value.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from metropolis.api.lock_pb2 import LeaderElectionValue
from metropolis.base.errors import MetropolisError, chain
from metropolis.consensus.store import (
    Compare,
    Delete,
    KeyValue,
    Put,
    Store,
    Target,
    Watch,
    WatchCompactedError,
)
from metropolis.supervision import Value

LEASE_TTL_S = 3
ROUND_DELAY_S = 0.5  # between rounds: a store that refuses at once must not be asked in a hot loop
RETRY_DELAY_S = 0.1  # between attempts to renew, and to watch again


@dataclass(frozen=True, slots=True, kw_only=True)
class Leading:
    """This node leads; its writes carry `fence(lock)`."""

    lock_key: bytes
    lock_revision: int  # create revision of the lock key; grows with every leader


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """Another contender leads."""

    leader: str  # its node id
    lock_key: bytes
    lock_revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """No leader is known: no quorum, or between two leaders."""


Leadership = Leading | Following | Unknown


def fence(lock: Leading) -> Compare:
    """Return what every write of a leader depends on: that its lock still exists."""
    return Compare(lock.lock_key, Target.CREATE_REVISION, lock.lock_revision)


class _RoundOverError(Exception):
    """This candidacy ended; the text says why."""


@dataclass(slots=True, kw_only=True)
class _Candidacy:
    """One round: a lease, a key on it, and until when nobody else can have our place.

    Attributes:
        safe_until_s: Loop time. Counted from before the last successful renewal was sent, minus
            a margin: the lease cannot end earlier in the store.
    """

    lease_id: int
    key: bytes
    safe_until_s: float
    is_withdrawn: bool = False
    resigned: asyncio.Event = field(default_factory=asyncio.Event)


class Election:
    """A contender.

    Args:
        prefix: Where the keys live; ends with a slash.
        node_id: Who we are. Keys with this id that are not from this run are removed.
        ttl_s: Lease. After a crash nobody leads for about that long.
        report: Takes one sentence per decision, for the log.
    """

    def __init__(
        self,
        store: Store,
        *,
        prefix: bytes,
        node_id: str,
        ttl_s: int = LEASE_TTL_S,
        report: Callable[[str], None] = lambda _sentence: None,
    ) -> None:
        assert prefix.endswith(b"/"), "a prefix that ends within a name catches other names"
        self._store = store
        self._prefix = prefix
        self._node_id = node_id
        self._ttl_s = ttl_s
        self._margin_s = ttl_s / 6
        self._report = report
        self._candidacy: _Candidacy | None = None
        self.state: Value[Leadership] = Value(Unknown())

    async def run(self) -> None:
        """Contend for ever. Cancelled, it gives its place up at once (if the store is reached)."""
        while True:
            try:
                ending = await self._round()
            except MetropolisError as error:
                ending = error
            self._report(f"candidacy ended: {chain(ending)}")
            await asyncio.sleep(ROUND_DELAY_S)

    async def resign(self) -> None:
        """Give the leadership (or the place in the queue) up now; `run` then contends anew.

        Raises:
            UnavailableError: the store was not reached; the lease ends by itself, as the
                leadership claimed here did already.
        """
        candidacy = self._candidacy
        if candidacy is not None:
            candidacy.is_withdrawn = True
            candidacy.resigned.set()  # the round gives the lease up, even if we are cancelled now
            self._set(Unknown())
            await self._store.revoke_lease(candidacy.lease_id)

    async def _round(self) -> Exception:
        """Contend once; return why it ended."""
        await self._remove_own_keys()
        sent_s = _now_s()
        lease_id = await self._store.grant_lease(self._ttl_s)
        candidacy = _Candidacy(
            lease_id=lease_id,
            key=self._prefix + f"{lease_id:x}".encode(),
            safe_until_s=self._safe_until_s(sent_s),
        )
        self._candidacy = candidacy
        try:
            return await _first_ending(
                self._keep_alive(candidacy), self._campaign(candidacy), _resignation(candidacy)
            )
        finally:
            self._candidacy = None
            self._set(Unknown())
            with contextlib.suppress(MetropolisError, TimeoutError):
                async with asyncio.timeout(self._ttl_s / 3):
                    await self._store.revoke_lease(lease_id)

    async def _remove_own_keys(self) -> None:
        """Remove what an earlier run of this node left, instead of waiting for its lease."""
        found = await self._store.range(self._prefix)
        for item in found.items:
            if _leader_of(item) == self._node_id:
                unchanged = Compare(item.key, Target.MOD_REVISION, item.mod_revision)
                await self._store.transact([unchanged], [Delete(item.key)])
                self._report("removed the election key of an earlier run")

    async def _keep_alive(self, candidacy: _Candidacy) -> None:
        """Renew at a third of the lease; give up before the lease can have ended."""
        interval_s = self._ttl_s / 3
        try:
            while True:
                async with asyncio.timeout_at(candidacy.safe_until_s):
                    renewal_s = candidacy.safe_until_s + self._margin_s - 2 * interval_s
                    await asyncio.sleep(renewal_s - _now_s())
                    candidacy.safe_until_s = await self._renew(candidacy.lease_id, interval_s)
        except TimeoutError:
            raise _RoundOverError("the lease could not be renewed in time") from None
        finally:
            # Now, not after the other task has ended: nobody may act on it for a moment longer.
            candidacy.is_withdrawn = True
            self._set(Unknown())

    async def _renew(self, lease_id: int, attempt_s: float) -> float:
        """Try until it succeeds; return the new end of safety."""
        while True:
            sent_s = _now_s()
            try:
                async with asyncio.timeout(attempt_s):
                    ttl_s = await self._store.keep_lease_alive(lease_id)
            except (MetropolisError, TimeoutError):
                await asyncio.sleep(RETRY_DELAY_S)
                continue
            if ttl_s <= 0:
                raise _RoundOverError("the lease is gone")
            return self._safe_until_s(sent_s)

    async def _campaign(self, candidacy: _Candidacy) -> None:
        """Put our key into the queue and say who is first in it."""
        value = LeaderElectionValue(node_id=self._node_id, ttl=self._ttl_s).SerializeToString()
        created = await self._store.transact(
            [Compare(candidacy.key, Target.CREATE_REVISION, 0)],
            [Put(candidacy.key, value, candidacy.lease_id)],
        )
        if not created.succeeded:
            raise _RoundOverError("another contender has a key with the number of our lease")
        while True:
            try:
                found = await self._store.range(self._prefix)
                keys = {item.key: item for item in found.items}
                self._judge(candidacy, keys)
                async with self._store.watch(
                    self._prefix, start_revision=found.revision + 1
                ) as watch:
                    await self._follow(candidacy, keys, watch)
            except (MetropolisError, WatchCompactedError):
                if isinstance(self.state.current, Following):
                    self._set(Unknown())  # while we lead, the lease alone decides
                await asyncio.sleep(RETRY_DELAY_S)

    async def _follow(
        self, candidacy: _Candidacy, keys: dict[bytes, KeyValue], watch: Watch
    ) -> None:
        while True:
            batch = await watch.receive()
            for event in batch.events:
                if event.is_deleted:
                    keys.pop(event.key, None)
                else:
                    keys[event.key] = KeyValue(
                        key=event.key,
                        value=event.value,
                        create_revision=event.create_revision,
                        mod_revision=event.mod_revision,
                    )
            self._judge(candidacy, keys)

    def _judge(self, candidacy: _Candidacy, keys: Mapping[bytes, KeyValue]) -> None:
        """Publish who leads, given everything under the prefix at one revision."""
        own = keys.get(candidacy.key)
        if own is None or candidacy.is_withdrawn:
            raise _RoundOverError("the election key is gone")
        oldest = min(keys.values(), key=lambda item: item.create_revision)
        if oldest.key != own.key:
            self._set(
                Following(
                    leader=_leader_of(oldest),
                    lock_key=oldest.key,
                    lock_revision=oldest.create_revision,
                )
            )
        elif _now_s() < candidacy.safe_until_s:
            self._set(Leading(lock_key=own.key, lock_revision=own.create_revision))

    def _set(self, state: Leadership) -> None:
        if state != self.state.current:
            self.state.set(state)
            self._report(_sentence(state))

    def _safe_until_s(self, sent_s: float) -> float:
        return sent_s + self._ttl_s - self._margin_s


async def _resignation(candidacy: _Candidacy) -> None:
    await candidacy.resigned.wait()
    raise _RoundOverError("it was given up")


async def _first_ending(*activities: Coroutine[None, None, None]) -> Exception:
    """Run activities together until one fails; return its error.

    The errors do not leave through the task group: before Python 3.13 one whose child fails in the
    moment of its own cancellation raises only the failure, and whoever loops would never end.
    """
    ending: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    async def run(activity: Coroutine[None, None, None]) -> None:
        try:
            await activity
        except (MetropolisError, _RoundOverError) as error:
            if not ending.done():
                ending.set_result(error)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run(activity)) for activity in activities]
        error = await ending
        for task in tasks:
            task.cancel()
    return error


def _leader_of(item: KeyValue) -> str:
    try:
        return LeaderElectionValue.FromString(item.value).node_id
    except DecodeError:
        return ""


def _sentence(state: Leadership) -> str:
    match state:
        case Leading():
            return f"leading since revision {state.lock_revision}"
        case Following():
            return f"following {state.leader}"
        case Unknown():
            return "no leader is known"


def _now_s() -> float:
    return asyncio.get_running_loop().time()
