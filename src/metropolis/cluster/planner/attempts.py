# SPDX-License-Identifier: Apache-2.0
"""When attempts that changed nothing enter the audit log. Pure.

Whoever may call at all can fail as often as it likes, so failures must not fill the log: equal
ones become one record that counts them, and all of them together have a budget.

    first of its kind     at once
    equal ones after it   together, once an hour
    more kinds than that  counted, in one sentence
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from metropolis.api.audit_pb2 import OUTCOME_DENIED, Record

REPEAT_S: Final = 3600.0
KINDS_MAX: Final = 256
BUDGET_MAX: Final = 60.0  # records at once
BUDGET_PER_S: Final = 60.0 / 3600  # a full log then holds at least a week of changes and refusals
AT_ONCE_MAX: Final = 20  # in one transaction


@dataclass(slots=True, kw_only=True)
class _Pending:
    record: Record
    count: int
    due_s: float


class Attempts:
    """What was refused and is not in the log yet."""

    def __init__(self, *, now_s: float) -> None:
        self._pending: dict[tuple[object, ...], _Pending] = {}
        self._left_out = 0
        self._budget = BUDGET_MAX
        self._filled_s = now_s

    def note(self, record: Record, *, now_s: float) -> None:
        """Remember an attempt."""
        key = (record.actor.kind, record.actor.identity, record.method, record.code)
        pending = self._pending.get(key)
        if pending is not None:
            pending.record, pending.count = record, pending.count + 1
        elif len(self._pending) < KINDS_MAX:
            self._pending[key] = _Pending(record=record, count=1, due_s=now_s)
        else:
            self._left_out += 1

    def take_due(self, *, now_s: float) -> Sequence[Record]:
        """Return what is to be written now, as written: call it once for each transaction."""
        self._budget += (now_s - self._filled_s) * BUDGET_PER_S
        self._budget, self._filled_s = min(self._budget, BUDGET_MAX), now_s
        due: list[Record] = []
        for key, pending in list(self._pending.items()):
            if pending.due_s > now_s or len(due) >= min(AT_ONCE_MAX, int(self._budget)):
                continue
            if pending.count == 0:
                del self._pending[key]  # nothing for an hour: the next is the first again
                continue
            record = Record()
            record.CopyFrom(pending.record)
            record.attempts = pending.count
            due.append(record)
            pending.count, pending.due_s = 0, now_s + REPEAT_S
        if due and self._left_out:
            due.append(self._summary(due[-1]))
            self._left_out = 0
        self._budget -= len(due)
        return due

    def _summary(self, beside: Record) -> Record:
        return Record(
            method="Audit.Refusals",
            outcome=OUTCOME_DENIED,
            attempts=self._left_out,
            time=beside.time,
            sentence=f"{self._left_out} more attempts of other callers were refused or failed",
        )
