# SPDX-License-Identifier: Apache-2.0
"""Histories: what people might do to networks, addresses, machines and switches, by a seed."""

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import Any

from metropolis.base.errors import MetropolisError
from metropolis.metal.model.machine import MACHINES
from metropolis.metal.services.machine_networks import detach_machine
from metropolis.metal.services.machines import change
from metropolis.metal.store import Transaction
from metropolis.metal.store.sqlite import MEMORY
from unit.metal.fabric.world import World, nics_of, registration, world

PROJECTS = ("red", "blue", "nobody", "")
PREFIXES = ("192.0.2.0/29", "192.0.2.0/30", "198.18.0.0/24", "2001:db8:9::/125", "10.0.8.0/22", "x")
ADDRESSES = ("192.0.2.1", "192.0.2.0", "198.51.100.7", "2001:db8:9::3", "10.0.0.5", "x")
STEPS = 40


@dataclass(kw_only=True)
class History:
    """Chooses what to do next among what there is, by chance from a seed."""

    made: World
    chance: Random
    machines: list[str] = field(default_factory=list)
    answers: list[tuple[str, str, int, Any]] = field(default_factory=list)

    @property
    def statuses(self) -> set[int]:
        return {status for _, _, status, _ in self.answers}

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        answer = await self.made.client.call(method, path, body)
        self.answers.append((method, path, answer.status, answer.json))
        assert answer.status < 500, (method, path, body, answer.body)
        return answer.json

    async def any_of(self, path: str, name: str, *others: str) -> str:
        found = [each[name] for each in await self.call("GET", path)]
        return str(self.chance.choice([*found, *others, "nowhere"]))

    def maybe(self, **options: Any) -> dict[str, Any]:
        """Some of the fields."""
        return {name: value for name, value in options.items() if self.chance.random() < 0.4}

    async def step(self) -> None:
        name = self.chance.choice([each for each in dir(self) if each.startswith("do_")])
        await getattr(self, name)()

    async def do_create_network(self) -> None:
        choose = self.chance.choice
        body = {
            "prefixes": self.chance.sample(PREFIXES, self.chance.randint(0, 2)),
            **self.maybe(
                id=choose(["n1", "n2", "a/b"]),
                vrf=choose([7, 8, 104009, -1]),
                vrfshared=choose([True, False]),
                underlay=choose([True, False]),
                nat=choose([True, False]),
                privatesuper=choose([True, False]),
                partitionid=choose(["muc", "fra", "nowhere"]),
                projectid=choose(PROJECTS),
                defaultchildprefixlength={"IPv4": choose([24, 30, 40])},
                destinationprefixes=[choose(["0.0.0.0/0", "::/0", "y"])],
            ),
        }
        await self.call("PUT", "/v1/network", body)

    async def do_allocate_network(self) -> None:
        choose = self.chance.choice
        body = {
            "projectid": choose(PROJECTS),
            "partitionid": choose(["muc", "fra", "nowhere"]),
            **self.maybe(
                shared=choose([True, False]),
                addressfamily=choose(["IPv4", "ipv6", "x"]),
                length={choose(["IPv4", "IPv6"]): choose([17, 22, 64, 129])},
            ),
        }
        await self.call("POST", "/v1/network/allocate", body)

    async def do_update_network(self) -> None:
        choose = self.chance.choice
        body = {
            "id": await self.any_of("/v1/network", "id"),
            **self.maybe(
                shared=choose([True, False]),
                prefixes=self.chance.sample(PREFIXES, self.chance.randint(0, 3)),
                defaultchildprefixlength={"IPv4": choose([20, 24, 30])},
                additionalAnnouncableCIDRs=[choose(PREFIXES)],
            ),
        }
        await self.call("POST", f"/v1/network?force={choose(['true', 'false'])}", body)

    async def do_drop_network(self) -> None:
        network = await self.any_of("/v1/network", "id")
        path = self.chance.choice(["/v1/network/free/", "/v1/network/"])
        await self.call("DELETE", path + network)

    async def do_allocate_ip(self) -> None:
        choose = self.chance.choice
        body = {
            "projectid": choose(PROJECTS),
            "networkid": await self.any_of("/v1/network", "id"),
            "type": choose(["static", "ephemeral"]),
            **self.maybe(
                addressfamily=choose(["IPv4", "IPv6"]), machineid=choose([*self.machines, "m99"])
            ),
        }
        address = choose(["", "", *(f"/{each}" for each in ADDRESSES)])
        await self.call("POST", f"/v1/ip/allocate{address}", body)

    async def do_change_ip(self) -> None:
        choose = self.chance.choice
        tags = [f"machine.metal-stack.io/id={each}" for each in self.machines[:1]]
        body = {
            "ipaddress": await self.any_of("/v1/ip", "ipaddress"),
            "type": choose(["static", "ephemeral"]),
            **self.maybe(tags=choose([[], ["a"], tags])),
        }
        await self.call("POST", "/v1/ip", body)

    async def do_free_ip(self) -> None:
        address = await self.any_of("/v1/ip", "ipaddress", *ADDRESSES)
        await self.call("DELETE", f"/v1/ip/free/{address}")

    async def do_allocate_machine(self) -> None:
        machine = f"m{len(self.machines)}"
        ports = [f"Ethernet{self.chance.randint(0, 3) * 4}", "swp1"]
        wiring = dict.fromkeys(["leaf01", "leaf02"], self.chance.choice(ports))
        try:
            await self.made.add_machine(machine, self.chance.choice([{}, wiring]))
        except MetropolisError as error:
            assert error.remedy, error  # noqa: PT017  # most are refused
            return
        self.machines.append(machine)
        count = self.chance.randint(1, 3)
        networks = [await self.any_of("/v1/network", "id") for _ in range(count)]
        ips = self.chance.choice([[], [await self.any_of("/v1/ip", "ipaddress")]])
        try:
            await self.made.allocate(
                machine,
                networks,
                ips=ips,
                role=self.chance.choice(["machine", "firewall"]),
                project=self.chance.choice(["red", "blue"]),
                manual=self.chance.choice([(), networks[:1]]),
            )
        except MetropolisError as error:
            assert error.remedy, error  # noqa: PT017  # most are refused

    async def do_free_machine(self) -> None:
        if not self.machines:
            return
        machine_id = self.chance.choice(self.machines)

        async def body(tx: Transaction) -> None:
            machine = await tx.get(MACHINES, machine_id)
            allocation = machine.value.allocation
            await detach_machine(tx, machine_id, allocation.networks if allocation else ())
            await change(tx, machine, allocation=None)

        await self.made.store.write(body)

    async def do_register_switch(self) -> None:
        choose = self.chance.choice
        name = choose(["leaf01", "leaf02", "leaf03"])
        count = self.chance.randint(0, 4)
        vendor = choose(["SONiC", "Cumulus"])
        names = [
            f"Ethernet{4 * each}" if vendor == "SONiC" else f"swp{each + 1}"
            for each in range(count)
        ]
        body = registration(
            name,
            rack_id=choose(["rack-1", "rack-1", "rack-2"]),
            os={"vendor": vendor},
            nics=nics_of(choose([name, name, "leaf02"]), names),
        )
        await self.call("POST", "/v1/switch/register", body)

    async def do_change_switch(self) -> None:
        choose = self.chance.choice
        switch = await self.any_of("/v1/switch", "id")
        port = choose(["Ethernet0", "swp1", "x"])
        calls: list[tuple[str, str, Any]] = [
            ("POST", "/v1/switch", {"id": switch, "rack_id": "rack-1", "mode": "replace"}),
            ("POST", f"/v1/switch/{switch}/port", {"nic": port, "status": "DOWN"}),
            (
                "POST",
                "/v1/switch/migrate",
                {"old_switch_id": switch, "new_switch_id": choose(["leaf01", "leaf02"])},
            ),
            ("DELETE", f"/v1/switch/{switch}", None),
        ]
        await self.call(*choose(calls))


def live(seed: int, steps: int = STEPS, url: str = MEMORY) -> History:
    """One history, with the books compared at its end."""

    async def scenario() -> History:
        async with world(switches=True, url=url) as made:
            history = History(made=made, chance=Random(seed))
            for _ in range(steps):
                await history.step()
            assert await made.leaks() == []
            for machine in list(history.machines):
                history.machines = [machine]
                await history.do_free_machine()
            assert await made.leaks() == []
            return history

    return asyncio.run(scenario())
