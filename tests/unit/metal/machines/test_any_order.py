# SPDX-License-Identifier: Apache-2.0
"""Whatever is done to some machines in whatever order, the books agree afterwards.

The model remembers whose each machine is; everything else is looked up.
"""

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)
from typing_extensions import override

from metropolis.metal.model.event import Event
from metropolis.metal.services.liveliness import resurrect
from metropolis.metal.services.reports import abort_reinstall
from unit.metal.machines.fleet import UBUNTU, UBUNTU_NEW, Fleet, fleet, uuid_of

ResultT = TypeVar("ResultT")
NUMBERS = st.integers(0, 3)


class Life(RuleBasedStateMachine):
    """Four machines in two racks, two projects, and somebody who does anything."""

    addresses = Bundle("addresses")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.owners: dict[str, str] = {}
        self.networks: dict[str, str] = {}

    def run(self, awaitable: Awaitable[ResultT]) -> ResultT:
        async def main() -> ResultT:
            return await awaitable

        return self.runner.run(main())

    @initialize()
    def begin(self) -> None:
        self.site: Fleet = self.run(self.stack.enter_async_context(fleet(racks=2)))
        blue = self.run(self.site.world.child(projectid="blue", name="blue"))
        self.networks = {"red": self.site.network_id, "blue": blue["id"]}
        for number in range(4):
            self.run(self.site.boot(number))

    def chosen(self, number: int) -> str:
        """A machine, of those that are somebody's if there are any."""
        owned = sorted(self.owners)
        return owned[number % len(owned)] if owned else uuid_of(number)

    @override
    def teardown(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.close()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.run(self.site.world.client.call(method, path, body))
        assert answer.status < 500, answer.body
        return answer.json if answer.status < 300 else None

    @rule(number=NUMBERS)
    def boot(self, number: int) -> None:
        self.run(self.site.boot(number))

    @rule(
        project=st.sampled_from(["red", "blue"]),
        role=st.sampled_from(["machine", "firewall"]),
        external=st.booleans(),
        number=st.none() | NUMBERS,
    )
    def allocate(self, project: str, role: str, external: bool, number: int | None) -> None:
        networks = [{"networkid": self.networks[project]}]
        if external:
            networks.append({"networkid": "internet"})
        body = self.site.request(
            projectid=project,
            networks=networks,
            imageid="ubuntu-24.04" if role == "machine" else "firewall-3.0",
            uuid=None if number is None else uuid_of(number),
        )
        answer = self.call("POST", f"/v1/{role}/allocate", body)
        if answer is not None:
            assert answer["id"] not in self.owners, "it was somebody's"
            self.owners[answer["id"]] = project

    @rule(target=addresses, project=st.sampled_from(["red", "blue"]))
    def reserve_address(self, project: str) -> tuple[str, str]:
        body = {"networkid": "internet", "projectid": project, "type": "static"}
        return project, self.call("POST", "/v1/ip/allocate", body)["ipaddress"]

    @rule(address=addresses)
    def allocate_with_address(self, address: tuple[str, str]) -> None:
        project, ip = address
        networks = [
            {"networkid": self.networks[project]},
            {"networkid": "internet", "autoacquire": False},
        ]
        body = self.site.request(projectid=project, networks=networks, ips=[ip])
        answer = self.call("POST", "/v1/machine/allocate", body)
        if answer is not None:
            assert answer["id"] not in self.owners
            self.owners[answer["id"]] = project

    @rule(address=consumes(addresses))
    def free_address(self, address: tuple[str, str]) -> None:
        self.call("DELETE", f"/v1/ip/free/{address[1]}")

    @rule(number=NUMBERS)
    def free(self, number: int) -> None:
        machine_id = self.chosen(number)
        if self.call("DELETE", f"/v1/machine/{machine_id}/free") is not None:
            self.owners.pop(machine_id, None)

    @rule(number=NUMBERS, image=st.sampled_from([UBUNTU, UBUNTU_NEW, "firewall-3.0.20261101"]))
    def reinstall(self, number: int, image: str) -> None:
        machine_id = self.chosen(number)
        body = {"id": machine_id, "imageid": image}
        self.call("POST", f"/v1/machine/{machine_id}/reinstall", body)

    @rule(number=NUMBERS, wiped=st.booleans())
    def give_up(self, number: int, wiped: bool) -> None:
        machine_id = self.chosen(number)
        if machine_id in self.owners:
            self.run(
                self.site.write(
                    lambda tx: abort_reinstall(tx, machine_id, primary_disk_wiped=wiped)
                )
            )

    @rule(number=NUMBERS, success=st.booleans())
    def install(self, number: int, success: bool) -> None:
        machine_id = self.chosen(number)
        if machine_id in self.owners:
            self.run(self.site.install(machine_id, success=success))

    @rule(number=NUMBERS, value=st.sampled_from(["", "LOCKED", "RESERVED"]))
    def set_aside(self, number: int, value: str) -> None:
        state = {"value": value, "description": "because", "metal_hammer_version": ""}
        self.call("POST", f"/v1/machine/{uuid_of(number)}/state", state)

    @rule(number=NUMBERS, event=st.sampled_from(list(Event)))
    def say(self, number: int, event: Event) -> None:
        self.run(self.site.send(uuid_of(number), event))

    @rule(seconds=st.sampled_from([30, 301, 4000]))
    def silence(self, seconds: int) -> None:
        self.run(self.site.silence(seconds))

    @rule()
    def raise_the_dead(self) -> None:
        now = self.site.clock.wall()
        self.run(resurrect(self.site.world.store, now=now))

    @rule(number=NUMBERS)
    def delete(self, number: int) -> None:
        if self.call("DELETE", f"/v1/machine/{uuid_of(number)}") is not None:
            assert uuid_of(number) not in self.owners, "it was somebody's"

    @invariant()
    def the_books_agree(self) -> None:
        if not self.networks:
            return
        assert self.run(self.site.world.leaks()) == []
        listed = self.call("GET", "/v1/machine")
        owners = {
            each["id"]: each["allocation"]["project"] for each in listed if each.get("allocation")
        }
        assert owners == self.owners
        for each in listed:
            said = self.call("GET", f"/v1/machine/{each['id']}/explain")
            fine = said["verdict"] in {"allocatable", "in use"}
            assert fine == (said["obstacles"] == []), said


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
