# SPDX-License-Identifier: Apache-2.0
"""The log of a real firmware is understood; of a changed one is said what changed.

ovmf.eventlog was read in a virtual machine with Secure Boot (OVMF 2022.11), see
tests/e2e/vm/test_firmware_formats.py.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.base.errors import DataLossError
from metropolis.formats import event_log, pcr
from metropolis.formats.event_log import MeasuredEvent, NamedMeasurement

LOG = (Path(__file__).parent / "ovmf.eventlog").read_bytes()
EVENTS = event_log.decode(LOG)
SECURE_BOOT = event_log.of_register(EVENTS, 7)


def _named(name: str, content: bytes) -> NamedMeasurement:
    return NamedMeasurement(name=name, digest=hashlib.sha256(content).digest())


def test_the_events_of_secure_boot_have_names_for_people() -> None:
    assert [each.name for each in SECURE_BOOT] == [
        "the variable SecureBoot",
        "the variable PK",
        "the variable KEK",
        "the variable db",
        "the variable dbx",
        "the end of the firmware's own part",
        "the signer of what was started (CN=Test db)",
    ]


def test_the_digest_of_an_event_is_that_of_its_data() -> None:
    (variable,) = (e for e in EVENTS if event_log.describe(e) == "the variable SecureBoot")
    assert variable.digests[event_log.SHA256] == hashlib.sha256(variable.data).digest()


def test_replaying_is_extending_in_order() -> None:
    value = pcr.START
    for each in SECURE_BOOT:
        value = pcr.extend(value, each.digest)
    assert event_log.replay(EVENTS, 7) == value
    assert event_log.replay(EVENTS, 20) == pcr.START


def test_the_locality_of_a_start_is_where_register_0_begins() -> None:
    locality = MeasuredEvent(
        register=0, kind=event_log.EventKind.NO_ACTION, digests={}, data=b"StartupLocality\0\3"
    )
    assert event_log.replay([locality], 0) == bytes(31) + b"\3"


def test_what_changed_between_two_starts_is_said() -> None:
    assert not event_log.differences(SECURE_BOOT, SECURE_BOOT)
    changed = list(SECURE_BOOT)
    changed[3] = _named("the variable db", b"another")
    changed[6] = _named("the signer of what was started (CN=Other)", b"x")
    assert event_log.differences(SECURE_BOOT, changed) == [
        "the variable db was changed",
        "the signer of what was started (CN=Other) is new",
        "the signer of what was started (CN=Test db) is gone",
    ]
    assert event_log.differences(SECURE_BOOT[:1], [SECURE_BOOT[0]] * 2) == [
        "the variable SecureBoot (2) is new"
    ]
    assert event_log.differences(SECURE_BOOT[:2], SECURE_BOOT[1::-1]) == [
        "the same things were measured in another order"
    ]


def test_notes_of_measurements_come_back() -> None:
    text = event_log.encode_measurements(SECURE_BOOT)
    assert text.splitlines()[0].endswith(" the variable SecureBoot")
    assert event_log.decode_measurements(text) == SECURE_BOOT
    assert event_log.decode_measurements("") == ()
    with pytest.raises(DataLossError, match="noted"):
        event_log.decode_measurements("no digest\n")


def test_a_variable_of_another_vendor_is_named_with_it() -> None:
    (event,) = (e for e in EVENTS if event_log.describe(e) == "the variable PK")
    foreign = replace(event, data=bytes(16) + event.data[16:])
    assert event_log.describe(foreign) == (
        "the variable PK of 00000000-0000-0000-0000-000000000000"
    )


def test_what_is_no_log_is_refused() -> None:
    for content in (b"", b"\0" * 100, LOG[:40], LOG[:-1], LOG + b"\0"):
        with pytest.raises(DataLossError, match="log of measurements") as refused:
            event_log.decode(content)
        assert refused.value.remedy


@given(at=st.integers(0, len(LOG) - 1), value=st.binary(min_size=1, max_size=8))
def test_damage_never_breaks_the_reader(at: int, value: bytes) -> None:
    damaged = bytearray(LOG)
    damaged[at : at + len(value)] = value
    try:
        for event in event_log.decode(bytes(damaged)):
            assert event_log.describe(event)
    except DataLossError as refused:
        assert refused.remedy  # noqa: PT017
