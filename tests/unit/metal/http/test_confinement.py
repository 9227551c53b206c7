# SPDX-License-Identifier: Apache-2.0
"""A caller that is confined to a project sees and changes nothing of another one.

Two projects have the same things. The token of one calls every operation there is, with the names
of what the other has: nothing of that may change, and no answer may tell of it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from metropolis.metal.access.role import Role
from metropolis.metal.http.confinement import SIGHTS
from metropolis.metal.http.table import OPERATIONS
from unit.metal.http.client import Answer
from unit.metal.machines.fleet import SSH_KEY, Fleet, fleet

TENANT_WIDE = "listSwitches"
UNKNOWN = (
    "it does not exist, or belongs to a project that you cannot see. List those that you can see."
)


@dataclass(kw_only=True)
class Estate:
    """What one project has."""

    project: str
    machine: str
    network: str
    address: str
    reservation: str

    @property
    def names(self) -> tuple[str, ...]:
        """By which it would be known."""
        return (self.machine, self.network, self.address, self.reservation)


@dataclass(kw_only=True)
class Scene:
    """Two projects, and a token that is confined to the second."""

    fleet: Fleet
    theirs: Estate
    ours: Estate
    token: str

    async def call(self, method: str, path: str, body: Any = None) -> Answer:
        """Call as the confined token."""
        headers = {"authorization": f"Bearer {self.token}"}
        return await self.fleet.world.client.call(method, path, body, headers=headers)

    async def state(self) -> list[Any]:
        """All there is, as an administrator sees it."""
        paths = ("machine", "network", "ip", "size/reservations", "project", "firewall", "token")
        return [await self.fleet.world.ok("GET", f"/v1/{path}") for path in paths]


async def settle(ready: Fleet, project: str, number: int) -> Estate:
    world = ready.world
    network = await world.child(projectid=project, name=f"of-{project}")
    address = await world.ok(
        "POST",
        "/v1/ip/allocate",
        {"projectid": project, "networkid": "internet", "type": "static"},
        201,
    )
    reservation = await world.ok(
        "PUT",
        "/v1/size/reservations",
        {
            "id": f"reserved-{project}",
            "sizeid": "medium",
            "projectid": project,
            "partitionids": ["muc"],
            "amount": 1,
        },
        201,
    )
    machine = await ready.boot(number)
    networks = [{"networkid": network["id"], "autoacquire": True}]
    await ready.allocate(projectid=project, uuid=machine, networks=networks)
    await ready.install(machine)
    return Estate(
        project=project,
        machine=machine,
        network=network["id"],
        address=address["ipaddress"],
        reservation=reservation["id"],
    )


def play(scenario: Callable[[Scene], Awaitable[None]], *, role: str = "admin") -> None:
    async def whole() -> None:
        async with fleet(racks=2) as ready:
            theirs = await settle(ready, "red", 0)
            ours = await settle(ready, "blue", 1)
            wanted = {"role": role, "projects": ["blue"]}
            token = await ready.world.ok("PUT", "/v1/token", wanted, 201)
            await scenario(Scene(fleet=ready, theirs=theirs, ours=ours, token=token["token"]))

    asyncio.run(whole())


def test_every_operation_was_judged_and_the_others_are_refused() -> None:
    assert set(SIGHTS) - {"openapi", "apidocs"} <= {each.id for each in OPERATIONS}

    async def scenario(scene: Scene) -> None:
        before = await scene.state()
        refused = 0
        for operation in OPERATIONS:
            if operation.id in SIGHTS:
                continue
            path = operation.path.replace("{id}", scene.ours.machine)
            answer = await scene.call(operation.method, path, {})
            assert answer.status == 403, operation.id
            assert operation.id in answer.message
            refused += 1
        assert refused > 30
        assert await scene.state() == before

    play(scenario)


def test_lists_and_finds_hold_what_is_ours_and_nothing_else() -> None:
    async def scenario(scene: Scene) -> None:
        for method, path, body, ours in (
            ("GET", "/v1/machine", None, scene.ours.machine),
            ("POST", "/v1/machine/find", {}, scene.ours.machine),
            ("POST", "/v1/machine/find", {"allocation_project": "red"}, None),
            ("POST", "/v1/machine/find", {"id": scene.theirs.machine}, None),
            ("POST", "/v1/machine/ipmi/find", {}, scene.ours.machine),
            ("GET", "/v1/network", None, scene.ours.network),
            ("POST", "/v1/network/find", {}, scene.ours.network),
            ("POST", "/v1/network/find", {"projectid": "red"}, None),
            ("GET", "/v1/ip", None, scene.ours.address),
            ("POST", "/v1/ip/find", {}, scene.ours.address),
            ("POST", "/v1/ip/find", {"machineid": scene.theirs.machine}, None),
            ("GET", "/v1/size/reservations", None, scene.ours.reservation),
            ("POST", "/v1/size/reservations/find", {}, scene.ours.reservation),
            ("POST", "/v1/size/reservations/usage", {}, scene.ours.reservation),
            ("GET", "/v1/project", None, "blue"),
            ("POST", "/v1/project/find", {}, "blue"),
            ("GET", "/v1/firewall", None, None),
            ("POST", "/v1/partition/capacity", {"projectid": "blue"}, None),
            ("GET", "/v1/image?show-usage=true", None, None),
            ("POST", "/v1/image/find?show-usage=true", {}, None),
            ("GET", "/v1/token", None, None),
        ):
            answer = await scene.call(method, path, body)
            assert answer.status == 200, (path, answer.body)
            text = answer.body.decode()
            assert not any(name in text for name in scene.theirs.names), (path, text)
            assert '"red"' not in text, path
            assert ours is None or ours in text, (path, text)

    play(scenario)


def test_what_is_theirs_cannot_be_read_by_name() -> None:
    async def scenario(scene: Scene) -> None:
        theirs, ours = scene.theirs, scene.ours
        for path, name, own in (
            ("/v1/machine/{}", theirs.machine, ours.machine),
            ("/v1/machine/{}/ipmi", theirs.machine, ours.machine),
            ("/v1/network/{}", theirs.network, ours.network),
            ("/v1/ip/{}", theirs.address, ours.address),
            ("/v1/size/reservations/{}", theirs.reservation, ours.reservation),
            ("/v1/project/{}", "red", "blue"),
        ):
            answer = await scene.call("GET", path.format(name))
            assert answer.status == 404, (path, answer.body)
            nothing = "198.51.100.200" if name == theirs.address else "no-such-thing"
            absent = await scene.call("GET", path.format(nothing))
            assert absent.message.replace(nothing, name) == answer.message  # not told apart
            assert (await scene.call("GET", path.format(own))).status == 200, path
        for name, status in ((theirs.machine, 404), (ours.machine, 200)):
            body = {"id": name, "reason": "to look"}
            answer = await scene.call("GET", "/v1/machine/consolepassword", body)
            assert answer.status == status, answer.body

    play(scenario)


def changes(estate: Estate) -> list[tuple[str, str, Any]]:
    """Everything that can be done to what a project has."""
    machine = f"/v1/machine/{estate.machine}"
    commands = ("on", "off", "reset", "cycle", "bios", "disk", "pxe")
    leds = ("chassis-identify-led-on", "chassis-identify-led-off")
    order = {
        "projectid": estate.project,
        "partitionid": "muc",
        "sizeid": "medium",
        "imageid": "ubuntu-24.04",
        "networks": [{"networkid": estate.network, "autoacquire": True}],
        "ssh_pub_keys": [SSH_KEY],
    }
    reservation = {"id": estate.reservation, "amount": 2, "partitionids": ["muc"]}
    address = {"networkid": "internet", "projectid": estate.project, "type": "static"}
    return [
        *(("POST", f"{machine}/power/{each}", {}) for each in (*commands, *leds)),
        ("POST", f"{machine}/state", {"value": "LOCKED", "description": "x"}),
        ("POST", f"{machine}/reinstall", {"id": estate.machine, "imageid": "ubuntu-24.04"}),
        ("POST", "/v1/machine", {"id": estate.machine, "description": "x", "tags": []}),
        ("DELETE", f"{machine}/free", None),
        ("POST", "/v1/machine/allocate", order),
        ("POST", "/v1/firewall/allocate", order),
        ("POST", "/v1/network/allocate", {"projectid": estate.project, "partitionid": "muc"}),
        ("DELETE", f"/v1/network/free/{estate.network}", None),
        ("POST", f"/v1/network/free/{estate.network}", None),
        ("POST", "/v1/ip/allocate", address),
        ("POST", "/v1/ip/allocate/198.51.100.99", address),
        ("POST", "/v1/ip", {"ipaddress": estate.address, "type": "static", "tags": ["a=b"]}),
        ("DELETE", f"/v1/ip/free/{estate.address}", None),
        (
            "PUT",
            "/v1/size/reservations",
            {**reservation, "id": "new", "projectid": estate.project, "sizeid": "medium"},
        ),
        ("POST", "/v1/size/reservations", reservation),
        ("DELETE", f"/v1/size/reservations/{estate.reservation}", None),
    ]


@pytest.mark.parametrize("role", ["edit", "admin"])
def test_what_is_theirs_cannot_be_changed(role: str) -> None:
    async def scenario(scene: Scene) -> None:
        before = await scene.state()
        for method, path, body in changes(scene.theirs):
            answer = await scene.call(method, path, body)
            assert answer.status in {403, 404}, (method, path, answer.status, answer.body)
            told = answer.body.decode()
            assert all(name not in told for name in (scene.theirs.network, scene.theirs.address)
                       if name not in path and name not in str(body))  # fmt: skip
        assert await scene.state() == before

    play(scenario, role=role)


def test_what_is_ours_cannot_be_built_with_what_is_theirs() -> None:
    async def scenario(scene: Scene) -> None:
        spare = await scene.fleet.boot(2)
        ours = {
            "projectid": "blue",
            "partitionid": "muc",
            "sizeid": "medium",
            "imageid": "ubuntu-24.04",
            "networks": [{"networkid": scene.ours.network, "autoacquire": True}],
            "ssh_pub_keys": [SSH_KEY],
            "uuid": spare,
        }
        before = await scene.state()
        for change in (
            {"networks": [{"networkid": scene.theirs.network, "autoacquire": True}]},
            {"ips": [scene.theirs.address], "networks": [
                *ours["networks"], {"networkid": "internet", "autoacquire": False}]},
            {"uuid": scene.theirs.machine},
        ):  # fmt: skip
            answer = await scene.call("POST", "/v1/machine/allocate", {**ours, **change})
            assert (answer.status, answer.message) == (404, UNKNOWN), change
        inside = {"networkid": scene.theirs.network, "projectid": "blue", "type": "ephemeral"}
        nowhere = {**inside, "networkid": "nowhere"}
        outside = {**inside, "networkid": "internet", "machineid": scene.theirs.machine}
        for wanted in (inside, nowhere, outside):
            answer = await scene.call("POST", "/v1/ip/allocate", wanted)
            assert (answer.status, answer.message) == (404, UNKNOWN), wanted
        assert await scene.state() == before
        assert (await scene.call("POST", "/v1/machine/allocate", ours)).status == 200

    play(scenario)


def test_what_is_ours_can_be_changed() -> None:
    async def scenario(scene: Scene) -> None:
        for method, path, body in changes(scene.ours):
            if "/free" in path or "allocate" in path or "reinstall" in path:
                continue
            answer = await scene.call(method, path, body)
            if path == "/v1/machine":
                assert answer.status == 403  # for administrators alone
                continue
            assert answer.status in {200, 201}, (method, path, answer.body)

    play(scenario, role="edit")


def test_the_audit_shows_what_was_done_in_our_projects() -> None:
    async def scenario(scene: Scene) -> None:
        found = (await scene.call("POST", "/v1/audit/find", {})).json
        assert found
        everything = await scene.fleet.world.ok("POST", "/v1/audit/find", {})
        assert len(found) < len(everything)
        text = str(found)
        assert not any(name in text for name in scene.theirs.names)
        assert "red" not in {word for each in found for word in each["body"].split('"')}

    play(scenario)


def test_viewers_see_that_there_are_bmc_secrets_and_not_what_they_are() -> None:
    async def scenario(scene: Scene) -> None:
        client = scene.fleet.world.client
        bmc = f"/v1/machine/{scene.theirs.machine}/ipmi"
        for role, password in ((Role.VIEW, ""), (Role.EDIT, "secret"), (Role.ADMIN, "secret")):
            one = (await client.get(bmc, role=role)).json["ipmi"]
            assert one["password"] == password
            assert bool(one["user"]) == bool(password)
            many = (await client.post("/v1/machine/ipmi/find", {}, role=role)).json
            assert {each["ipmi"]["password"] for each in many} == {password}
        # Nor can they guess it: a search would answer whether it is right.
        guess: dict[str, object] = {"ipmi_user": (await client.get(bmc)).json["ipmi"]["user"]}
        every = {"last_error_threshold": 0, "omit": [], "only": [], "severity": ""}
        searches: list[tuple[str, dict[str, object]]] = [
            ("/v1/machine/find", guess),
            ("/v1/machine/ipmi/find", guess),
            ("/v1/firewall/find", guess),
            ("/v1/machine/issues/evaluate", {**guess, **every}),
        ]
        for path, body in searches:
            refused = await client.post(path, body, role=Role.VIEW)
            assert (refused.status, "ipmi_user" in refused.json["message"]) == (403, True), path
            assert (await client.post(path, body, role=Role.EDIT)).status == 200
            unasked = {**body, "ipmi_user": None}  # as some clients say it
            assert (await client.post(path, unasked, role=Role.VIEW)).status == 200

    play(scenario)
