# SPDX-License-Identifier: Apache-2.0
"""Registration: what a machine found out about itself, judged and written down."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from typing_extensions import override

from metropolis.base.errors import FailedPreconditionError
from metropolis.metal.model.hardware import Bios, Hardware
from metropolis.metal.model.ipmi import IPMIS, NEVER, Fru, Ipmi
from metropolis.metal.model.machine import MACHINES, NO_MAC, LedState, Machine
from metropolis.metal.model.partition import PARTITIONS
from metropolis.metal.rules.allocation import with_system_tags
from metropolis.metal.services.connections import connect_machine, connected_switches
from metropolis.metal.services.events import ensure_container
from metropolis.metal.services.machines import change, empty_machine
from metropolis.metal.services.sizes import match_hardware
from metropolis.metal.store import Reader, Stored, Transaction

# What vendors write where a serial number should be.
_PLACEHOLDERS: Final = frozenset(
    {
        "", "-", "0", "00000000", "0123456789", "1234567890", "123456789", "default string",
        "n/a", "na", "none", "not specified", "system serial number", "to be filled by o.e.m.",
        "unknown", "unspecified",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedBmc:
    """The BMC of a machine as seen from inside.

    Attributes:
        address: `host:port`.
    """

    address: str = ""
    mac: str = ""
    user: str = ""
    password: str = ""
    interface: str = ""
    fru: Fru = field(default_factory=Fru)
    bmc_version: str = ""
    power_state: str = ""

    @override
    def __repr__(self) -> str:
        """Without the password."""
        return f"ReportedBmc(address={self.address!r}, mac={self.mac!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What a machine says of itself."""

    machine_id: str
    partition_id: str
    hardware: Hardware
    bios: Bios
    bmc: ReportedBmc
    tags: Sequence[str] = ()
    metal_hammer_version: str = ""


async def register(tx: Transaction, registration: Registration) -> Stored[Machine]:
    """Write down what a machine says of itself, and where it is plugged in.

    Raises:
        InvalidArgumentError: no machine is called so.
        NotFoundError: there is no such partition.
        FailedPreconditionError: another machine is known by the same MAC address or serial number,
            it is somebody's and in another partition, or its cables are not as they should be.
    """
    machine_id = registration.machine_id
    await tx.get(PARTITIONS, registration.partition_id)
    known = await tx.lookup(MACHINES, machine_id)
    await _check_twins(tx, registration)
    if known is None:
        machine = empty_machine(machine_id, partition_id=registration.partition_id, now=tx.now)
        led = LedState(description="Machine registered")
        known = await tx.insert(
            MACHINES, machine_id, msgspec.structs.replace(machine, ledstate=led)
        )
    elif known.value.allocation is not None and (
        known.value.partition_id != registration.partition_id
    ):
        raise FailedPreconditionError(
            f"partition_id: machine {machine_id} is allocated in {known.value.partition_id} "
            f"and registers in {registration.partition_id}",
            remedy="Bring it back, or free it first.",
        )
    size_id = await match_hardware(tx, registration.hardware)
    rack_id = await connect_machine(tx, machine_id, registration.hardware.nics)
    rooms = [each.value.room_id for each in await connected_switches(tx, machine_id)]
    machine = known.value
    changes: dict[str, Any] = {
        "partition_id": registration.partition_id,
        "rack_id": rack_id,
        "room_id": rooms[0] if rooms else "",
        "hardware": registration.hardware,
        "bios": registration.bios,
        "waiting": False,  # whoever waited for it before is gone
        "state": msgspec.structs.replace(
            machine.state, metal_hammer_version=registration.metal_hammer_version
        ),
    }
    if machine.allocation is None:
        # Whoever has a machine keeps the size that he asked for.
        changes |= {"size_id": size_id, "tags": tuple(sorted(set(registration.tags)))}
    else:
        changes["tags"] = with_system_tags(
            machine.tags,
            rack_id=rack_id,
            chassis_serial=registration.bmc.fru.chassis_part_serial or "",
            networks=machine.allocation.networks,
        )
    registered = await change(tx, known, **changes)
    await _keep_bmc(tx, machine_id, registration.bmc)
    await ensure_container(tx, machine_id)
    return registered


async def _check_twins(reader: Reader, registration: Registration) -> None:
    """Refuse a machine that has what another one has, too: then one of the two is not the other."""
    macs = sorted({nic.mac for nic in registration.hardware.nics} - {"", NO_MAC})
    for mac in macs:
        for other in await reader.find(MACHINES, {"mac": mac}, limit=2):
            if other.id != registration.machine_id:
                raise FailedPreconditionError(
                    f"hardware.nics: {mac} belongs to machine {other.id}",
                    remedy="Delete that machine if the interface was moved here.",
                )
    serial = registration.bmc.fru.board_mfg_serial or ""
    if serial.strip().lower() in _PLACEHOLDERS:
        return
    for twin in await reader.find(IPMIS, {"board-serial": serial}, limit=2):
        if twin.id != registration.machine_id:
            raise FailedPreconditionError(
                f"ipmi.fru.board_mfg_serial: {serial!r} belongs to machine {twin.id}",
                remedy="Delete that machine if its UUID was changed.",
            )


async def _keep_bmc(tx: Transaction, machine_id: str, bmc: ReportedBmc) -> None:
    """Replace what is known of a BMC; what it measures only it says itself."""
    stored = await tx.lookup(IPMIS, machine_id)
    before = Ipmi(id=machine_id, last_updated=NEVER) if stored is None else stored.value
    after = msgspec.structs.replace(
        before,
        address=bmc.address,
        mac=bmc.mac,
        user=bmc.user,
        password=bmc.password,
        interface=bmc.interface,
        fru=bmc.fru,
        bmc_version=bmc.bmc_version,
        power_state=bmc.power_state,
        last_updated=tx.now,
    )
    if stored is None:
        await tx.insert(IPMIS, machine_id, after)
    else:
        await tx.replace(stored, after)
