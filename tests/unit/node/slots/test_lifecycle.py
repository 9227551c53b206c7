# SPDX-License-Identifier: Apache-2.0
"""Every transition of the boot record, as a table."""

import pytest

from metropolis.node.slots.lifecycle import (
    ATTEMPTS_MAX,
    Order,
    on_confirmation,
    on_start,
    on_try,
)
from metropolis.node.slots.model import BootRecord, Slot

A, B = Slot.A, Slot.B
CONFIRMED = BootRecord(confirmed=A, started=A)

STARTS = [
    # what was remembered, which slot starts, whether the other holds a system,
    # what is remembered then, what the firmware is told
    pytest.param(
        BootRecord(), A, False, BootRecord(started=A, attempts=1), Order.NOTHING, id="first"
    ),
    pytest.param(
        CONFIRMED,
        A,
        True,
        BootRecord(confirmed=A, started=A, attempts=1),
        Order.NOTHING,
        id="as usual",
    ),
    pytest.param(
        BootRecord(confirmed=A, started=A, attempts=ATTEMPTS_MAX - 1),
        A,
        True,
        BootRecord(confirmed=A, started=A, attempts=ATTEMPTS_MAX),
        Order.NOTHING,
        id="third unconfirmed",
    ),
    pytest.param(
        BootRecord(confirmed=A, started=A, attempts=ATTEMPTS_MAX),
        A,
        True,
        BootRecord(confirmed=A, started=B, attempts=0, failed=A),
        Order.START_OTHER_NOW,
        id="after three, the other slot",
    ),
    pytest.param(
        BootRecord(confirmed=A, started=A, attempts=ATTEMPTS_MAX),
        A,
        False,
        BootRecord(confirmed=A, started=A, attempts=ATTEMPTS_MAX + 1),
        Order.NOTHING,
        id="nothing in the other slot",
    ),
    pytest.param(
        BootRecord(confirmed=A, trying=B, started=A),
        B,
        True,
        BootRecord(confirmed=A, trying=B, started=B, attempts=1),
        Order.NOTHING,
        id="the try begins",
    ),
    pytest.param(
        BootRecord(confirmed=A, trying=B, started=B, attempts=1),
        A,
        True,
        BootRecord(confirmed=A, started=A, attempts=1, failed=B),
        Order.NOTHING,
        id="the try was reset",
    ),
    pytest.param(
        BootRecord(confirmed=A, started=B, attempts=ATTEMPTS_MAX, failed=A),
        B,
        True,
        BootRecord(confirmed=A, started=A, attempts=0, failed=B),
        Order.START_OTHER_NOW,
        id="the other one fails, too",
    ),
]


@pytest.mark.parametrize(("before", "slot", "other", "after", "order"), STARTS)
def test_a_start_is_counted(
    before: BootRecord, slot: Slot, other: bool, after: BootRecord, order: Order
) -> None:
    step = on_start(before, slot, other_holds_system=other)
    assert step.record == after
    assert step.order is order
    assert step.slot is (slot if order is Order.NOTHING else slot.other)


def test_a_switch_and_a_failed_try_are_told() -> None:
    switch = on_start(BootRecord(confirmed=A, started=A, attempts=3), A, other_holds_system=True)
    assert switch.sentence == (
        "The system in slot A was started 3 times and never confirmed: starting slot B"
    )
    back = on_start(BootRecord(confirmed=A, trying=B), A, other_holds_system=True)
    assert back.sentence == (
        "The system in slot B was tried and not confirmed: slot A was started again"
    )
    assert on_start(CONFIRMED, A, other_holds_system=True).sentence == ""


@pytest.mark.parametrize(
    ("before", "slot", "after", "is_told"),
    [
        (BootRecord(started=A, attempts=1), A, BootRecord(confirmed=A, started=A), True),
        (
            BootRecord(confirmed=A, started=A, attempts=3),
            A,
            BootRecord(confirmed=A, started=A),
            False,
        ),
        (
            BootRecord(confirmed=A, trying=B, started=B, attempts=1),
            B,
            BootRecord(confirmed=B, started=B),
            True,
        ),
        (
            BootRecord(confirmed=A, started=A, attempts=1, failed=B),
            A,
            BootRecord(confirmed=A, started=A, failed=B),
            False,
        ),
        (
            BootRecord(confirmed=A, started=B, attempts=2, failed=B),
            B,
            BootRecord(confirmed=B, started=B),
            True,
        ),
    ],
)
def test_a_confirmation_forgets_the_attempts(
    before: BootRecord, slot: Slot, after: BootRecord, is_told: bool
) -> None:
    step = on_confirmation(before, slot)
    assert step.record == after
    assert (step.order, step.slot) == (Order.START_FIRST, slot)
    assert bool(step.sentence) is is_told


def test_a_try_is_for_once() -> None:
    step = on_try(BootRecord(confirmed=A, started=A, failed=B), B)
    assert step.record == BootRecord(confirmed=A, trying=B, started=A)
    assert (step.order, step.slot) == (Order.START_NEXT, B)


def test_no_history_of_starts_confirms_what_was_never_confirmed() -> None:
    record, slot, switches = BootRecord(), A, 0
    for _ in range(50):
        step = on_start(record, slot, other_holds_system=True)
        record = step.record
        if step.order is Order.START_OTHER_NOW:
            slot, switches = step.slot, switches + 1
    assert record.confirmed is None
    assert switches == 50 // (ATTEMPTS_MAX + 1)
