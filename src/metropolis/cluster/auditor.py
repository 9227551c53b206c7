# SPDX-License-Identifier: Apache-2.0
"""What one leader does for the audit log beside writing changes into it.

    calls     says who acts while a call runs, and notes how it failed
    refusals  what the server refused before any handler saw it
    run       writes down what this node was told when nobody led, verifies the chain once, then
              writes refusals down, a second later at the latest

A refusal is no change: it is written as well as can be, never before the caller has its answer. A
broken chain stops nothing; it is an ERROR in the log and a finding of `explain`.
"""

import asyncio
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Final

from google.protobuf.message import Message

from metropolis.api.audit_pb2 import Actor, Record
from metropolis.api.methods import Method
from metropolis.base.errors import (
    DataLossError,
    MetropolisError,
    PermissionDeniedError,
    UnauthenticatedError,
    chain,
)
from metropolis.cluster.planner.attempts import Attempts
from metropolis.cluster.planner.audit import (
    SELF_REPORTS,
    Acting,
    acting_of,
    is_worth_a_record,
    refusal_of,
)
from metropolis.cluster.state.audit import AuditedStore, acting
from metropolis.cluster.state.fenced import ConflictError
from metropolis.cluster.unrecorded import Notes
from metropolis.formats.audit.chain import decode
from metropolis.formats.audit.verification import Break, Verification
from metropolis.rpc.peer import Peer, PeerKind
from metropolis.rpc.status import NotLeaderError
from metropolis.supervision import Logger

FLUSH_S: Final = 1.0
CAUGHT_UP_RECORDS: Final = 64  # so many of the newest are looked at for notes that are in the log
_KNOWN: Final = (PeerKind.USER, PeerKind.NODE)
REMEDY: Final = (
    "Run `metroctl audit verify`, save what `metroctl audit list -o json` prints, and find out "
    "who could write to the store."
)


class Auditor:
    """See the module's docstring.

    Attributes:
        unauthenticated: Calls that were refused to callers without a certificate of the cluster.
        problem: What is wrong with the chain, as a sentence; empty while nothing is known.
    """

    def __init__(self, store: AuditedStore, log: Logger, notes: Notes | None = None) -> None:
        self._store = store
        self._log = log
        self._notes = notes  # None: nothing is left to write down
        self._attempts = Attempts(now_s=_now_s())
        self.unauthenticated = 0
        self.problem = ""

    @contextmanager
    def calling(
        self, method: Method[Any, Any], peer: Peer, request: Message | None = None
    ) -> Generator[None, None, None]:
        """Run a call: what it changes is recorded as the caller's."""
        who = None if method.path in SELF_REPORTS else acting_of(method, peer, request)
        try:
            with acting(who):
                yield
        except (ConflictError, NotLeaderError):
            raise  # nothing was tried that the caller will not try again
        except MetropolisError as error:
            self.refused(method, peer, error, request)
            raise

    def by_itself(self, method: str) -> AbstractContextManager[None]:
        """Record what the block changes, and the tasks it starts, as done by the leader."""
        actor = Actor(kind=Actor.KIND_LEADER, identity=self._store.leader_id)
        return acting(Acting(actor=actor, method=method))

    def refused(
        self,
        method: Method[Any, Any],
        peer: Peer,
        error: MetropolisError,
        request: Message | None = None,
    ) -> None:
        """Note a call that changed nothing."""
        if peer.kind not in _KNOWN:
            self.unauthenticated += isinstance(error, (PermissionDeniedError, UnauthenticatedError))
            return
        who = acting_of(method, peer, request)
        if is_worth_a_record(method, who.actor.kind, error):
            record = self._store.dated(refusal_of(who, error))
            self._attempts.note(record, now_s=_now_s())

    async def run(self) -> None:
        """Catch up, verify, then write refusals down for as long as this node leads."""
        await self.catch_up()
        try:
            await self.verify()
        except MetropolisError as error:
            self._log.warning("The audit log was not verified: %s", chain(error))
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.catch_up()
            await self.flush()

    async def catch_up(self) -> None:
        """Write down what this node was told when nobody led; later if that fails."""
        if self._notes is None:
            return
        try:
            if noted := await self._notes.records():
                for record in noted:
                    if record.HasField("time"):
                        record.leader = self._store.leader_id
                    else:
                        self._store.dated(record)
                known = await self._newest()
                missing = [each for each in noted if _told(each) not in known]
                if missing:
                    await self._store.append(missing)
                await self._notes.forget()
        except NotLeaderError:
            return  # the tenure is about to end
        except (MetropolisError, OSError) as error:
            self._log.warning("Not everything is in the audit log yet: %s", error)
            return
        self._notes = None

    async def _newest(self) -> Sequence[Record]:
        """Return the newest records: a note may be among them, if it could not be forgotten."""
        head = await self._store.head()
        first = max(head.first, head.sequence - CAUGHT_UP_RECORDS)
        found: list[Record] = []
        async for _, stored in self._store.walk(first, head.sequence):
            with suppress(DataLossError):  # `verify` says so
                found.append(_told(decode(stored)))
        return found

    async def flush(self) -> None:
        """Write down what is due; what cannot be written is lost."""
        due = self._attempts.take_due(now_s=_now_s())
        if not due:
            return
        try:
            await self._store.append([*due])
        except NotLeaderError:
            pass  # the tenure is about to end
        except MetropolisError as error:
            self._log.warning("%d refusals are not in the audit log: %s", len(due), chain(error))

    async def verify(self) -> Break | None:
        """Verify the chain as it is; return what is wrong.

        Raises:
            MetropolisError: it could not be read.
        """
        end = await self._store.head()
        walk = Verification((end,) if end.sequence else ())
        async for number, stored in self._store.walk(end.first, end.sequence):
            if walk.take(number, stored) is not None:
                break
        broken = walk.finish().broken
        self.problem = "" if broken is None else describe(broken)
        if broken is not None:
            self._log.error("The audit log is not what was written: %s. %s", self.problem, REMEDY)
        return broken


def _told(record: Record) -> Record:
    """Return what a record says, without its place in the chain."""
    told = Record()
    told.CopyFrom(record)
    told.ClearField("sequence")
    told.ClearField("previous")
    return told


def describe(broken: Break) -> str:
    """Say what is wrong with a chain."""
    return f"record {broken.position}: {broken.reason}"


def _now_s() -> float:
    return asyncio.get_running_loop().time()
