# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.node.slots.firmware import slot_of_partition, started_slot
from metropolis.node.slots.model import BootRecord, Slot, decode, encode

SLOTS = st.sampled_from([None, Slot.A, Slot.B])
RECORDS = st.builds(
    BootRecord,
    confirmed=SLOTS,
    trying=SLOTS,
    started=SLOTS,
    attempts=st.integers(0, 999),
    failed=SLOTS,
)


@given(RECORDS)
def test_a_record_survives_its_variable(record: BootRecord) -> None:
    assert decode(encode(record)) == record


@pytest.mark.parametrize(
    "data", [None, b"", b"2 confirmed=A", b"\xff\xfe", encode(BootRecord()) + b" more"]
)
def test_what_is_not_understood_is_a_fresh_start(data: bytes | None) -> None:
    assert decode(data) == BootRecord()


@pytest.mark.parametrize(
    ("path", "slot"),
    [
        (r"\EFI\metropolis\boot-a.efi", Slot.A),
        (r"\EFI\METROPOLIS\BOOT-B.EFI", Slot.B),
        ("/EFI/metropolis/boot-b.efi", Slot.B),
        (r"\EFI\BOOT\BOOTX64.EFI", None),
        ("", None),
        (None, None),
    ],
)
def test_the_slot_is_known_by_the_file_that_was_started(
    path: str | None, slot: Slot | None
) -> None:
    assert started_slot(path) is slot


def test_without_such_a_file_the_slot_is_known_by_the_partition() -> None:
    assert slot_of_partition("METROPOLIS-SYSTEM-B") is Slot.B
    assert slot_of_partition("METROPOLIS-SYSTEM-A") is Slot.A
    assert slot_of_partition("MetropolisInstaller") is None
