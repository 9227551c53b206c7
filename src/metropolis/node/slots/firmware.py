# SPDX-License-Identifier: Apache-2.0
"""The boot record and the entries of the slots, in the firmware's variables.

Light: the initrd counts boots with it.
"""

from collections.abc import Mapping
from typing import Final, Protocol

from metropolis.base.errors import FailedPreconditionError, MetropolisError, UnimplementedError
from metropolis.formats.efi import load_option
from metropolis.formats.efi.load_option import FileOnPartition, LoadOption
from metropolis.node.slots import model
from metropolis.node.slots.lifecycle import Order, Step, on_confirmation, on_start, on_try
from metropolis.node.slots.model import BootRecord, Slot

GLOBAL: Final = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
LOADER: Final = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
_NUMBERS: Final = 0x10000
_SET_UP_SCREEN: Final = 0x1  # EFI_OS_INDICATIONS_BOOT_TO_FW_UI
_INDICATIONS_BYTES: Final = 8


class SlotVariables(Protocol):
    """The firmware's variables, as `LinuxEfiVariables` has them."""

    def read(self, name: str, guid: str = ...) -> bytes | None: ...

    def write(self, name: str, data: bytes, guid: str = ..., *, attributes: int = ...) -> None: ...

    def names(self) -> tuple[tuple[str, str], ...]: ...


class SlotKeeper:
    """Carries the lifecycle's orders out.

    Args:
        esp_guid: Of the partition that this system was started from: entries of other disks are
            none of ours.
        slot: The one that runs.
        is_fallback: The firmware started EFI/BOOT/BOOTX64.EFI, for want of an entry that works.
    """

    def __init__(
        self,
        variables: SlotVariables,
        *,
        esp_guid: str,
        slot: Slot,
        is_fallback: bool = False,
    ) -> None:
        self._variables = variables
        self._esp_guid = esp_guid
        self.slot = slot
        self.is_fallback = is_fallback

    @property
    def record(self) -> BootRecord:
        """What is remembered."""
        return model.decode(self._variables.read(model.VARIABLE, model.VENDOR))

    @property
    def is_trying(self) -> bool:
        """Whether the system that runs is only tried: whatever resets it starts the other one."""
        return self.record.trying is self.slot

    def count_start(self) -> Step:
        """Count this start; the caller restarts the machine if the step says so."""
        other = self._entry(self.slot.other)
        return self._take(on_start(self.record, self.slot, other_holds_system=other is not None))

    def confirm(self, kernels: Mapping[Slot, FileOnPartition] | None = None) -> Step:
        """The system that runs is good.

        Args:
            kernels: The slots' kernel images: a firmware without entries for them is given some.
        """
        for slot, kernel in (kernels or {}).items():
            if self._entry(slot) is None:
                option = LoadOption(description=slot.description, target=kernel)
                name = load_option.boot_variable(self._free_number()).name
                self._variables.write(name, load_option.encode(option), GLOBAL)
        return self._take(on_confirmation(self.record, self.slot))

    def try_other(self) -> Step:
        """Have the other slot started next, once.

        Raises:
            FailedPreconditionError: it holds no system.
        """
        if self._entry(self.slot.other) is None:
            raise FailedPreconditionError(
                f"slot {self.slot.other.value} holds no system to go back to",
                remedy="Reboot without --rollback.",
            )
        return self._take(on_try(self.record, self.slot.other))

    def show_set_up_screen(self) -> None:
        """Have the firmware show its set-up screen next time.

        Raises:
            UnimplementedError: it cannot.
        """
        supported = int.from_bytes(
            self._variables.read("OsIndicationsSupported", GLOBAL) or b"", "little"
        )
        if not supported & _SET_UP_SCREEN:
            raise UnimplementedError(
                "this machine's firmware cannot be told to show its set-up screen",
                remedy="Press the firmware's key at power-on instead.",
            )
        wanted = int.from_bytes(self._variables.read("OsIndications", GLOBAL) or b"", "little")
        wanted |= _SET_UP_SCREEN
        self._variables.write(
            "OsIndications", wanted.to_bytes(_INDICATIONS_BYTES, "little"), GLOBAL
        )

    def _take(self, step: Step) -> Step:
        self._variables.write(model.VARIABLE, model.encode(step.record), model.VENDOR)
        number = None if step.order is Order.NOTHING else self._entry(step.slot)
        if number is None:
            return step
        if step.order is Order.START_NEXT:
            self._variables.write("BootNext", load_option.encode_order([number]), GLOBAL)
        else:
            order = [each for each in self._order() if each != number]
            self._variables.write("BootOrder", load_option.encode_order([number, *order]), GLOBAL)
        return step

    def _free_number(self) -> int:
        taken = {load_option.boot_number(name) for name, _ in self._variables.names()}
        return next(number for number in range(_NUMBERS) if number not in taken)

    def _order(self) -> list[int]:
        try:
            value = self._variables.read("BootOrder", GLOBAL)
            return list(load_option.decode_order(value or b""))
        except MetropolisError:
            return []

    def _entry(self, slot: Slot) -> int | None:
        """Return the number of the firmware's entry for a slot of this disk."""
        for name, guid in self._variables.names():
            number = load_option.boot_number(name) if guid == GLOBAL else None
            if number is None:
                continue
            try:
                option = load_option.decode(self._variables.read(name, GLOBAL) or b"")
            except MetropolisError:
                continue  # somebody else's
            target = option.target
            if (
                option.description == slot.description
                and target is not None
                and str(target.partition_guid) == self._esp_guid
            ):
                return number
        return None


def started_slot(image_path: str | None) -> Slot | None:
    """Return the slot whose kernel image the firmware started, by its path; None: the fallback."""
    name = (image_path or "").replace("/", "\\").rpartition("\\")[2].lower()
    return next((slot for slot in Slot if slot.file_name == name), None)


def slot_of_partition(label: str) -> Slot | None:
    """Return the slot that a system partition is, by its name; None: of an install medium."""
    names = {f"METROPOLIS-SYSTEM-{slot.value}": slot for slot in Slot}
    return names.get(label)
