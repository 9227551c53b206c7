# SPDX-License-Identifier: Apache-2.0
"""The firmware's boot entries after an installation."""

from dataclasses import replace
from uuid import UUID

from metropolis.formats.efi import load_option
from metropolis.node.installation.boot_entry import (
    enter_first,
    slot_a_option,
    start_disk_next,
    start_next,
)
from metropolis.node.installation.disk import DiskGuids, plan_disk
from unit.node.installation.firmware import Firmware

PLAN = plan_disk(4 << 30, guids=DiskGuids.derived(UUID(int=1), "disk"))
TABLE = PLAN.table(slot_a_guid=UUID(int=5))
OPTION = slot_a_option(TABLE)


def _order(firmware: Firmware) -> list[int]:
    return list(load_option.decode_order(firmware.read("BootOrder") or b""))


def test_the_entry_names_the_file_on_the_new_disk() -> None:
    target = OPTION.target
    assert target is not None
    assert target.path == "\\EFI\\metropolis\\boot-a.efi"
    assert target.partition_guid == PLAN.guids.esp
    assert (target.partition_number, target.first_lba, target.sectors) == (1, 2048, 524288)


def test_the_entry_comes_first_and_others_stay_behind_it() -> None:
    firmware = Firmware()
    firmware.write("Boot0000", b"somebody's")
    firmware.write("BootOrder", load_option.encode_order([3, 0]))
    number = enter_first(firmware, OPTION, is_present=lambda _: True)
    assert number == 1
    assert _order(firmware) == [1, 3, 0]
    assert load_option.decode(firmware.read("Boot0001") or b"") == OPTION


def test_entering_twice_makes_one_entry() -> None:
    firmware = Firmware()
    for _ in range(2):
        assert enter_first(firmware, OPTION, is_present=lambda _: True) == 0
    assert [name for name, _ in firmware.names() if load_option.boot_number(name) is not None] == [
        "Boot0000"
    ]
    assert _order(firmware) == [0]


def test_entries_of_disks_that_are_gone_are_forgotten_and_no_others() -> None:
    firmware = Firmware()
    assert OPTION.target is not None
    gone, there, foreign = (
        replace(OPTION, target=replace(OPTION.target, partition_guid=UUID(int=number)))
        for number in (7, 8, 9)
    )
    foreign = replace(foreign, description="Debian")
    for number, option in ((3, gone), (1, there), (2, foreign)):
        firmware.write(f"Boot000{number}", load_option.encode(option))
    firmware.write("BootOrder", load_option.encode_order([3, 1, 2]))
    present = {UUID(int=8), PLAN.guids.esp}
    assert enter_first(firmware, OPTION, is_present=present.__contains__) == 0
    assert _order(firmware) == [0, 1, 2]
    assert load_option.decode(firmware.read("Boot0000") or b"") == OPTION
    assert load_option.decode(firmware.read("Boot0002") or b"").description == "Debian"
    assert firmware.read("Boot0003") is None


def test_a_damaged_order_is_replaced() -> None:
    firmware = Firmware()
    firmware.write("BootOrder", b"\0")
    enter_first(firmware, OPTION, is_present=lambda _: True)
    assert _order(firmware) == [0]


def test_an_entry_can_be_started_once() -> None:
    firmware = Firmware()
    start_next(firmware, 0x12)
    assert firmware.read("BootNext") == b"\x12\0"


def test_a_disk_is_started_next_by_the_first_of_its_entries() -> None:
    firmware = Firmware()
    assert not start_disk_next(firmware, TABLE)
    assert OPTION.target is not None
    slot_b = replace(
        OPTION,
        description="Metropolis B",
        target=replace(OPTION.target, path="\\EFI\\metropolis\\boot-b.efi"),
    )
    elsewhere = replace(OPTION, target=replace(OPTION.target, partition_guid=UUID(int=7)))
    for number, option in enumerate((elsewhere, OPTION, slot_b)):
        firmware.write(f"Boot000{number}", load_option.encode(option))
    firmware.write("BootOrder", load_option.encode_order([9, 0, 2, 1]))
    assert start_disk_next(firmware, TABLE)
    assert firmware.read("BootNext") == b"\2\0"  # slot B was confirmed: it stays first
