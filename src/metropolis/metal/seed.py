# SPDX-License-Identifier: Apache-2.0
"""A small data centre to look around in: one of everything, related as in a real one.

    partition  mini-lab ── rack-1 ─ leaf01, leaf02 ─ three machines that wait
                        └─ rack-2 ─ leaf03, leaf04 ─ two machines that wait
    networks   internet, underlay, tenant super network, one private network of project shop
    images     ubuntu, debian, firewall-ubuntu; layouts for SATA and for NVMe disks

Everything goes through the same services as what people create, so it can be changed and deleted
like that. URLs are examples and never asked for. The machines are paper: unless something answers
for them, they are found dead after five minutes, as real ones would be.
"""

import hashlib
import uuid
from datetime import timedelta
from typing import Final

import msgspec

from metropolis.metal.masterdata.model import Meta, Project, Quota, QuotaSet, Tenant
from metropolis.metal.masterdata.projects import create_project
from metropolis.metal.masterdata.tenants import create_tenant
from metropolis.metal.model.event import Event
from metropolis.metal.model.hardware import Bios, Cpu, Disk, Hardware, Nic
from metropolis.metal.model.image import ImageCreateRequest
from metropolis.metal.model.ip import IPAllocateRequest
from metropolis.metal.model.ipmi import Fru
from metropolis.metal.model.layout_request import FilesystemLayoutCreateRequest
from metropolis.metal.model.network import NetworkAllocateRequest, NetworkCreateRequest
from metropolis.metal.model.partition import (
    PARTITIONS,
    BootConfigurationRequest,
    DNSServer,
    NTPServer,
    PartitionCreateRequest,
)
from metropolis.metal.model.reservation import SizeReservationCreateRequest
from metropolis.metal.model.size import SizeConstraintRequest, SizeCreateRequest
from metropolis.metal.model.size_image_constraint import (
    SizeImageConstraintBaseRequest,
    SizeImageConstraintCreateRequest,
)
from metropolis.metal.model.switch import SwitchNic, SwitchOSRequest, SwitchRegisterRequest
from metropolis.metal.services.events import record_event
from metropolis.metal.services.images import create_image
from metropolis.metal.services.ips import allocate_ip
from metropolis.metal.services.layouts import create_layout
from metropolis.metal.services.networks import allocate_network, create_network
from metropolis.metal.services.partitions import create_partition
from metropolis.metal.services.registration import Registration, ReportedBmc, register
from metropolis.metal.services.reservations import create_reservation
from metropolis.metal.services.size_image_constraints import create_constraint
from metropolis.metal.services.sizes import create_size
from metropolis.metal.services.switches import register_switch
from metropolis.metal.services.waiting import start_waiting
from metropolis.metal.site import Site
from metropolis.metal.store import Transaction

PARTITION: Final = "mini-lab"
SMALL: Final = "v1-small-x86"
LARGE: Final = "c1-large-x86"
GPU: Final = "g1-medium-x86"
TENANT: Final = "acme"
SHOP: Final = "0fcd2a8e-5b0a-4f33-9d0e-1c4a7d7f5b10"
LAB: Final = "4f6c7a52-0a2e-4b0c-8f6d-3d2b9e6a7c21"
INTERNET: Final = "internet"
UNDERLAY: Final = "underlay-mini-lab"
SUPER: Final = "tenant-super-mini-lab"
SHOP_NETWORK: Final = "6b1a2f0d-9c3e-4d57-8b2a-5e0f1c2d3a44"
RACKS: Final = {"rack-1": ("leaf01", "leaf02"), "rack-2": ("leaf03", "leaf04")}
PORTS: Final = 32  # of a leaf, each of four lanes
MACHINES_PER_RACK: Final = {"rack-1": 3, "rack-2": 2}
GIB: Final = 2**30
MIB_OF_EFI: Final = 500
DAYS_OF_IMAGES: Final = 365
_IMAGES: Final = (
    ("ubuntu-24.04.20260915", "supported", "machine"),
    ("ubuntu-24.04.20261110", "supported", "machine"),
    ("debian-13.0.20261020", "preview", "machine"),
    ("firewall-ubuntu-3.0.20261101", "supported", "firewall"),
)


async def seed(site: Site) -> None:
    """Fill a store that has no partition yet; one that has any is left as it is."""
    await site.store.write(_seed)


async def _seed(tx: Transaction) -> None:
    if await tx.count(PARTITIONS):
        return
    await _seed_tenants(tx)
    await _seed_partition(tx)
    await _seed_sizes(tx)
    await _seed_images(tx)
    await _seed_layouts(tx)
    await _seed_networks(tx)
    for rack_id in RACKS:
        await _seed_switches(tx, rack_id)
        for number in range(MACHINES_PER_RACK[rack_id]):
            await _seed_machine(tx, rack_id, number)


async def _seed_tenants(tx: Transaction) -> None:
    await create_tenant(
        tx,
        Tenant(meta=Meta(id=TENANT), name="Acme", description="Sells everything to everybody"),
    )
    for project_id, name, description in (
        (SHOP, "shop", "The web shop"),
        (LAB, "lab", "Trials"),
    ):
        await create_project(
            tx,
            Project(
                meta=Meta(id=project_id, labels=(f"team={name}",)),
                name=name,
                description=description,
                tenant_id=TENANT,
                quotas=QuotaSet(machine=Quota(max=10), ip=Quota(max=20)),
            ),
        )


async def _seed_partition(tx: Transaction) -> None:
    await create_partition(
        tx,
        PartitionCreateRequest(
            id=PARTITION,
            name="Mini lab",
            description="Two racks under a table",
            boot=BootConfigurationRequest(
                image_url="https://images.metal.example/metal-hammer/initrd.img.lz4",
                kernel_url="https://images.metal.example/metal-hammer/kernel",
                command_line="console=tty0 console=ttyS0,115200n8",
            ),
            management_address="10.255.0.1:3333",
            labels={"region": "lab"},
            dns_servers=(DNSServer(ip="10.255.0.2"),),
            ntp_servers=(NTPServer(address="ntp.metal.example"),),
        ),
    )


def _between(kind: str, low: int, high: int, identifier: str = "") -> SizeConstraintRequest:
    stated = {"type": kind, "min": low, "max": high, "identifier": identifier}
    return msgspec.convert(stated, SizeConstraintRequest)


async def _seed_sizes(tx: Transaction) -> None:
    for size_id, description, constraints in (
        (
            SMALL,
            "1 to 8 cores, up to 16 GiB, one SATA disk",
            (
                _between("cores", 1, 8),
                _between("memory", GIB // 2, 16 * GIB),
                _between("storage", GIB, 512 * GIB, "/dev/sd*"),
            ),
        ),
        (
            LARGE,
            "16 cores, 128 GiB, two NVMe disks",
            (
                _between("cores", 16, 16),
                _between("memory", 120 * GIB, 136 * GIB),
                _between("storage", 900 * GIB, 8000 * GIB, "/dev/nvme*"),
            ),
        ),
        (
            GPU,
            "32 cores, 256 GiB, two NVMe disks, one or two GPUs",
            (
                _between("cores", 32, 32),
                _between("memory", 250 * GIB, 264 * GIB),
                _between("storage", 900 * GIB, 8000 * GIB, "/dev/nvme*"),
                _between("gpu", 1, 2, "AD102GL*"),
            ),
        ),
    ):
        await create_size(
            tx,
            SizeCreateRequest(
                id=size_id, name=size_id, description=description, constraints=constraints
            ),
        )
    await create_constraint(
        tx,
        SizeImageConstraintCreateRequest(
            id=GPU,
            description="The drivers need a newer kernel",
            constraints=SizeImageConstraintBaseRequest(images={"ubuntu": ">= 24.04.20261110"}),
        ),
    )
    await create_reservation(
        tx,
        SizeReservationCreateRequest(
            id="shop-sales-day",
            size_id=SMALL,
            project_id=SHOP,
            partition_ids=(PARTITION,),
            amount=1,
            description="For the busiest day of the year",
        ),
        new_id="",
    )


async def _seed_images(tx: Transaction) -> None:
    for image_id, classification, feature in _IMAGES:
        stated = {
            "id": image_id,
            "name": image_id.rpartition(".")[0],
            "url": f"https://images.metal.example/{image_id}/img.tar.lz4",
            "classification": classification,
            "features": [feature],
            "expirationDate": tx.now + timedelta(days=DAYS_OF_IMAGES),
        }
        await create_image(tx, msgspec.convert(stated, ImageCreateRequest))


async def _seed_layouts(tx: Transaction) -> None:
    for layout_id, disk, sizes in (
        ("default-sata", "/dev/sda", (SMALL,)),
        ("default-nvme", "/dev/nvme0n1", (LARGE, GPU)),
    ):
        first = f"{disk}p" if disk[-1].isdigit() else disk
        stated = {
            "id": layout_id,
            "description": f"Everything on {disk}",
            "constraints": {
                "sizes": sizes,
                "images": {"ubuntu": "*", "debian": "*", "firewall-ubuntu": "*"},
            },
            "disks": [
                {
                    "device": disk,
                    "wipeonreinstall": True,
                    "partitions": [
                        {"number": 1, "label": "efi", "size": MIB_OF_EFI, "gpttype": "ef00"},
                        {"number": 2, "label": "root", "size": 5000, "gpttype": "8300"},
                        {"number": 3, "label": "varlib", "size": 0, "gpttype": "8300"},
                    ],
                }
            ],
            "filesystems": [
                {
                    "path": "/boot/efi",
                    "device": f"{first}1",
                    "format": "vfat",
                    "label": "efi",
                    "createoptions": ["-F32"],
                },
                {"path": "/", "device": f"{first}2", "format": "ext4", "label": "root"},
                {"path": "/var/lib", "device": f"{first}3", "format": "ext4", "label": "varlib"},
                {"path": "/tmp", "device": "tmpfs", "format": "tmpfs"},  # noqa: S108  # not ours
            ],
        }
        await create_layout(tx, msgspec.convert(stated, FilesystemLayoutCreateRequest))


async def _seed_networks(tx: Transaction) -> None:
    await create_network(
        tx,
        INTERNET,
        NetworkCreateRequest(
            name="Internet",
            description="The way out",
            prefixes=("203.0.113.0/24", "2001:db8:0:1::/64"),
            destinationprefixes=("0.0.0.0/0", "::/0"),
            vrf=104009,
            labels={
                "network.metal-stack.io/default": "",
                "network.metal-stack.io/default-external": "",
            },
        ),
    )
    await create_network(
        tx,
        UNDERLAY,
        NetworkCreateRequest(
            name="Underlay",
            description="Between the switches and firewalls",
            partitionid=PARTITION,
            prefixes=("10.1.0.0/22",),
            underlay=True,
        ),
    )
    await create_network(
        tx,
        SUPER,
        NetworkCreateRequest(
            name="Tenant networks",
            description="What private networks are cut from",
            partitionid=PARTITION,
            prefixes=("10.128.0.0/14", "fd00:10::/48"),
            defaultchildprefixlength={"IPv4": 22, "IPv6": 64},
            privatesuper=True,
        ),
    )
    await allocate_network(
        tx,
        SHOP_NETWORK,
        NetworkAllocateRequest(
            name="shop",
            description="Private network of the shop",
            projectid=SHOP,
            partitionid=PARTITION,
            addressfamily="IPv4",
        ),
    )
    await allocate_ip(
        tx,
        IPAllocateRequest(
            name="www",
            description="Where the shop is",
            networkid=INTERNET,
            projectid=SHOP,
            type="static",
        ),
    )


def _port(number: int) -> str:
    return f"Ethernet{number * 4}"


def _mac(*of: object) -> str:
    """Make up a locally administered MAC address that is always the same."""
    digest = hashlib.sha256(repr(of).encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))


async def _seed_switches(tx: Transaction, rack_id: str) -> None:
    for leaf in RACKS[rack_id]:
        await register_switch(
            tx,
            SwitchRegisterRequest(
                id=leaf,
                name=leaf,
                partition_id=PARTITION,
                rack_id=rack_id,
                management_ip=f"10.255.1.{int(leaf[-2:])}",
                management_user="metal",
                os=SwitchOSRequest(vendor="SONiC", version="202411", metal_core_version="v0.17.0"),
                nics=tuple(
                    SwitchNic(
                        name=_port(number),
                        identifier=_port(number),
                        mac=_mac(leaf, number),
                        actual="UP",
                    )
                    for number in range(PORTS)
                ),
            ),
        )


async def _seed_machine(tx: Transaction, rack_id: str, number: int) -> None:
    rack_number = list(RACKS).index(rack_id) + 1
    machine_id = str(uuid.UUID(int=rack_number << 32 | number + 1))
    serial = f"ML{rack_number}{number + 1:04}"
    await register(
        tx,
        Registration(
            machine_id=machine_id,
            partition_id=PARTITION,
            hardware=Hardware(
                memory_bytes=8 * GIB,
                cpu_cores=4,
                cpus=(Cpu(vendor="GenuineIntel", model="Xeon E-2314", cores=4, threads=4),),
                disks=(Disk(name="/dev/sda", size_bytes=240 * GIB),),
                nics=tuple(
                    Nic(
                        mac=_mac(machine_id, leaf),
                        name=f"eth{at}",
                        identifier=_mac(machine_id, leaf),
                        neighbors=(
                            Nic(
                                mac=_mac(leaf, number),
                                name=_port(number),
                                identifier=_port(number),
                                hostname=leaf,
                            ),
                        ),
                    )
                    for at, leaf in enumerate(RACKS[rack_id])
                ),
            ),
            bios=Bios(version="2.4", vendor="American Megatrends Inc.", date="03/14/2025"),
            bmc=ReportedBmc(
                address=f"10.255.{rack_number + 1}.{number + 10}:623",
                mac=_mac(machine_id, "bmc"),
                interface="lanplus",
                bmc_version="1.74",
                power_state="ON",
                fru=Fru(
                    board_mfg="Supermicro",
                    board_part_number="X12STH-SYS",
                    board_mfg_serial=f"BM{serial}",
                    chassis_part_serial=f"CH{serial}",
                    product_manufacturer="Supermicro",
                    product_part_number="SYS-510T-MR",
                    product_serial=serial,
                ),
            ),
            metal_hammer_version="v0.13.0",
        ),
    )
    for event in (Event.PXE_BOOTING, Event.PREPARING, Event.REGISTERING, Event.WAITING):
        await record_event(tx, machine_id, event, "as an example")
    await start_waiting(tx, machine_id)
