# SPDX-License-Identifier: Apache-2.0
"""The story of a small data centre, told through the original's own client library.

Every call goes through `Teller`, which remembers what was called: at the end nothing that the
library can do may be missing.
"""

import base64
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import metal_python.api  # type: ignore[import-untyped]  # has no types
import msgspec
import pytest
from metal_python.rest import ApiException  # type: ignore[import-untyped]  # has no types

from kits.metal import Replica
from metropolis.metal.model.event import Event
from metropolis.metal.model.hardware import Bios, Cpu, Disk, Hardware, Nic
from metropolis.metal.model.ipmi import Fru
from metropolis.metal.model.machine import BootInfo
from metropolis.metal.services.events import record_event
from metropolis.metal.services.registration import Registration, ReportedBmc, register
from metropolis.metal.services.reports import InstallReport, report
from metropolis.metal.services.waiting import start_waiting
from metropolis.metal.site import Site
from metropolis.metal.store import Transaction

GIB = 2**30
_KEY = b"\0\0\0\x0bssh-ed25519" + struct.pack(">I", 32) + bytes(32)
SSH_KEY = f"ssh-ed25519 {base64.b64encode(_KEY).decode()} somebody@example.org"
EMPTY: dict[str, Any] = {}
PARTITION = "fra-equ01"
SIZE = "c1-medium-x86"
IMAGE = "ubuntu-24.04.20261101"
FIREWALL_IMAGE = "firewall-ubuntu-3.0.20261101"
LEAVES = ("leaf01", "leaf02")


def apis() -> dict[str, type]:
    """Every operation of the library, and the class that has it."""
    found: dict[str, type] = {}
    for kind in vars(metal_python.api).values():
        if isinstance(kind, type):
            for name in vars(kind):
                if not name.startswith("_") and not name.endswith("_with_http_info"):
                    assert name not in found
                    found[name] = kind
    return found


@dataclass(kw_only=True)
class Teller:
    """Calls the library and remembers."""

    metal: Replica
    client: Any
    called: set[str] = field(default_factory=set)
    known: dict[str, Any] = field(default_factory=dict)
    operations: dict[str, type] = field(default_factory=apis)

    def do(self, name: str, *arguments: Any, **named: Any) -> Any:
        """Call one operation; what it answers was judged by the library's strict models."""
        self.called.add(name)
        return getattr(self.operations[name](self.client), name)(*arguments, **named)

    def refused(self, status: int, name: str, *arguments: Any, says: str = "", **named: Any) -> str:
        """Call one operation and insist on how it is refused."""
        with pytest.raises(ApiException) as caught:
            self.do(name, *arguments, **named)
        assert caught.value.status == status, caught.value
        told = msgspec.json.decode(caught.value.body)
        assert set(told) == {"statuscode", "message"}, told
        assert told["statuscode"] == status
        assert says in told["message"], told
        return str(told["message"])


def machine_id(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def port(number: int) -> str:
    return f"Ethernet{4 * number}"


def described(number: int) -> Registration:
    """What the n-th machine says of itself."""
    nics = tuple(
        Nic(
            mac=f"aa:00:00:00:0{index}:{number:02x}",
            name=f"eth{index}",
            identifier=f"aa:00:00:00:0{index}:{number:02x}",
            neighbors=(
                Nic(
                    mac=f"02:00:00:00:0{index}:{number:02x}",
                    name=port(number),
                    identifier=port(number),
                    hostname=leaf,
                ),
            ),
        )
        for index, leaf in enumerate(LEAVES, 1)
    )
    return Registration(
        machine_id=machine_id(number),
        partition_id=PARTITION,
        hardware=Hardware(
            memory_bytes=64 * GIB,
            cpu_cores=8,
            cpus=(Cpu(vendor="Intel", model="Xeon", cores=8, threads=16),),
            disks=(Disk(name="/dev/sda", size_bytes=480 * GIB),),
            nics=nics,
        ),
        bios=Bios(version="2.1", vendor="AMI", date="2025-01-01"),
        bmc=ReportedBmc(
            address=f"10.255.2.{number}:623",
            mac=f"bb:00:00:00:00:{number:02x}",
            user="metal",
            password="bmc-secret",
            interface="lanplus",
            bmc_version="1.74",
            power_state="ON",
            fru=Fru(
                chassis_part_serial=f"CH{number}",
                board_mfg="Supermicro",
                board_part_number="X12STH-SYS",
                board_mfg_serial=f"BM{number}",
                product_manufacturer="Supermicro",
            ),
        ),
        metal_hammer_version="v0.13.0",
    )


def boot(metal: Replica, number: int) -> str:
    """Let a machine boot, register and wait for an allocation."""
    key = machine_id(number)

    async def work(site: Site) -> None:
        async def change(tx: Transaction) -> None:
            for event in (Event.PXE_BOOTING, Event.PREPARING, Event.REGISTERING):
                await record_event(tx, key, event)
            await register(tx, described(number))
            await record_event(tx, key, Event.WAITING)
            await start_waiting(tx, key)

        await site.store.write(change)

    metal.run(work)
    return key


def install(metal: Replica, key: str) -> None:
    """Let an allocated machine install its image, report, and phone home."""

    async def work(site: Site) -> None:
        async def change(tx: Transaction) -> None:
            await record_event(tx, key, Event.INSTALLING)
            done = InstallReport(
                machine_id=key,
                success=True,
                console_password="console-secret",
                boot_info=BootInfo(
                    primary_disk="/dev/sda",
                    os_partition="/dev/sda2",
                    kernel="/boot/vmlinuz",
                    initrd="/boot/initrd.img",
                    cmdline="console=ttyS1",
                    bootloader_id="metal-ubuntu",
                ),
            )
            await report(tx, done)
            await record_event(tx, key, Event.BOOTING_NEW_KERNEL)
            await record_event(tx, key, Event.PHONED_HOME)

        await site.store.write(change)

    metal.run(work)


def general(tell: Teller) -> None:
    """Who serves, whether they are well, and who we are."""
    assert tell.do("info").name == "metal-api"
    health = tell.do("health")
    assert health.status == "healthy"
    assert set(health.services) >= {"ipam", "masterdata-api"}
    assert set(tell.do("health", service="ipam").services) == {"ipam"}
    tell.refused(400, "health", service="nsq", says="nsq")
    me = tell.do("get_me")
    assert (me.e_mail, me.name, me.tenant) == (
        "metal-admin@metal-stack.io",
        "Metal-Admin",
        "metal-stack",
    )
    assert "maas-all-all-admin" in me.groups


def masterdata(tell: Teller) -> None:
    """Tenants and projects."""
    tenant = tell.do("create_tenant", {"meta": {"id": "acme"}, "name": "Acme"})
    assert (tenant.meta.id, tenant.meta.version) == ("acme", 0)
    tell.refused(409, "create_tenant", {"meta": {"id": "acme"}, "name": "Acme"})
    tenant.description = "sells everything"
    updated = tell.do("update_tenant", tenant)
    assert (updated.description, updated.meta.version) == ("sells everything", 1)
    tell.refused(412, "update_tenant", tenant)
    assert tell.do("get_tenant", "acme").name == "Acme"
    assert [each.meta.id for each in tell.do("list_tenants")] == ["acme"]
    assert [each.name for each in tell.do("find_tenants", {"name": "Acme"})] == ["Acme"]
    assert tell.do("find_tenants", {"name": "Nobody"}) == []

    request = {"name": "shop", "tenant_id": "acme", "meta": {"id": "shop"}}
    project = tell.do("create_project", request)
    assert project.meta.id == "shop"
    tell.do("create_project", {"name": "lab", "tenant_id": "acme", "meta": {"id": "lab"}})
    tell.refused(404, "create_project", {"name": "x", "tenant_id": "nobody"}, says="nobody")
    project.description = "the web shop"
    assert tell.do("update_project", project).meta.version == 1
    tell.refused(412, "update_project", project)
    assert tell.do("find_project", "shop").quotas.machine.used == 0
    assert {each.meta.id for each in tell.do("list_projects")} == {"shop", "lab"}
    assert len(tell.do("find_projects", {"tenant_id": "acme", "name": "lab"})) == 1
    tell.refused(422, "delete_tenant", "acme")
    tell.refused(404, "find_project", "nothing", says="nothing")
    tell.do("create_tenant", {"meta": {"id": "gone"}, "name": "Gone"})
    assert tell.do("delete_tenant", "gone").meta.id == "gone"


def partition(tell: Teller) -> None:
    """A partition; another that is deleted."""
    request = {
        "id": PARTITION,
        "name": "Frankfurt",
        "description": "first",
        "mgmtserviceaddress": "10.255.0.1:3333",
        "bootconfig": {
            "imageurl": "https://images.example.org/initrd.img",
            "kernelurl": "https://images.example.org/kernel",
            "commandline": "console=ttyS1",
        },
        "dns_servers": [{"ip": "10.255.0.2"}],
        "ntp_servers": [{"address": "ntp.example.org"}],
        "labels": {"region": "eu"},
    }
    created = tell.do("create_partition", request)
    assert created.bootconfig.commandline == "console=ttyS1"
    tell.refused(409, "create_partition", request)
    tell.do("create_partition", {**request, "id": "ams-1"})
    change = {"id": PARTITION, "dns_servers": [], "ntp_servers": [], "description": "second"}
    assert tell.do("update_partition", change).description == "second"
    assert tell.do("find_partition", PARTITION).name == "Frankfurt"
    assert [each.id for each in tell.do("list_partitions")] == ["ams-1", PARTITION]
    assert tell.do("delete_partition", "ams-1").id == "ams-1"
    tell.refused(404, "find_partition", "ams-1")
    tell.refused(
        400, "create_partition", {**request, "id": "x", "dns_servers": [{"ip": "no"}]}, says="no"
    )


def sizes(tell: Teller) -> None:
    """Sizes, what images they take, and what is reserved of them."""
    constraints = [
        {"type": "cores", "min": 8, "max": 8},
        {"type": "memory", "min": 60 * GIB, "max": 68 * GIB},
        {"type": "storage", "min": 100 * GIB, "max": 1000 * GIB, "identifier": "/dev/sd*"},
    ]
    created = tell.do("create_size", {"id": SIZE, "name": SIZE, "constraints": constraints})
    assert [each.type for each in created.constraints] == ["cores", "memory", "storage"]
    tell.refused(400, "create_size", {"id": "twin", "constraints": constraints}, says=SIZE)
    tell.do(
        "create_size",
        {"id": "huge", "constraints": [{"type": "cores", "min": 512, "max": 1024}]},
    )
    change = {"id": "huge", "description": "for later", "labels": {"a": "b"}}
    assert tell.do("update_size", change).labels == {"a": "b"}
    assert tell.do("find_size", SIZE).id == SIZE
    assert {each.id for each in tell.do("list_sizes")} >= {SIZE, "huge"}

    images = {"images": {"ubuntu": ">= 24.04.1"}}
    tell.do("create_size_image_constraint", {"id": SIZE, "constraints": images})
    tell.refused(
        409, "create_size_image_constraint", {"id": SIZE, "constraints": images}, says=SIZE
    )
    change = {"id": SIZE, "constraints": {"images": {"ubuntu": ">= 24.04.20260101"}}}
    assert tell.do("update_size_image_constraint", change).id == SIZE
    assert tell.do("find_size_image_constraint", SIZE).constraints.images
    assert len(tell.do("list_size_image_constraints")) == 1
    tell.do("create_size_image_constraint", {"id": "huge", "constraints": images})
    assert tell.do("delete_size_image_constraint", "huge").id == "huge"
    assert tell.do("delete_size", "huge").id == "huge"
    tell.refused(404, "find_size", "huge")


def reservations(tell: Teller) -> None:
    """Machines that wait for one project."""
    request = {
        "id": "sales-day",
        "sizeid": SIZE,
        "projectid": "shop",
        "partitionids": [PARTITION],
        "amount": 1,
    }
    assert tell.do("create_size_reservation", request).amount == 1
    tell.refused(409, "create_size_reservation", request)
    change = {"id": "sales-day", "amount": 2, "partitionids": [PARTITION], "labels": {}}
    assert tell.do("update_size_reservation", change).amount == 2
    assert tell.do("get_size_reservation", "sales-day").projectid == "shop"
    assert [each.id for each in tell.do("list_size_reservations")] == ["sales-day"]
    assert len(tell.do("find_size_reservations", {"projectid": "shop"})) == 1
    assert tell.do("find_size_reservations", {"projectid": "lab"}) == []
    (usage,) = tell.do("size_reservations_usage", {})
    assert (usage.amount, usage.usedamount, usage.partitionid) == (2, 0, PARTITION)
    tell.refused(422, "delete_size", SIZE, says="reserv")
    tell.refused(400, "create_size_reservation", {**request, "id": "y", "amount": 0})
    assert tell.do("delete_size_reservation", "sales-day").id == "sales-day"


def images(tell: Teller) -> None:
    """Images and how their versions are found."""
    for key, feature in ((IMAGE, "machine"), (FIREWALL_IMAGE, "firewall")):
        request = {"id": key, "url": "https://images.example.org/i", "features": [feature]}
        created = tell.do("create_image", request)
        assert created.classification == "preview"
        assert created.expiration_date > datetime.now(UTC) + timedelta(days=80)
    tell.do("create_image", {"id": "ubuntu-24.04.20250901", "url": "https://images.example.org/o"})
    tell.refused(409, "create_image", {"id": IMAGE, "url": "https://images.example.org/o"})
    change = {
        "id": IMAGE,
        "classification": "supported",
        "expirationDate": datetime.now(UTC) + timedelta(days=400),
    }
    assert tell.do("update_image", change).classification == "supported"
    assert tell.do("find_image", IMAGE).features
    tell.refused(404, "find_image", "ubuntu-24.04", says="ubuntu-24.04")
    assert tell.do("find_latest_image", "ubuntu-24.04").id == IMAGE
    assert len(tell.do("query_images_by_id", "ubuntu-24.04")) == 2
    assert len(tell.do("list_images")) == 3
    assert len(tell.do("list_images", show_usage=True)) == 3
    found = tell.do("find_images", {"classification": "supported"}, show_usage=True)
    assert [each.id for each in found] == [IMAGE]
    tell.do("try_size_image_constraint", {"size": SIZE, "image": IMAGE})
    tell.refused(422, "try_size_image_constraint", {"size": SIZE, "image": "ubuntu-24.04.20250901"})
    assert tell.do("delete_image", "ubuntu-24.04.20250901").id == "ubuntu-24.04.20250901"


def layouts(tell: Teller) -> None:
    """How disks are laid out."""
    request = {
        "id": "default",
        "constraints": {"sizes": [SIZE], "images": {"ubuntu": "*", "firewall-ubuntu": "*"}},
        "disks": [
            {
                "device": "/dev/sda",
                "wipeonreinstall": True,
                "partitions": [
                    {"number": 1, "label": "efi", "size": 500, "gpttype": "ef00"},
                    {"number": 2, "label": "root", "size": 0, "gpttype": "8300"},
                ],
            }
        ],
        "filesystems": [
            {"path": "/boot/efi", "device": "/dev/sda1", "format": "vfat"},
            {"path": "/", "device": "/dev/sda2", "format": "ext4", "label": "root"},
        ],
    }
    created = tell.do("create_filesystem_layout", request)
    assert [each.path for each in created.filesystems] == ["/boot/efi", "/"]
    tell.refused(409, "create_filesystem_layout", request)
    request["description"] = "one disk"
    assert tell.do("update_filesystem_layout", request).description == "one disk"
    free = {**request, "id": "free", "constraints": {"sizes": [], "images": {}}}
    tell.do("create_filesystem_layout", free)
    assert tell.do("get_filesystem_layout", "default").id == "default"
    assert {each.id for each in tell.do("list_filesystem_layouts")} == {"default", "free"}
    tried = tell.do("try_filesystem_layout", {"size": SIZE, "image": IMAGE})
    assert tried.id == "default"
    assert tell.do("delete_filesystem_layout", "free").id == "free"
    wrong = [{"device": "/dev/sdz1", "format": "ext4", "path": "/"}]
    tell.refused(
        400,
        "create_filesystem_layout",
        {**free, "filesystems": wrong},
        says="/dev/sdz1",
    )


def upload(tell: Teller, file: Path) -> None:
    """Firmware, once a machine has a board that takes it."""
    place = ("bios", "Supermicro", "X12STH-SYS")
    tell.do("upload_firmware", *place, "2.2", file=str(file))
    tell.refused(422, "upload_firmware", "bios", "Nobody", "X", "1", file=str(file))
    found = tell.do("list_firmwares", kind="bios").revisions["bios"].vendor_revisions
    assert found["supermicro"].board_revisions["X12STH-SYS"] == ["2.2"]
    assert tell.do("list_firmwares", machine_id=machine_id(1)).revisions
    assert tell.do(
        "update_firmware",
        machine_id(1),
        {"kind": "bios", "revision": "2.2", "description": "because"},
    ).id == machine_id(1)
    tell.do("remove_firmware", *place, "2.2", EMPTY)
    tell.refused(422, "update_firmware", machine_id(1), {
        "kind": "bios", "revision": "2.2", "description": "because"
    })  # fmt: skip
