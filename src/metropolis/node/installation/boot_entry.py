# SPDX-License-Identifier: Apache-2.0
"""The firmware's entry for a slot: made or mended, put first, and those of lost disks forgotten."""

from collections.abc import Callable, Iterator
from typing import Final, Protocol
from uuid import UUID

from metropolis.base.errors import DataLossError, ResourceExhaustedError
from metropolis.formats import gpt
from metropolis.formats.efi import load_option
from metropolis.formats.efi.load_option import FileOnPartition, LoadOption
from metropolis.formats.efi.variables import BOOT_NEXT, BOOT_ORDER
from metropolis.node.installation.secure_boot import FirmwareVariables
from metropolis.node.slots import model
from metropolis.node.slots.kernels import slot_path
from metropolis.node.slots.model import Slot

_DESCRIPTIONS: Final = tuple(slot.description for slot in Slot)
_NUMBERS: Final = 0x10000


class BootVariables(FirmwareVariables, Protocol):
    """EFI variables that can also be listed and removed."""

    def remove(self, name: str, guid: str = ...) -> None:
        """Remove a variable; it is fine when it is not there."""
        ...

    def names(self) -> tuple[tuple[str, str], ...]:
        """Return (name, GUID) of every variable."""
        ...


def slot_a_option(table: gpt.PartitionTable) -> LoadOption:
    """Return the entry that starts slot A of a disk of ours."""
    kinds = [each.type_guid for each in table.partitions]
    number = kinds.index(gpt.ESP_TYPE)
    esp = table.partitions[number]
    return LoadOption(
        description=Slot.A.description,
        target=FileOnPartition(
            partition_number=number + 1,
            first_lba=esp.first_lba,
            sectors=esp.sectors,
            partition_guid=esp.guid,
            path="\\" + slot_path(Slot.A).replace("/", "\\"),
        ),
    )


def enter_first(
    variables: BootVariables, option: LoadOption, *, is_present: Callable[[UUID], bool]
) -> int:
    """Have the firmware start something first from now on; return its number.

    What else was in the order stays behind it. Entries of ours for disks that are gone are removed:
    a firmware has room for few.

    Args:
        is_present: Whether a partition with this GUID is in the machine.

    Raises:
        FailedPreconditionError: the firmware refuses.
        ResourceExhaustedError: it has no number left.
    """
    assert option.target is not None
    known = dict(_options(variables))
    stale = [
        number
        for number, each in known.items()
        if each.description in _DESCRIPTIONS
        and each.target is not None
        and not is_present(each.target.partition_guid)
    ]
    for number in stale:
        variables.remove(load_option.boot_variable(number).name)
        del known[number]
    same = [number for number, found in known.items() if found == option]
    number = same[0] if same else _free_number(variables)
    if not same:
        variables.write(load_option.boot_variable(number).name, load_option.encode(option))
    order = [each for each in _order(variables) if each != number and each not in stale]
    variables.write(BOOT_ORDER.name, load_option.encode_order([number, *order]))
    return number


def forget_boots(variables: BootVariables) -> None:
    """Forget what an earlier system's boots have come to: this one begins anew."""
    variables.remove(model.VARIABLE, model.VENDOR)


def start_disk_next(variables: BootVariables, table: gpt.PartitionTable) -> bool:
    """Have the firmware start a disk next, once, by its first entry; False: it has none."""
    guids = {each.guid for each in table.partitions}
    options = dict(_options(variables))
    for number in _order(variables):
        target = options[number].target if number in options else None
        if target is not None and target.partition_guid in guids:
            start_next(variables, number)
            return True
    return False


def start_next(variables: BootVariables, number: int) -> None:
    """Have the firmware start an entry next, once, even if a medium comes first in its order."""
    variables.write(BOOT_NEXT.name, load_option.encode_order([number]))


def _options(variables: BootVariables) -> Iterator[tuple[int, LoadOption]]:
    for name, _ in variables.names():
        number = load_option.boot_number(name)
        value = variables.read(name) if number is not None else None
        if number is None or value is None:
            continue
        try:
            yield number, load_option.decode(value)
        except DataLossError:  # somebody else's
            continue


def _order(variables: BootVariables) -> list[int]:
    try:
        return list(load_option.decode_order(variables.read(BOOT_ORDER.name) or b""))
    except DataLossError:
        return []


def _free_number(variables: BootVariables) -> int:
    taken = {load_option.boot_number(name) for name, _ in variables.names()}
    for number in range(_NUMBERS):
        if number not in taken:
            return number
    raise ResourceExhaustedError(
        "the firmware has no number for a boot entry left",
        remedy="Remove boot entries in the firmware's menu.",
    )
