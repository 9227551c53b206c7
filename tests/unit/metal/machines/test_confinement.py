# SPDX-License-Identifier: Apache-2.0
"""Callers that are confined to projects see and change the machines of these, and no others.

The handlers alone: the wall that stands around them has tests of its own.
"""

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from metropolis.base.errors import NotFoundError, PermissionDeniedError
from metropolis.metal.access.caller import Caller
from metropolis.metal.access.role import Role
from metropolis.metal.http.operation import Call
from metropolis.metal.http.table import OPERATIONS
from unit.metal.machines.fleet import Fleet, fleet, uuid_of

BLUE = Caller(
    email="blue@example.org",
    name="blue",
    tenant="metal-stack",
    role=Role.ADMIN,
    projects=frozenset({"blue"}),
)
BY_ID = {each.id: each for each in OPERATIONS}


async def call(site: Fleet, operation: str, machine_id: str = "", body: Any = None) -> Any:
    """What a handler answers to whoever is confined to project `blue`."""
    found = BY_ID[operation]
    made = Call[Any, Any](
        site=site.world.client.site,
        caller=BLUE,
        body=msgspec.convert(body or {}, found.body),
        query=found.query(),
        path={"id": machine_id},
        request_id="x",
    )
    answer = await found.handle(made)
    return msgspec.json.decode(msgspec.json.encode(answer))


def test_lists_and_searches_have_machines_of_these_projects_alone() -> None:
    async def scenario() -> None:
        async with fleet() as site:
            await site.boot(0)
            await site.boot(1)
            blue = await site.world.child(projectid="blue", name="blue")
            mine = await site.allocate(
                projectid="blue", networks=[{"networkid": blue["id"]}], uuid=uuid_of(1)
            )
            for operation in ("listMachines", "findMachines", "findIPMIMachines"):
                assert [each["id"] for each in await call(site, operation)] == [mine["id"]]
            for query in ({"allocation_project": "red"}, {"id": uuid_of(0)}):
                assert await call(site, "findMachines", body=query) == []
            site.clock.advance(3600)
            assert [each["machineid"] for each in await call(site, "issues")] == [mine["id"]]

    asyncio.run(scenario())


@pytest.mark.parametrize("owner", ["red", None])
@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("findMachine", None),
        ("findIPMIMachine", None),
        ("explainMachine", None),
        ("freeMachine", None),
        ("deleteMachine", None),
        ("machineReset", None),
        ("chassisIdentifyLEDOn", None),
        ("reinstallMachine", {"id": uuid_of(0), "imageid": "ubuntu-24.04.20261115"}),
        ("setMachineState", {"value": "", "description": "", "metal_hammer_version": ""}),
        ("updateMachine", {"id": uuid_of(0), "description": "mine"}),
        ("getMachineConsolePassword", {"id": uuid_of(0), "reason": "curious"}),
    ],
)
def test_a_machine_of_others_is_not_there(operation: str, body: Any, owner: str | None) -> None:
    async def scenario() -> None:
        async with fleet() as site:
            machine_id = await site.boot(0)
            if owner is not None:
                await site.allocate()
            before = await site.world.store.read(lambda reader: reader.revision())
            with pytest.raises(NotFoundError):
                await call(site, operation, machine_id, body)
            assert await site.world.store.read(lambda reader: reader.revision()) == before

    asyncio.run(scenario())


def test_nobody_allocates_for_a_project_that_is_not_his() -> None:
    async def scenario() -> None:
        async with fleet() as site:
            await site.boot(0)
            for operation in ("allocateMachine", "allocateFirewall"):
                with pytest.raises(PermissionDeniedError):
                    await call(site, operation, body=site.request())
            assert replace(BLUE, projects=None).sees("red")

    asyncio.run(scenario())
