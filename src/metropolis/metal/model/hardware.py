# SPDX-License-Identifier: Apache-2.0
"""What a machine is made of, as it found out itself; stored and answered in the same shape."""

from typing import Annotated

from msgspec import Meta, Struct, field

Bytes = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Nic(Struct, frozen=True, kw_only=True):
    """A network interface, or what is plugged in at its other end.

    Attributes:
        hostname: Of a neighbour: the name of the switch.
        neighbors: Ports that were seen at the other end.
    """

    mac: str
    name: str = ""
    identifier: str = ""
    hostname: str = ""
    neighbors: tuple["Nic", ...] = ()


class Disk(Struct, frozen=True, kw_only=True):
    """A block device, `/dev/nvme0n1`."""

    name: str
    size_bytes: Bytes = field(name="size")


class Cpu(Struct, frozen=True, kw_only=True):
    """A processor package."""

    vendor: str = ""
    model: str = ""
    cores: int = 0
    threads: int = 0


class Gpu(Struct, frozen=True, kw_only=True):
    """A graphics processor."""

    vendor: str = ""
    model: str = ""


class Hardware(Struct, frozen=True, kw_only=True):
    """All of a machine.

    Attributes:
        cpu_cores: Sum over `cpus`; on the wire beside them since before there were several.
    """

    memory_bytes: Bytes = field(name="memory", default=0)
    cpu_cores: int = 0
    cpus: tuple[Cpu, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    disks: tuple[Disk, ...] = ()
    nics: tuple[Nic, ...] = ()


class Bios(Struct, frozen=True, kw_only=True):
    """The firmware that boots a machine."""

    version: str = ""
    vendor: str = ""
    date: str = ""
