# SPDX-License-Identifier: Apache-2.0
"""What BMC agents report about the BMCs of their partition."""

import ipaddress
from collections.abc import Sequence
from typing import Final

import msgspec

from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.model.ipmi import IPMIS, NEVER, Fru, Ipmi
from metropolis.metal.model.machine import MACHINES, Machine
from metropolis.metal.model.machine_request import MachineIpmiReport, MachineIpmiReports
from metropolis.metal.model.machine_response import MachineIpmiReportResponse
from metropolis.metal.model.partition import PARTITIONS
from metropolis.metal.services.machines import (
    change,
    check_machine_id,
    empty_machine,
    write_again,
)
from metropolis.metal.store import Store, Stored, Transaction

IPMI_PORT: Final = 623
REPORTS_PER_TRANSACTION: Final = 100  # so that thousands do not keep everybody else waiting


async def receive_reports(store: Store, request: MachineIpmiReports) -> MachineIpmiReportResponse:
    """Write down what the BMCs of a partition say; machines nobody heard of become known.

    Raises:
        NotFoundError: there is no such partition.
        InvalidArgumentError: no machine is called so, or an address is none.
    """
    reports = sorted((request.reports or {}).items())
    for machine_id, report in reports:
        check_machine_id(machine_id)
        _check_address(machine_id, report.bmc_ip)
    await store.read(lambda reader: reader.get(PARTITIONS, request.partition_id))
    created: list[str] = []
    updated: list[str] = []
    for start in range(0, len(reports), REPORTS_PER_TRANSACTION):
        part = reports[start : start + REPORTS_PER_TRANSACTION]

        async def write_part(
            tx: Transaction, part: Sequence[tuple[str, MachineIpmiReport]] = part
        ) -> MachineIpmiReportResponse:
            return await _receive(tx, request.partition_id, part)

        done = await write_again(store, write_part)
        created += done.created
        updated += done.updated
    return MachineIpmiReportResponse(created=tuple(created), updated=tuple(updated))


def _check_address(machine_id: str, address: str) -> None:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise InvalidArgumentError(
            f"reports[{machine_id}].BMCIp: {address[:60]!r} is no IP address",
            remedy="Report the address that the BMC has, without a port.",
        ) from None


async def _receive(
    tx: Transaction, partition_id: str, reports: Sequence[tuple[str, MachineIpmiReport]]
) -> MachineIpmiReportResponse:
    created: list[str] = []
    updated: list[str] = []
    for machine_id, report in reports:
        machine = await tx.lookup(MACHINES, machine_id)
        if machine is None:
            empty = empty_machine(machine_id, partition_id=partition_id, now=tx.now)
            machine = await tx.insert(MACHINES, machine_id, empty)
            created.append(machine_id)
        elif machine.value.partition_id not in {"", partition_id}:
            continue  # two partitions see it: the one where it registered is right
        else:
            updated.append(machine_id)
        await _update_machine(tx, machine, partition_id, report)
        await _update_bmc(tx, machine_id, report)
    return MachineIpmiReportResponse(created=tuple(created), updated=tuple(updated))


async def _update_machine(
    tx: Transaction, machine: Stored[Machine], partition_id: str, report: MachineIpmiReport
) -> None:
    """Write the machine only if something of it changed: that is seldom, reports are not."""
    before = machine.value
    bios, led = before.bios, before.ledstate
    if report.bios_version:
        bios = msgspec.structs.replace(bios, version=report.bios_version)
    if report.led_state in {"LED-ON", "LED-OFF"}:
        led = msgspec.structs.replace(led, value=report.led_state)
    if (before.partition_id, before.bios, before.ledstate) != (partition_id, bios, led):
        await change(tx, machine, partition_id=partition_id, bios=bios, ledstate=led)


async def _update_bmc(tx: Transaction, machine_id: str, report: MachineIpmiReport) -> None:
    stored = await tx.lookup(IPMIS, machine_id)
    before = Ipmi(id=machine_id, last_updated=NEVER) if stored is None else stored.value
    after = msgspec.structs.replace(
        before,
        address=_address(before.address, report.bmc_ip),
        bmc_version=report.bmc_version or before.bmc_version,
        fru=_merged(before.fru, report.fru),
        power_state=report.power_state or before.power_state,
        power_metric=report.power_metric or before.power_metric,
        power_supplies=(
            before.power_supplies if report.power_supplies is None else report.power_supplies
        ),
        last_updated=tx.now,
    )
    if stored is None:
        await tx.insert(IPMIS, machine_id, after)
    else:
        await tx.replace(stored, after)


def _address(before: str, host: str) -> str:
    """Put another host in front of the port that is known."""
    _, colon, port = before.rpartition(":")
    known = port if colon and port.isdecimal() else str(IPMI_PORT)
    return f"[{host}]:{known}" if ":" in host else f"{host}:{known}"


def _merged(before: Fru, reported: Fru | None) -> Fru:
    if reported is None:
        return before
    given = {
        name: value for name, value in msgspec.structs.asdict(reported).items() if value is not None
    }
    return msgspec.structs.replace(before, **given)
