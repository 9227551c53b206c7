# SPDX-License-Identifier: Apache-2.0
"""What must be true after every step of a world, whatever happens to it.

A check is a function that returns what is wrong, or None. Checks of the store run only when the
store has changed, so that they may look at all of it.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import final

from metropolis.base.errors import MetropolisError
from metropolis.cluster.lifecycle import NodeState
from metropolis.cluster.state import keys
from metropolis.cluster.state.records import NodeRecord, decode
from metropolis.consensus.memory.keyspace import Keyspace
from metropolis.consensus.store import Compare, Delete, Operation, Put, Target
from metropolis.sim.consensus import SimConsensus

Check = Callable[[], str | None]
StoreCheck = Callable[[Keyspace], str | None]


class InvariantViolated(AssertionError):  # noqa: N818  # reads as a verdict
    """Something happened that must never happen. The text says how to see it again."""


@final
class Invariants:
    """The checks of one world. Call it after every step."""

    def __init__(self, consensus: SimConsensus, *, replay: str) -> None:
        self._consensus = consensus
        self._replay = replay
        self._checks: dict[str, Check] = {}
        self._store_checks: dict[str, StoreCheck] = {}
        self._seen = (0, 0)
        self.checked = 0

    def add(self, name: str, check: Check) -> None:
        """Run a check after every step; it must be cheap."""
        self._checks[name] = check

    def add_store(self, name: str, check: StoreCheck) -> None:
        """Run a check after every step that changed the store."""
        self._store_checks[name] = check

    def __call__(self) -> None:
        """Check everything.

        Raises:
            InvariantViolated: the first check that found something.
        """
        for name, check in self._checks.items():
            self._judge(name, check())
        keyspace = self._consensus.cluster.keyspace
        now = (self._consensus.founded, keyspace.revision)
        if now != self._seen:
            self._seen = now
            for name, store_check in self._store_checks.items():
                self._judge(name, store_check(keyspace))
                self.checked += 1

    def _judge(self, name: str, problem: str | None) -> None:
        if problem is not None:
            now_s = asyncio.get_running_loop().time()
            raise InvariantViolated(
                f"{name}: {problem}\n  at t={now_s:.3f} s, replay: {self._replay}"
            )


def node_records(keyspace: Keyspace) -> list[NodeRecord]:
    """Read all node records of the store."""
    return [decode(item) for item in keyspace.scan(keys.NODES).items]


def records_are_readable(keyspace: Keyspace) -> str | None:
    """Every node record can be read; one key belongs to one node, because it names the node."""
    try:
        records = node_records(keyspace)
    except MetropolisError as error:
        return str(error)
    join_keys: dict[bytes, str] = {}
    for record in records:
        join_key = record.message.join_key
        if join_key and join_keys.setdefault(join_key, record.node_id) != record.node_id:
            return f"{record.node_id} and {join_keys[join_key]} share a join key"
    return None


@final
class Approvals:
    """Nobody becomes a member whom the operator has not approved.

    The operator of the world calls `approve` *before* it sends the request.
    """

    def __init__(self) -> None:
        self._approved: dict[str, None] = {}
        self._states: dict[str, NodeState] = {}
        self._founder: str | None = None

    def approve(self, node_id: str) -> None:
        """Note that the operator is about to approve a node."""
        self._approved[node_id] = None

    def check(self, keyspace: Keyspace) -> str | None:
        """Compare every node's state with what the operator did."""
        try:
            records = node_records(keyspace)
        except MetropolisError:
            return None  # another check says so
        for record in records:
            before = self._states.get(record.node_id, NodeState.ABSENT)
            self._states[record.node_id] = record.state
            if record.state in {NodeState.NEW, before}:
                continue
            if self._founder is None and record.state is NodeState.UP and len(records) == 1:
                self._founder = record.node_id  # the bootstrap makes the first member
            if record.node_id not in {self._founder, *self._approved}:
                return f"{record.node_id} is {record.state.name} and was never approved"
        return None


@final
class OnlyTheLeaderWrites:
    """A transaction that writes under the guarded prefixes proves that its author leads.

    It compares the creation revision of an election key, and that key is the oldest one there is.
    Before the first election nobody leads and everybody may write: that is the bootstrap.

    Args:
        election: Prefix of the election keys; the election itself writes there freely.
        guarded: Prefixes that only the leader may write.
    """

    def __init__(
        self, consensus: SimConsensus, *, election: bytes, guarded: Sequence[bytes]
    ) -> None:
        self._election = election
        self._guarded = tuple(guarded)
        self._had_leader = False
        self._problem: str | None = None
        self.writes = 0
        consensus.observers.append(self._observe)

    def check(self) -> str | None:
        """Return what was wrong with the first write that was wrong."""
        return self._problem

    def _observe(
        self, keyspace: Keyspace, compares: Sequence[Compare], operations: Sequence[Operation]
    ) -> None:
        written = [each.key for each in operations if isinstance(each, Put | Delete)]
        if any(key.startswith(self._election) for key in written):
            self._had_leader = True
        guarded = [key for key in written if key.startswith(self._guarded)]
        if not guarded or not self._had_leader:
            return
        self.writes += 1
        locks = [
            each.expected
            for each in compares
            if each.key.startswith(self._election) and each.target is Target.CREATE_REVISION
        ]
        oldest = min(
            (item.create_revision for item in keyspace.scan(self._election).items), default=0
        )
        if self._problem is None and locks != [oldest]:
            self._problem = f"{guarded[0]!r} was written under {locks}, but {oldest} leads"


def single_leader(claims: Mapping[str, Callable[[], bool]]) -> Check:
    """Check that at most one machine believes that it may write.

    Leases that end before their time break this, while `OnlyTheLeaderWrites` stands.

    Args:
        claims: Name of a machine -> whether it believes so now. May grow later.
    """

    def check() -> str | None:
        leaders = [name for name, believes in claims.items() if believes()]
        return f"{' and '.join(leaders)} lead at the same time" if len(leaders) > 1 else None

    return check


def acknowledged_store_stays(consensus: SimConsensus) -> Check:
    """Check that a consensus that somebody was told of is never replaced by a new one."""
    known = 0

    def check() -> str | None:
        nonlocal known
        if known and consensus.founded != known:
            return f"consensus {known} was acknowledged and then replaced"
        if consensus.was_published:
            known = consensus.founded
        return None

    return check
