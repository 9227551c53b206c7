# SPDX-License-Identifier: Apache-2.0
"""Machines of the example's partition and its BMC agent, over real connections to this replica."""

import asyncio
from dataclasses import dataclass, field
from typing import Final

from metropolis.metal.messages.subscribing import Subscribing
from metropolis.metal.model.machine import MACHINES, Allocation
from metropolis.metal.seed import PARTITION, PORTS, RACKS
from metropolis.metal.simulated.agent import BmcAgent
from metropolis.metal.simulated.blueprint import FIRST_PORT, Blueprint, blueprint
from metropolis.metal.simulated.machine import (
    Assignment,
    BootTarget,
    Character,
    SimulatedMachine,
)
from metropolis.metal.site import Site
from metropolis.rpc.channel import Channel
from metropolis.rpc.grpc.mutual import MutualTls, dial_mutual
from metropolis.rpc.transport import Endpoint

MACHINES_MAX: Final = (PORTS - FIRST_PORT) * len(RACKS)
SERVER_NAME: Final = "localhost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """How many machines there are, and with what they connect.

    Attributes:
        machine_tls: Of every machine.
        agent_tls: Of the BMC agent of the partition.
    """

    count: int
    machine_tls: MutualTls
    agent_tls: MutualTls
    character: Character = field(default_factory=Character)


async def run_fleet(fleet: Fleet, site: Site, endpoint: Endpoint) -> None:
    """Run machines against a replica, for ever."""
    channels: list[Channel] = []

    def dial(tls: MutualTls) -> Channel:
        channel = dial_mutual(endpoint, tls=tls, server_name=SERVER_NAME)
        channels.append(channel)
        return channel

    racks = [(leaves[0], leaves[1]) for leaves in RACKS.values()]
    try:
        machines = [
            await _machine(
                blueprint(number, partition_id=PARTITION, racks=racks),
                dial(fleet.machine_tls),
                site,
                fleet.character,
            )
            for number in range(fleet.count)
        ]
        async with asyncio.TaskGroup() as group:
            agent = Subscribing(dial(fleet.agent_tls), BmcAgent(machines))
            group.create_task(agent.run())
            for machine in machines:
                group.create_task(machine.run())
    finally:
        for channel in channels:
            await channel.close()


async def _machine(
    made: Blueprint, channel: Channel, site: Site, character: Character
) -> SimulatedMachine:
    """Return a machine as it was when the program ended: what is on its disk the books tell."""

    async def read_assignment(machine_id: str) -> Assignment | None:
        held = await _allocation(site, machine_id)
        return None if held is None else Assignment(reinstall=held.reinstall)

    machine = SimulatedMachine(
        made,
        channel,
        read_assignment=read_assignment,
        jitter=site.entropy.jitter(),
        character=character,
    )
    held = await _allocation(site, made.machine_id)
    if held is not None and held.succeeded:
        machine.is_installed = True
        machine.boot_target = BootTarget.DISK
    return machine


async def _allocation(site: Site, machine_id: str) -> Allocation | None:
    found = await site.store.read(lambda reader: reader.lookup(MACHINES, machine_id))
    return None if found is None else found.value.allocation
