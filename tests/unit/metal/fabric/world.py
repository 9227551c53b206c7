# SPDX-License-Identifier: Apache-2.0
"""A partition with a super network, an underlay and an external one, two switches, two projects."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from metropolis.metal.masterdata.model import Meta, Project, Tenant
from metropolis.metal.masterdata.projects import create_project
from metropolis.metal.masterdata.tenants import create_tenant
from metropolis.metal.model.hardware import Bios, Hardware, Nic
from metropolis.metal.model.machine import MACHINES, Allocation, LedState, Machine, MachineState
from metropolis.metal.model.machine_network import MachineAllocationNetwork, MachineNetwork
from metropolis.metal.model.partition import PARTITIONS, Partition
from metropolis.metal.rules.machine_networks import AttachPlan, MachineRole
from metropolis.metal.services.connections import connect_machine
from metropolis.metal.services.leaks import Leak, find_leaks
from metropolis.metal.services.machine_networks import attach_machine
from metropolis.metal.services.machines import change
from metropolis.metal.store import Store, Stored, Transaction
from metropolis.metal.store.sqlite import MEMORY
from unit.metal.http.client import Answer, Client, serving
from unit.metal.kit import NOW

SUPER: dict[str, Any] = {
    "id": "super",
    "prefixes": ["10.0.0.0/16", "2001:db8::/48"],
    "destinationprefixes": [],
    "defaultchildprefixlength": {"IPv4": 22, "IPv6": 64},
    "partitionid": "muc",
    "privatesuper": True,
    "additionalAnnouncableCIDRs": ["10.240.0.0/12"],
}
UNDERLAY: dict[str, Any] = {
    "id": "underlay",
    "prefixes": ["172.20.0.0/24"],
    "partitionid": "muc",
    "underlay": True,
}
INTERNET: dict[str, Any] = {
    "id": "internet",
    "prefixes": ["198.51.100.0/24", "2001:db8:f::/64"],
    "destinationprefixes": ["0.0.0.0/0", "::/0"],
    "nat": True,
    "vrf": 104009,
}


def nics_of(switch: str, names: Sequence[str]) -> list[dict[str, Any]]:
    """What a switch says of its ports; MAC addresses differ between switches."""
    octets = [ord(each) for each in switch[-2:]]
    return [
        {
            "name": name,
            "identifier": f"{switch}-{name}",
            "mac": f"02:00:{octets[0]:02x}:{octets[1]:02x}:00:{index:02x}",
            "actual": "UP",
        }
        for index, name in enumerate(names, 1)
    ]


SONIC = ("Ethernet0", "Ethernet4", "Ethernet8")


def registration(switch: str, **more: Any) -> dict[str, Any]:
    """What a switch sends when it starts."""
    return {
        "id": switch,
        "partition_id": "muc",
        "rack_id": "rack-1",
        "os": {"vendor": "SONiC", "version": "4.2"},
        "nics": nics_of(switch, SONIC),
    } | more


def seen(ports: Mapping[str, str]) -> tuple[Nic, ...]:
    """What a machine sees, given the port by switch."""
    return tuple(
        Nic(
            mac=f"aa:00:00:00:00:0{index}",
            name=f"eth{index}",
            neighbors=(Nic(mac="", name=port, hostname=switch, identifier=f"{switch}-{port}"),),
        )
        for index, (switch, port) in enumerate(ports.items())
    )


@dataclass(kw_only=True)
class World:
    """The client of an application and what stands in its store."""

    client: Client
    other: Store | None = None  # instead of the client's own

    @property
    def store(self) -> Store:
        return self.other or self.client.site.store

    async def ok(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        """Call and insist on the status."""
        answer = await self.client.call(method, path, body)
        assert answer.status == status, (answer.status, answer.body)
        return answer.json

    async def refused(self, status: int, method: str, path: str, body: Any = None) -> str:
        """Call, insist on the refusal, and return what it says."""
        answer: Answer = await self.client.call(method, path, body)
        assert answer.status == status, (answer.status, answer.body)
        return answer.message

    async def child(self, **more: Any) -> Any:
        """Cut a network for project `red`."""
        body = {"projectid": "red", "partitionid": "muc", **more}
        return await self.ok("POST", "/v1/network/allocate", body, 201)

    async def leaks(self) -> list[Leak]:
        return await self.store.read(find_leaks)

    async def add_machine(self, machine_id: str, ports: Mapping[str, str]) -> None:
        """A machine that registered from these ports."""
        nics = seen(ports)

        async def body(tx: Transaction) -> None:
            rack = await connect_machine(tx, machine_id, nics) if ports else ""
            await tx.insert(MACHINES, machine_id, bare_machine(machine_id, nics, rack))

        await self.store.write(body)

    async def allocate(
        self,
        machine_id: str,
        networks: Sequence[str],
        *,
        ips: Sequence[str] = (),
        role: MachineRole = "machine",
        project: str = "red",
        manual: Sequence[str] = (),
    ) -> tuple[MachineNetwork, ...]:
        """Give a machine its networks, as an allocation does."""

        async def body(tx: Transaction) -> tuple[MachineNetwork, ...]:
            machine: Stored[Machine] = await tx.get(MACHINES, machine_id)
            used = await attach_machine(
                tx,
                AttachPlan(
                    machine_id=machine_id,
                    machine_name="worker",
                    project_id=project,
                    partition_id="muc",
                    role=role,
                    networks=[
                        MachineAllocationNetwork(networkid=each, autoacquire=each not in manual)
                        for each in networks
                    ],
                    ips=ips,
                ),
            )
            allocation = Allocation(
                uuid="0193",
                project_id=project,
                role=role,
                name="worker",
                hostname="worker",
                created=tx.now,
                creator="someone@example.org",
                networks=used,
                ssh_pub_keys=(),
                reinstall=False,
                succeeded=False,
            )
            await change(tx, machine, allocation=allocation)
            return used

        return await self.store.write(body)


def bare_machine(machine_id: str, nics: tuple[Nic, ...] = (), rack_id: str = "") -> Machine:
    return Machine(
        id=machine_id,
        partition_id="muc",
        size_id="small",
        image_id="",
        waiting=True,
        created=NOW,
        changed=NOW,
        hardware=Hardware(nics=nics),
        bios=Bios(),
        state=MachineState(),
        ledstate=LedState(),
        tags=(),
        rack_id=rack_id,
    )


@asynccontextmanager
async def world(
    *, switches: bool = False, networks: bool = True, url: str = MEMORY
) -> AsyncIterator[World]:
    """Everything set up through the interface, as far as it has one."""
    async with serving(url=url) as client:
        made = World(client=client)

        async def body(tx: Transaction) -> None:
            await create_tenant(tx, Tenant(meta=Meta(id="acme"), name="acme"))
            for name in ("red", "blue"):
                await create_project(tx, Project(meta=Meta(id=name), name=name, tenant_id="acme"))
            await tx.insert(PARTITIONS, "muc", Partition(name="Munich"))
            await tx.insert(PARTITIONS, "fra", Partition(name="Frankfurt"))

        await made.store.write(body)
        for each in (SUPER, UNDERLAY, INTERNET) if networks else ():
            await made.ok("PUT", "/v1/network", each, 201)
        for name in ("leaf01", "leaf02") if switches else ():
            await made.ok("POST", "/v1/switch/register", registration(name), 201)
        yield made


def encoded(value: Any) -> Any:
    """A struct as it would be answered."""
    return msgspec.to_builtins(value)
