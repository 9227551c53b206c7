# SPDX-License-Identifier: Apache-2.0
"""What QEMU and swtpm are told. Pure. Paths are relative to the machine's own directory."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from metropolis.node.boot.parameters_port import PORT_NAME

QEMU: Final = "qemu-system-x86_64"
SWTPM: Final = "swtpm"
DISK: Final = "disk.raw"
VARIABLES: Final = "firmware.fd"
TPM_STATE: Final = "tpm"
TPM_LOG: Final = "tpm.log"
MONITOR: Final = "monitor.sock"
PARAMETERS_PORT: Final = "parameters.sock"  # where a machine that waits for its parameters listens
MEMORY: Final = "memory.state"  # of a machine that was put away: what it holds is secret
CLOCK: Final = "clock"  # if it is there: what the machine's clock says at power-on, see Hardware
MEMORY_MIB: Final = 1024


class Accelerator(StrEnum):
    """Who runs the guest's instructions."""

    KVM = "kvm"
    EMULATION = "tcg"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A disk that is there at power-on.

    Attributes:
        path: A raw image.
        is_removable: A USB stick instead of a virtio disk.
        is_read_only: The guest cannot write it.
        serial: What the guest reads as the disk's serial number; 20 characters at most.
    """

    path: str
    is_removable: bool = False
    is_read_only: bool = False
    serial: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What a virtual machine is made of.

    Attributes:
        name: Shown in the computer's process list.
        firmware: OVMF's code with Secure Boot and SMM, a pflash image.
        mac: Of its one network card.
        tap: Name of the network device that is its cable; empty: no network card.
        forward: (TCP port of this computer, port of the guest): a network of its own behind QEMU,
            instead of a cable.
        takes_parameters: It has a port over which a new machine gets its node parameters.
        clock: What its clock says at power-on: "utc", or as 2016-01-31T12:00:00.
    """

    name: str
    accelerator: Accelerator
    firmware: str
    mac: str = "02:00:0a:01:00:02"
    disks: Sequence[Disk] = (Disk(path=DISK),)
    has_tpm: bool = True
    tap: str = ""
    forward: Sequence[tuple[int, int]] = ()
    cpus: int = 1
    memory_mib: int = MEMORY_MIB
    clock: str = "utc"
    takes_parameters: bool = False


def qemu_argv(
    hardware: Hardware,
    *,
    tpm_descriptor: int | None,
    tap_descriptor: int | None,
    memory_descriptor: int | None = None,
) -> Sequence[str]:
    """Spell the command of a machine; its console is standard output.

    Args:
        tpm_descriptor: Our end of swtpm's control socket.
        tap_descriptor: The open network device.
        memory_descriptor: What the machine was doing when it was put away: it goes on there.
    """
    memory = () if memory_descriptor is None else ("-incoming", f"fd:{memory_descriptor}")
    # fmt: off
    return (
        QEMU,
        "-name", hardware.name,
        *processor(hardware.accelerator),
        "-smp", str(hardware.cpus),
        "-m", str(hardware.memory_mib),
        "-rtc", f"base={hardware.clock}",
        "-nodefaults", "-no-user-config", "-display", "none", "-vga", "none",
        "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
        "-qmp", f"unix:{MONITOR},server=on,wait=off",
        *_firmware(hardware.firmware),
        *_disks(hardware.disks),
        *_tpm(tpm_descriptor),
        *_network(hardware, tap_descriptor),
        "-device", "virtio-rng-pci",
        "-device", "i6300esb", "-action", "watchdog=reset",
        *(_parameters_port() if hardware.takes_parameters else ()),
        *memory,
    )
    # fmt: on


def swtpm_argv(*, control_descriptor: int) -> Sequence[str]:
    """Spell the command of a machine's TPM. It ends with its connection, that is, with QEMU."""
    # fmt: off
    return (
        SWTPM, "socket", "--tpm2",
        "--tpmstate", f"dir={TPM_STATE},mode=0600",
        "--ctrl", f"type=unixio,clientfd={control_descriptor}",
        "--log", f"file={TPM_LOG},level=1",
        "--terminate",
    )
    # fmt: on


def processor(accelerator: Accelerator) -> Sequence[str]:
    """The kind of machine and processor that this accelerator shows to guests."""
    # Its disks are virtio's: without controllers for others no guest loads their drivers.
    machine = ("-machine", "q35,smm=on,sata=off,smbus=off")
    if accelerator is Accelerator.KVM:
        return (*machine, "-accel", "kvm", "-cpu", "host")
    # Without cx16: QEMU 7.2 emulates cmpxchg16b so that one kernel in twelve crashes early. Without
    # erms, and as an old family that is slow at `rep`, a guest clears and copies memory by loops of
    # moves: QEMU emulates `rep stosb` byte by byte, and that was a tenth of a node's boot.
    slow_at_rep = "-erms,family=15,model=4,stepping=0"
    return (*machine, "-accel", "tcg,thread=multi", "-cpu", f"max,-cx16,{slow_at_rep}")


def _firmware(code: str) -> Sequence[str]:
    # fmt: off
    return (
        # Only the firmware's own code, in SMM, writes its variables.
        "-global", "driver=cfi.pflash01,property=secure,value=on",
        "-global", "ICH9-LPC.disable_s3=1",
        "-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={_escaped(code)}",
        "-drive", f"if=pflash,format=raw,unit=1,file={VARIABLES}",
        # What it refuses to boot must not make it wait for servers that nobody has.
        "-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n",
        "-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n",
    )
    # fmt: on


def _disks(disks: Sequence[Disk]) -> Sequence[str]:
    words: list[str] = []
    if any(disk.is_removable for disk in disks):
        words += ["-device", "qemu-xhci,id=usb"]
    for number, disk in enumerate(disks):
        # Unsafe only where this computer itself loses its power: what a machine has written is in
        # the computer's memory, and a cut of the machine's power is a SIGKILL.
        drive = (
            f"if=none,id=disk{number},format=raw,file={_escaped(disk.path)},cache=unsafe,"
            f"discard=unmap,detect-zeroes=unmap,readonly={'on' if disk.is_read_only else 'off'}"
        )
        kind = "usb-storage,bus=usb.0,removable=on" if disk.is_removable else "virtio-blk-pci"
        serial = f",serial={disk.serial}" if disk.serial else ""
        words += ["-drive", drive, "-device", f"{kind},drive=disk{number}{serial}"]
    return words


def _tpm(descriptor: int | None) -> Sequence[str]:
    if descriptor is None:
        return ()
    # fmt: off
    return (
        "-chardev", f"socket,id=tpm,fd={descriptor}",
        "-tpmdev", "emulator,id=tpm0,chardev=tpm",
        "-device", "tpm-crb,tpmdev=tpm0",
    )
    # fmt: on


def _network(hardware: Hardware, tap_descriptor: int | None) -> Sequence[str]:
    if tap_descriptor is not None:
        cable = f"tap,id=net0,fd={tap_descriptor}"
    elif hardware.forward:
        ports = (f"hostfwd=tcp:127.0.0.1:{ours}-:{guests}" for ours, guests in hardware.forward)
        cable = ",".join(("user,id=net0,restrict=on", *ports))
    else:
        return ()
    card = f"virtio-net-pci,netdev=net0,id=card0,romfile=,mac={hardware.mac}"
    return ("-netdev", cable, "-device", card)


def _parameters_port() -> Sequence[str]:
    # fmt: off
    return (
        "-chardev", f"socket,id=parameters,path={PARAMETERS_PORT},server=on,wait=off",
        "-device", "virtio-serial-pci,max_ports=2",
        "-device", f"virtserialport,chardev=parameters,nr=1,name={PORT_NAME}",
    )
    # fmt: on


def _escaped(path: str) -> str:
    """In an option list a comma is doubled."""
    return path.replace(",", ",,")
