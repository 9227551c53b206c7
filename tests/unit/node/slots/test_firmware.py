# SPDX-License-Identifier: Apache-2.0
from pathlib import Path
from uuid import UUID

import pytest

from metropolis.base.errors import FailedPreconditionError, UnimplementedError
from metropolis.formats.efi import load_option
from metropolis.formats.efi.load_option import FileOnPartition, LoadOption
from metropolis.host.linux.efi_variables import LinuxEfiVariables
from metropolis.node.slots.firmware import SlotKeeper
from metropolis.node.slots.kernels import FALLBACK, mend_copy, slot_path
from metropolis.node.slots.lifecycle import ATTEMPTS_MAX, Order
from metropolis.node.slots.model import Slot

ESP = UUID("11111111-2222-3333-4444-555555555555")
OTHER_ESP = UUID("99999999-2222-3333-4444-555555555555")


class Firmware:
    """Variables in a directory, with entries 3 (slot A), 7 (slot B) and two of others."""

    def __init__(self, place: Path, *, has_b: bool = True) -> None:
        self.variables = LinuxEfiVariables(place)
        self.enter(3, Slot.A.description, ESP)
        if has_b:
            self.enter(7, Slot.B.description, ESP)
        self.enter(1, Slot.B.description, OTHER_ESP)
        self.variables.write("Boot0005", b"not ours")
        self.variables.write("BootOrder", load_option.encode_order([3, 1, 5]))

    def enter(self, number: int, description: str, esp: UUID) -> None:
        target = FileOnPartition(
            partition_number=1,
            first_lba=2048,
            sectors=99,
            partition_guid=esp,
            path=r"\EFI\metropolis\x.efi",
        )
        option = LoadOption(description=description, target=target)
        self.variables.write(f"Boot{number:04X}", load_option.encode(option))

    def keeper(self, slot: Slot) -> SlotKeeper:
        return SlotKeeper(self.variables, esp_guid=str(ESP), slot=slot)

    def order(self, name: str = "BootOrder") -> list[int]:
        return list(load_option.decode_order(self.variables.read(name) or b""))


def test_three_unconfirmed_starts_turn_the_order_round(tmp_path: Path) -> None:
    firmware = Firmware(tmp_path)
    for _ in range(ATTEMPTS_MAX):
        assert firmware.keeper(Slot.A).count_start().order is Order.NOTHING
    assert firmware.order() == [3, 1, 5]
    assert firmware.keeper(Slot.A).count_start().order is Order.START_OTHER_NOW
    assert firmware.order() == [7, 3, 1, 5]


def test_without_a_system_in_the_other_slot_nothing_is_switched(tmp_path: Path) -> None:
    firmware = Firmware(tmp_path, has_b=False)
    for _ in range(ATTEMPTS_MAX + 3):
        assert firmware.keeper(Slot.A).count_start().order is Order.NOTHING
    assert firmware.order() == [3, 1, 5]
    with pytest.raises(FailedPreconditionError):
        firmware.keeper(Slot.A).try_other()


def test_a_try_is_started_next_and_stays_when_it_is_confirmed(tmp_path: Path) -> None:
    firmware = Firmware(tmp_path)
    firmware.keeper(Slot.A).count_start()
    firmware.keeper(Slot.A).confirm()
    firmware.keeper(Slot.A).try_other()
    assert firmware.order("BootNext") == [7]
    assert firmware.order() == [3, 1, 5]
    tried = firmware.keeper(Slot.B)
    assert tried.is_trying
    assert not firmware.keeper(Slot.A).is_trying
    tried.count_start()
    tried.confirm()
    assert firmware.order() == [7, 3, 1, 5]
    assert tried.record.confirmed is Slot.B


def test_a_firmware_that_has_forgotten_everything_is_given_an_entry(tmp_path: Path) -> None:
    variables = LinuxEfiVariables(tmp_path)
    variables.write("Boot0000", b"not ours")
    keeper = SlotKeeper(variables, esp_guid=str(ESP), slot=Slot.B, is_fallback=True)
    assert keeper.count_start().order is Order.NOTHING
    esp = FileOnPartition(
        partition_number=1,
        first_lba=2048,
        sectors=99,
        partition_guid=ESP,
        path=r"\EFI\metropolis\boot-b.efi",
    )
    for _ in range(2):
        keeper.confirm({Slot.B: esp})
        option = load_option.decode(variables.read("Boot0001") or b"")
        assert (option.description, option.target) == ("Metropolis B", esp)
        assert variables.read("BootOrder") == load_option.encode_order([1])
    assert variables.read("Boot0002") is None


def test_the_set_up_screen_is_shown_where_the_firmware_can(tmp_path: Path) -> None:
    firmware = Firmware(tmp_path)
    with pytest.raises(UnimplementedError):
        firmware.keeper(Slot.A).show_set_up_screen()
    firmware.variables.write("OsIndicationsSupported", (1).to_bytes(8, "little"))
    firmware.variables.write("OsIndications", (4).to_bytes(8, "little"))
    firmware.keeper(Slot.A).show_set_up_screen()
    assert firmware.variables.read("OsIndications") == (5).to_bytes(8, "little")


def _esp(place: Path, **contents: bytes) -> None:
    for name, path in (("a", slot_path(Slot.A)), ("fallback", FALLBACK)):
        if name in contents:
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_bytes(contents[name])


@pytest.mark.parametrize("damaged", [None, b"", b"kernel imagf", b"kernel image, longer"])
def test_the_copy_is_made_again_from_what_was_started(
    tmp_path: Path, damaged: bytes | None
) -> None:
    good = b"kernel image"
    _esp(tmp_path, a=good, **({} if damaged is None else {"fallback": damaged}))
    assert mend_copy(tmp_path, Slot.A, started_by_fallback=False)
    assert (tmp_path / FALLBACK).read_bytes() == good
    assert mend_copy(tmp_path, Slot.A, started_by_fallback=False) == ""


def test_a_damaged_slot_is_mended_from_the_fallback_that_was_started(tmp_path: Path) -> None:
    _esp(tmp_path, a=b"kernel imagf", fallback=b"kernel image")
    told = mend_copy(tmp_path, Slot.A, started_by_fallback=True)
    assert told == "EFI/metropolis/boot-a.efi was not EFI/BOOT/BOOTX64.EFI: it was replaced"
    assert (tmp_path / slot_path(Slot.A)).read_bytes() == b"kernel image"
    assert sorted(each.name for each in (tmp_path / "EFI/metropolis").iterdir()) == ["boot-a.efi"]
