# SPDX-License-Identifier: Apache-2.0
"""The protobuf messages of the boot service as our structs, bounded and checked."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar

from metropolis.api import metal_boot_pb2 as pb
from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.model.hardware import Bios, Cpu, Disk, Gpu, Hardware, Nic
from metropolis.metal.model.ipmi import Fru
from metropolis.metal.model.machine import BootInfo
from metropolis.metal.model.machine_request import EventReport
from metropolis.metal.services.registration import Registration, ReportedBmc
from metropolis.metal.services.reports import InstallReport

ItemT = TypeVar("ItemT")

PARTS_MAX: Final = 1024  # disks, interfaces or processors of one machine
TEXT_LENGTH_MAX: Final = 1024  # of a name, a model, a serial number
COMMAND_LINE_LENGTH_MAX: Final = 4096  # of a kernel
EVENTS_MAX: Final = 10_000  # in one message
EVENT_MESSAGE_LENGTH_MAX: Final = 2000  # a hundred of them are kept of every machine
INT64_MAX: Final = 2**63 - 1


def to_registration(request: pb.BootServiceRegisterRequest) -> Registration:
    """Read what a machine says of itself.

    Raises:
        InvalidArgumentError: something is longer than any machine has it.
    """
    bmc = request.ipmi
    return Registration(
        machine_id=_named(request.uuid, "uuid"),
        partition_id=_named(request.partition_id, "partition_id"),
        hardware=_to_hardware(request.hardware),
        bios=Bios(
            version=_text(request.bios.version, "bios.version"),
            vendor=_text(request.bios.vendor, "bios.vendor"),
            date=_text(request.bios.date, "bios.date"),
        ),
        bmc=ReportedBmc(
            address=_text(bmc.address, "ipmi.address"),
            mac=_text(bmc.mac, "ipmi.mac").lower(),
            user=_text(bmc.user, "ipmi.user"),
            password=_text(bmc.password, "ipmi.password"),
            interface=_text(bmc.interface, "ipmi.interface"),
            fru=_to_fru(bmc.fru),
            bmc_version=_text(bmc.bmc_version, "ipmi.bmc_version"),
            power_state=_text(bmc.power_state, "ipmi.power_state"),
        ),
        tags=tuple(_text(tag, "tags") for tag in _few(request.tags, "tags")),
        metal_hammer_version=_text(request.metal_hammer_version, "metal_hammer_version"),
    )


def to_report(request: pb.BootServiceReportRequest) -> InstallReport:
    """Read how an installation ended."""
    boot = request.boot_info
    return InstallReport(
        machine_id=_named(request.uuid, "uuid"),
        success=request.success,
        message=request.message,
        console_password=_text(request.console_password, "console_password"),
        boot_info=BootInfo(
            image_id=_text(boot.image_id, "boot_info.image_id"),
            primary_disk=_text(boot.primary_disk, "boot_info.primary_disk"),
            os_partition=_text(boot.os_partition, "boot_info.os_partition"),
            initrd=_text(boot.initrd, "boot_info.initrd"),
            cmdline=_text(boot.cmdline, "boot_info.cmdline", COMMAND_LINE_LENGTH_MAX),
            kernel=_text(boot.kernel, "boot_info.kernel"),
            bootloader_id=_text(boot.bootloader_id, "boot_info.bootloader_id"),
        ),
    )


def from_boot_info(boot: BootInfo) -> pb.BootInfo:
    """Write how an installed system boots."""
    return pb.BootInfo(
        image_id=boot.image_id,
        primary_disk=boot.primary_disk,
        os_partition=boot.os_partition,
        initrd=boot.initrd,
        cmdline=boot.cmdline,
        kernel=boot.kernel,
        bootloader_id=boot.bootloader_id,
    )


def to_events(request: pb.EventServiceSendRequest) -> dict[str, EventReport]:
    """Read events, by machine.

    Raises:
        InvalidArgumentError: there are too many.
    """
    if len(request.events) > EVENTS_MAX:
        raise InvalidArgumentError(
            f"events: {len(request.events)} in one message",
            remedy=f"Send {EVENTS_MAX} at most, and the others in the next.",
        )
    return {
        machine_id: EventReport(
            event=event.event,
            message=event.message[:EVENT_MESSAGE_LENGTH_MAX],
            time=_to_time(event) if event.HasField("time") else None,
        )
        for machine_id, event in sorted(request.events.items())
    }


def _to_time(event: pb.MachineProvisioningEvent) -> datetime | None:
    try:
        return event.time.ToDatetime(tzinfo=UTC)
    except ValueError:  # out of any calendar: a machine's clock is no reason to lose its event
        return None


def _to_hardware(hardware: pb.MachineHardware) -> Hardware:
    cpus = tuple(
        Cpu(
            vendor=_text(cpu.vendor, "hardware.cpus"),
            model=_text(cpu.model, "hardware.cpus"),
            cores=cpu.cores,
            threads=cpu.threads,
        )
        for cpu in _few(hardware.cpus, "hardware.cpus")
    )
    return Hardware(
        memory_bytes=_size(hardware.memory, "hardware.memory"),
        cpu_cores=sum(cpu.cores for cpu in cpus),
        cpus=cpus,
        gpus=tuple(
            Gpu(vendor=_text(gpu.vendor, "hardware.gpus"), model=_text(gpu.model, "hardware.gpus"))
            for gpu in _few(hardware.gpus, "hardware.gpus")
        ),
        disks=tuple(
            Disk(
                name=_text(disk.name, "hardware.disks"),
                size_bytes=_size(disk.size, "hardware.disks"),
            )
            for disk in _few(hardware.disks, "hardware.disks")
        ),
        nics=tuple(_to_nic(nic) for nic in _few(hardware.nics, "hardware.nics")),
    )


def _to_nic(nic: pb.MachineNic) -> Nic:
    """Read an interface and its neighbours; those of neighbours do not count."""
    return Nic(
        mac=_text(nic.mac, "hardware.nics.mac").lower(),
        name=_text(nic.name, "hardware.nics.name"),
        identifier=_text(nic.identifier, "hardware.nics.identifier"),
        hostname=_text(nic.hostname, "hardware.nics.hostname"),
        neighbors=tuple(
            Nic(
                mac=_text(other.mac, "hardware.nics.neighbors").lower(),
                name=_text(other.name, "hardware.nics.neighbors"),
                identifier=_text(other.identifier, "hardware.nics.neighbors"),
                hostname=_text(other.hostname, "hardware.nics.neighbors"),
            )
            for other in _few(nic.neighbors, "hardware.nics.neighbors")
        ),
    )


def _to_fru(fru: pb.MachineFRU) -> Fru:
    return Fru(
        **{field.name: _text(value, f"ipmi.fru.{field.name}") for field, value in fru.ListFields()}
    )


def _named(text: str, field: str) -> str:
    if not text:
        raise InvalidArgumentError(f"{field} is empty", remedy=f"Send {field}.")
    return _text(text, field)


def _text(text: str, field: str, length_max: int = TEXT_LENGTH_MAX) -> str:
    if len(text) > length_max or "\0" in text:
        raise InvalidArgumentError(
            f"{field} is longer than {length_max} characters, or has a null in it",
            remedy="Send what the hardware says, without its padding.",
        )
    return text


def _size(number: int, field: str) -> int:
    if number > INT64_MAX:
        raise InvalidArgumentError(
            f"{field}: no machine has {number} bytes", remedy="Send its size in bytes."
        )
    return number


def _few(items: Sequence[ItemT], field: str) -> Sequence[ItemT]:
    if len(items) > PARTS_MAX:
        raise InvalidArgumentError(
            f"{field}: no machine has {len(items)} of them", remedy=f"Send {PARTS_MAX} at most."
        )
    return items
