# SPDX-License-Identifier: Apache-2.0
"""What becomes of the boot record, and what the firmware is then told. Pure."""

import enum
from dataclasses import dataclass, replace
from typing import Final

from metropolis.node.slots.model import BootRecord, Slot

ATTEMPTS_MAX: Final = 3  # unconfirmed starts of one slot before the other gets its turn


class Order(enum.Enum):
    """What the firmware is told."""

    NOTHING = "nothing"
    START_NEXT = "start this slot next, once"  # BootNext
    START_FIRST = "start this slot from now on"  # BootOrder
    START_OTHER_NOW = "start this slot from now on, and now"  # BootOrder, and a restart


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A transition.

    Attributes:
        record: What is remembered from now on; written before the order is carried out.
        slot: Which slot the order is about.
        sentence: What is logged; empty when nothing is worth it.
    """

    record: BootRecord
    order: Order
    slot: Slot
    sentence: str = ""


def on_start(record: BootRecord, slot: Slot, *, other_holds_system: bool) -> Step:
    """A slot was started: count it, and see whether a try has failed or the slot has."""
    sentence = ""
    if record.trying is not None and record.trying is not slot:
        # The try came first and was reset, or the firmware refused it.
        sentence = (
            f"The system in slot {record.trying.value} was tried and not confirmed: "
            f"slot {slot.value} was started again"
        )
        record = replace(record, trying=None, failed=record.trying)
    before = record.attempts if record.started is slot else 0
    if before >= ATTEMPTS_MAX and other_holds_system:
        other = slot.other
        switched = replace(record, trying=None, started=other, attempts=0, failed=slot)
        return Step(
            record=switched,
            order=Order.START_OTHER_NOW,
            slot=other,
            sentence=f"The system in slot {slot.value} was started {before} times and never "
            f"confirmed: starting slot {other.value}",
        )
    counted = replace(record, started=slot, attempts=before + 1)
    return Step(record=counted, order=Order.NOTHING, slot=slot, sentence=sentence)


def on_confirmation(record: BootRecord, slot: Slot) -> Step:
    """The system in this slot made the machine a member of its cluster again."""
    failed = None if record.failed is slot else record.failed
    confirmed = BootRecord(confirmed=slot, started=slot, attempts=0, failed=failed)
    sentence = "" if record.confirmed is slot else f"The system in slot {slot.value} is confirmed"
    return Step(record=confirmed, order=Order.START_FIRST, slot=slot, sentence=sentence)


def on_try(record: BootRecord, slot: Slot) -> Step:
    """The system in this slot is to be started once: after an update, or to roll back."""
    failed = None if record.failed is slot else record.failed
    return Step(
        record=replace(record, trying=slot, failed=failed),
        order=Order.START_NEXT,
        slot=slot,
        sentence=f"The system in slot {slot.value} is started next, once",
    )
