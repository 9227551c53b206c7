# SPDX-License-Identifier: Apache-2.0
"""Secure Boot before an installation: what is enrolled, and when it is refused."""

import pytest

from kits.signer import signer
from metropolis.base.errors import DataLossError, FailedPreconditionError
from metropolis.formats.efi.variables import ALLOWED, GLOBAL, KEY_EXCHANGE_KEYS, PLATFORM_KEY
from metropolis.node.installation.secure_boot import (
    SecureBoot,
    enrol,
    judge_secure_boot,
    plan_enrolment,
    start_again_from_here,
)
from unit.node.installation.firmware import Firmware, certificates, enrolment


def _enrol(firmware: Firmware, *, keeps_vendor_keys: bool = False) -> None:
    enrol(firmware, plan_enrolment(firmware, enrolment(), keeps_vendor_keys=keeps_vendor_keys))


def test_a_firmware_in_setup_mode_gets_our_keys_and_believes_them_after_a_restart() -> None:
    firmware = Firmware()
    assert judge_secure_boot(firmware, enrolment()) is SecureBoot.SETUP
    _enrol(firmware)
    assert firmware.written == ["db", "KEK", "PK"]
    with pytest.raises(FailedPreconditionError, match="the keys of Metropolis are enrolled"):
        judge_secure_boot(firmware, enrolment())  # not before it enforces them
    firmware.restart()
    assert judge_secure_boot(firmware, enrolment()) is SecureBoot.VERIFIED
    for variable in (ALLOWED, KEY_EXCHANGE_KEYS, PLATFORM_KEY):
        assert firmware.holds(variable) == [signer(variable.name).certificate_der]


@pytest.mark.parametrize("cut_after", [0, 1, 2])
def test_an_enrolment_whose_power_is_cut_is_done_again(cut_after: int) -> None:
    firmware = Firmware()
    updates = plan_enrolment(firmware, enrolment(), keeps_vendor_keys=False)
    with pytest.raises(FailedPreconditionError, match="still in Setup Mode"):
        enrol(firmware, updates[:cut_after])
    firmware.restart()
    assert judge_secure_boot(firmware, enrolment()) is SecureBoot.SETUP
    _enrol(firmware)
    firmware.restart()
    assert judge_secure_boot(firmware, enrolment()) is SecureBoot.VERIFIED
    assert firmware.holds(ALLOWED) == [signer("db").certificate_der]


def test_keys_that_the_firmware_came_with_are_kept_on_request_only() -> None:
    for keeps in (True, False):
        firmware = Firmware()
        firmware.values["dbDefault", str(GLOBAL)] = certificates("vendor db", "vendor CA")
        firmware.values["KEKDefault", str(GLOBAL)] = certificates("vendor KEK")
        _enrol(firmware, keeps_vendor_keys=keeps)
        firmware.restart()
        assert judge_secure_boot(firmware, enrolment()) is SecureBoot.VERIFIED
        ours = signer("db").certificate_der
        kept = [signer(name).certificate_der for name in ("vendor db", "vendor CA")]
        assert firmware.holds(ALLOWED) == ([ours, *kept] if keeps else [ours])
        assert len(firmware.holds(KEY_EXCHANGE_KEYS)) == (2 if keeps else 1)
        assert firmware.written[-1] == "PK"  # it ends Setup Mode


def test_without_defaults_what_is_in_the_database_is_kept() -> None:
    firmware = Firmware()
    firmware.values[ALLOWED.name, str(ALLOWED.vendor)] = certificates("vendor db")
    _enrol(firmware, keeps_vendor_keys=True)
    assert firmware.holds(ALLOWED) == [
        signer("db").certificate_der,
        signer("vendor db").certificate_der,
    ]


def test_a_firmware_without_secure_boot_is_refused() -> None:
    firmware = Firmware()
    firmware.values.clear()
    with pytest.raises(FailedPreconditionError, match="has no Secure Boot"):
        judge_secure_boot(firmware, enrolment())


@pytest.mark.parametrize(
    ("enrolled", "is_on", "problem", "remedy"),
    [
        (True, False, "Secure Boot is turned off", "Turn Secure Boot on in the firmware's menu"),
        (False, False, "Secure Boot is off, and the firmware is not in Setup", "choose Setup Mode"),
        (False, True, "on, with other keys than those of this medium", "Delete the Platform Key"),
    ],
)
def test_a_firmware_that_does_not_enforce_our_keys_is_refused_with_the_menu_named(
    enrolled: bool, is_on: bool, problem: str, remedy: str
) -> None:
    firmware = Firmware()

    firmware.values[ALLOWED.name, str(ALLOWED.vendor)] = certificates(
        "db" if enrolled else "foreign db"
    )
    firmware.values["SetupMode", str(GLOBAL)] = b"\0"
    firmware.values["SecureBoot", str(GLOBAL)] = b"\1" if is_on else b"\0"
    with pytest.raises(FailedPreconditionError) as caught:
        judge_secure_boot(firmware, enrolment())
    assert problem in str(caught.value)
    assert remedy in caught.value.remedy
    assert "menu (usually Security or Boot, Secure Boot)" in caught.value.remedy


def test_our_certificate_beside_others_is_enough() -> None:
    firmware = Firmware()
    firmware.values[ALLOWED.name, str(ALLOWED.vendor)] = certificates("vendor db", "db")
    firmware.values["SetupMode", str(GLOBAL)] = b"\0"
    firmware.values["SecureBoot", str(GLOBAL)] = b"\1"
    assert judge_secure_boot(firmware, enrolment()) is SecureBoot.VERIFIED


def test_a_firmware_that_refuses_a_key_leads_to_its_menu_in_the_right_order() -> None:
    firmware = Firmware()
    firmware.refuses = {"KEK"}
    with pytest.raises(FailedPreconditionError, match="KEK was not enrolled") as caught:
        _enrol(firmware)
    assert "db first, then KEK, then PK" in caught.value.remedy
    assert "PK" not in firmware.written


def test_a_firmware_that_stays_in_setup_mode_is_not_restarted_for_ever() -> None:
    firmware = Firmware(stays_in_setup_mode=True)
    with pytest.raises(FailedPreconditionError, match="still in Setup Mode"):
        _enrol(firmware)


@pytest.mark.parametrize("damage", [b"", b"\0" * 100])
def test_damaged_keys_are_refused_before_anything_is_written(damage: bytes) -> None:
    firmware = Firmware()
    with pytest.raises(DataLossError):
        plan_enrolment(firmware, enrolment() | {"KEK": damage}, keeps_vendor_keys=False)
    assert firmware.written == []


def test_the_medium_is_started_once_more_whatever_the_order() -> None:
    firmware = Firmware()
    firmware.values["BootCurrent", str(GLOBAL)] = b"\7\0"
    start_again_from_here(firmware)
    assert firmware.read("BootNext") == b"\7\0"
    firmware.refuses = {"BootNext"}
    start_again_from_here(firmware)  # no reason to stop
