# SPDX-License-Identifier: Apache-2.0
"""What operators and agents do with machines over the interface, beside allocating them."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
import pytest

from metropolis.metal.access.role import Role
from metropolis.metal.model.event import EVENT_HISTORIES, EVENTS, Event
from metropolis.metal.model.ipmi import CONSOLE_PASSWORDS, IPMIS
from metropolis.metal.model.machine_response import MachineIPMIResponse, MachineResponse
from metropolis.metal.services.reports import abort_reinstall
from metropolis.metal.store import Kind, Reader
from unit.metal.machines.fleet import SSH_KEY, UBUNTU, UBUNTU_NEW, Fleet, fleet, uuid_of

RESET: dict[str, Any] = {"value": "", "description": "", "metal_hammer_version": ""}


def run(scenario: Callable[[Fleet], Awaitable[None]], *, racks: int = 1) -> None:
    async def main() -> None:
        async with fleet(racks=racks) as site:
            await scenario(site)

    asyncio.run(main())


async def told(site: Fleet) -> list[Any]:
    """What the partition was told, since it was asked last."""

    async def view(reader: Reader) -> list[Any]:
        rows = await reader.fetch(
            "SELECT payload FROM outbox WHERE topic = 'muc-machine' ORDER BY sequence"
        )
        return [msgspec.json.decode(payload) for (payload,) in rows]

    return await site.world.store.read(view)


async def count_of(reader: Reader, *, kind: Kind[Any]) -> int:
    return await reader.count(kind)


async def ports(site: Fleet, machine_id: str) -> set[str]:
    """The VRFs of a machine's ports."""
    switches = await site.world.ok("GET", "/v1/switch")
    return {
        each["nic"].get("vrf") or ""
        for switch in switches
        for each in switch["connections"]
        if each["machine_id"] == machine_id
    }


def test_answers_have_the_shape_that_is_documented() -> None:
    async def scenario(site: Fleet) -> None:
        for number in range(2):
            await site.boot(number)
        await site.allocate()
        listed = await site.world.client.get("/v1/machine")
        machines = msgspec.json.decode(listed.body, type=list[MachineResponse], strict=True)
        assert [each.id for each in machines] == [uuid_of(0), uuid_of(1)]
        (taken,) = [each for each in machines if each.allocation is not None]
        assert taken.allocation is not None
        assert taken.allocation.image is not None
        assert {each.liveliness for each in machines} == {"Alive"}
        one = await site.world.client.get(f"/v1/machine/{taken.id}")
        assert msgspec.json.decode(one.body, type=MachineResponse) == taken
        bmc = await site.world.client.get(f"/v1/machine/{taken.id}/ipmi")
        assert msgspec.json.decode(bmc.body, type=MachineIPMIResponse).ipmi.user == "metal"
        plain = msgspec.json.decode(one.body)
        assert not {"imageid", "sizeid", "partitionid", "waiting"} & set(plain)
        assert b"secret" not in listed.body

    run(scenario)


def test_a_long_list_and_a_short_one_say_the_same_of_a_machine() -> None:
    async def scenario(site: Fleet) -> None:
        await site.boot(0)
        reports = {f"many-{n}": {"BMCIp": "192.0.2.9"} for n in range(300)}
        body = {"partitionid": "muc", "reports": reports}
        await site.world.ok("POST", "/v1/machine/ipmi", body)
        listed = await site.world.ok("GET", "/v1/machine")
        assert len(listed) == 301
        (mine,) = [each for each in listed if each["id"] == uuid_of(0)]
        assert mine == await site.world.ok("GET", f"/v1/machine/{uuid_of(0)}")
        unheard = next(each for each in listed if each["id"] == "many-0")
        assert unheard["liveliness"] == ""
        assert unheard["events"] == {
            "crash_loop": False,
            "failed_machine_reclaim": False,
            "log": [],
        }
        assert await site.world.refused(422, "GET", "/v1/machine/many-0")

    run(scenario)


def test_viewers_see_neither_user_nor_password_of_a_bmc() -> None:
    async def scenario(site: Fleet) -> None:
        machine_id = await site.boot(0)
        for role, user, password in (
            (Role.VIEW, "", ""),
            (Role.EDIT, "metal", "secret"),
            (Role.ADMIN, "metal", "secret"),
        ):
            one = await site.world.client.get(f"/v1/machine/{machine_id}/ipmi", role=role)
            (found,) = (await site.world.client.post("/v1/machine/ipmi/find", {}, role=role)).json
            for answer in (one.json, found):
                assert (answer["ipmi"]["user"], answer["ipmi"]["password"]) == (user, password)

    run(scenario)


def test_a_report_of_bmcs_makes_machines_known_and_keeps_what_it_does_not_say() -> None:
    async def scenario(site: Fleet) -> None:
        machine_id = await site.boot(0)
        await site.world.ok("POST", f"/v1/machine/{machine_id}/power/chassis-identify-led-on"
                            "?description=look", {})  # fmt: skip
        known = {
            "BMCIp": "198.51.100.7",
            "BMCVersion": "2.0",
            "BIOSVersion": "3.0",
            "FRU": {"product_serial": "P1"},
            "PowerState": "ON",
            "IndicatorLEDState": "LED-OFF",
            "PowerMetric": None,
            "PowerSupplies": [{"status": {"health": "OK", "state": "Enabled"}}],
        }
        body = {"partitionid": "muc", "reports": {machine_id: known, "new": {"BMCIp": "::1"}}}
        answer = await site.world.ok("POST", "/v1/machine/ipmi", body)
        assert answer == {"created": ["new"], "updated": [machine_id]}
        found = await site.world.ok("GET", f"/v1/machine/{machine_id}/ipmi")
        assert found["ipmi"]["address"] == "198.51.100.7:623"
        assert found["ipmi"]["fru"] == {
            "product_serial": "P1",
            "chassis_part_serial": "C0",
            "board_mfg_serial": "B0",
        }
        assert found["bios"]["version"] == "3.0"
        assert found["ledstate"] == {"value": "LED-OFF", "description": "look"}
        assert (await site.world.ok("GET", "/v1/machine/new/ipmi"))["ipmi"][
            "address"
        ] == "[::1]:623"
        elsewhere = await site.world.ok("POST", "/v1/machine/ipmi", body | {"partitionid": "fra"})
        assert elsewhere == {"created": [], "updated": []}
        await site.world.refused(404, "POST", "/v1/machine/ipmi", body | {"partitionid": "x"})
        bad = {"partitionid": "muc", "reports": {"no machine": {"BMCIp": "::1"}}}
        await site.world.refused(400, "POST", "/v1/machine/ipmi", bad)
        bad = {"partitionid": "muc", "reports": {"new": {"BMCIp": "ten"}}}
        assert "BMCIp" in await site.world.refused(400, "POST", "/v1/machine/ipmi", bad)

    run(scenario)


def test_a_report_that_says_nothing_new_of_a_machine_does_not_change_it() -> None:
    async def scenario(site: Fleet) -> None:
        machine_id = await site.boot(0)
        reports = {machine_id: {"BMCIp": "192.0.2.0", "BIOSVersion": "9"}}
        body = {"partitionid": "muc", "reports": reports}
        await site.world.ok("POST", "/v1/machine/ipmi", body)
        changed = (await site.machine(machine_id)).changed
        site.clock.advance(300)
        await site.world.ok("POST", "/v1/machine/ipmi", body)
        assert (await site.machine(machine_id)).changed == changed
        bmc = await site.world.ok("GET", f"/v1/machine/{machine_id}/ipmi")
        assert bmc["ipmi"]["last_updated"] == "2026-11-20T12:05:00Z"

    run(scenario)


@pytest.mark.parametrize(
    ("path", "command", "announced"),
    [
        ("on", "ON", False),
        ("off", "OFF", True),
        ("reset", "RESET", True),
        ("cycle", "CYCLE", True),
        ("bios", "BIOS", False),
        ("disk", "DISK", False),
        ("pxe", "PXE", False),
        ("chassis-identify-led-on", "LED-ON", False),
        ("chassis-identify-led-off", "LED-OFF", False),
    ],
)
def test_a_command_goes_to_the_partition_and_a_reboot_is_announced_before(
    path: str, command: str, announced: bool
) -> None:
    async def scenario(site: Fleet) -> None:
        machine_id = await site.boot(0)
        await site.world.ok("POST", f"/v1/machine/{machine_id}/power/{path}", {})
        (message,) = await told(site)
        assert message == {"type": "command", "cmd": {"target": machine_id, "cmd": command}}
        newest = (await site.events(machine_id)).log[0]
        assert (newest.event == Event.PLANNED_REBOOT) is announced
        assert (newest.message == command) is announced

    run(scenario)


def test_a_machine_in_no_partition_can_be_told_nothing() -> None:
    async def scenario(site: Fleet) -> None:
        await site.send("stray", Event.PXE_BOOTING)
        await site.world.refused(422, "POST", "/v1/machine/stray/power/on", {})
        await site.world.refused(404, "POST", "/v1/machine/none/power/on", {})

    run(scenario)


def test_a_locked_machine_is_not_freed_and_states_need_a_reason() -> None:
    async def scenario(site: Fleet) -> None:
        machine_id = await site.boot(0)
        await site.allocate()
        path = f"/v1/machine/{machine_id}/state"
        lock = {"value": "LOCKED", "description": "evidence", "metal_hammer_version": ""}
        await site.world.refused(400, "POST", path, lock | {"description": ""})
        await site.world.refused(400, "POST", path, lock | {"value": "BROKEN"})
        locked = await site.world.ok("POST", path, lock)
        assert locked["state"] == {
            "value": "LOCKED",
            "description": "evidence",
            "issuer": "metal-admin@metal-stack.io",
            "metal_hammer_version": "v0.14",
        }
        message = await site.world.refused(422, "DELETE", f"/v1/machine/{machine_id}/free")
        assert message.startswith("machine is locked")
        again = {"id": machine_id, "imageid": UBUNTU}
        await site.world.refused(400, "POST", f"/v1/machine/{machine_id}/reinstall", again)
        free = await site.world.ok("POST", path, RESET)
        assert free["state"]["issuer"] == ""
        await site.free(machine_id)

    run(scenario)


def test_freeing_tells_the_partition_and_puts_the_ports_back() -> None:
    async def scenario(site: Fleet) -> None:
        machine_id = await site.boot(0)
        answer = await site.allocate()
        await site.install(machine_id)
        vrf = answer["allocation"]["networks"][0]["vrf"]
        assert await ports(site, machine_id) == {f"vrf{vrf}"}
        before = len(await told(site))
        await site.free(machine_id)
        assert await ports(site, machine_id) == {""}
        off, deleted = (await told(site))[before:]
        assert off["cmd"] == {"target": machine_id, "cmd": "LED-OFF"}
        assert deleted == {"type": "delete", "old": machine_id, "cmd": {"target": machine_id}}
        again = {"id": machine_id, "reason": "why not"}
        await site.world.refused(422, "GET", "/v1/machine/consolepassword", again)
        await site.allocate(uuid=machine_id)
        told_now = await site.world.ok("GET", "/v1/machine/consolepassword", again)
        assert told_now["console_password"] == "", "the one before is not for whoever comes next"

    run(scenario)


def test_a_console_password_is_told_for_a_reason() -> None:
    async def scenario(site: Fleet) -> None:
        machine_id = await site.boot(0)
        await site.allocate()
        await site.install(machine_id)
        body = {"id": machine_id, "reason": "cannot log in"}
        answer = await site.world.ok("GET", "/v1/machine/consolepassword", body)
        assert answer["console_password"] == "console-secret"
        listed = await site.world.client.get("/v1/machine")
        assert b"console-secret" not in listed.body

    run(scenario)


def test_a_machine_is_installed_again_and_phones_home_without_a_crash_loop() -> None:
    async def scenario(site: Fleet) -> None:
        machine_id = await site.boot(0)
        await site.allocate(imageid=UBUNTU)
        await site.install(machine_id)
        body = {"id": machine_id, "imageid": UBUNTU_NEW}
        path = f"/v1/machine/{machine_id}/reinstall"
        await site.world.refused(400, "POST", path, body | {"id": uuid_of(9)})
        await site.world.refused(404, "POST", path, body | {"imageid": "ubuntu-99.04"})
        answer = await site.world.ok("POST", path, body)
        assert answer["allocation"]["reinstall"] is True
        assert answer["allocation"]["succeeded"] is False
        assert answer["allocation"]["image"]["id"] == UBUNTU_NEW
        assert await ports(site, machine_id) == {""}
        newest = (await site.events(machine_id)).log[0]
        assert (newest.event, newest.message) == (Event.PLANNED_REBOOT, "REINSTALL")
        deleted, command = (await told(site))[-2:]
        assert deleted["type"] == "delete"
        assert command["cmd"]["cmd"] == "REINSTALL"
        await site.boot(0)
        await site.install(machine_id)
        found = await site.world.ok("GET", f"/v1/machine/{machine_id}")
        assert found["allocation"]["reinstall"] is False
        assert found["allocation"]["succeeded"] is True
        assert found["events"]["crash_loop"] is False
        assert "last_error_event" not in found["events"]

    run(scenario)


def test_giving_up_to_install_again_brings_the_old_system_back_if_it_is_there() -> None:
    async def scenario(site: Fleet) -> None:
        machine_id = await site.boot(0)
        await site.allocate(imageid=UBUNTU)
        await site.install(machine_id)
        vrfs = await ports(site, machine_id)
        again = {"id": machine_id, "imageid": UBUNTU_NEW}
        await site.world.ok("POST", f"/v1/machine/{machine_id}/reinstall", again)
        lost = await site.write(lambda tx: abort_reinstall(tx, machine_id, primary_disk_wiped=True))
        assert lost is None
        assert (await told(site))[-1]["cmd"]["cmd"] == "DISK"
        kept = await site.write(
            lambda tx: abort_reinstall(tx, machine_id, primary_disk_wiped=False)
        )
        assert kept is not None
        assert kept.kernel == "/vmlinuz"
        found = await site.world.ok("GET", f"/v1/machine/{machine_id}")
        assert found["allocation"]["image"]["id"] == UBUNTU
        assert found["allocation"]["reinstall"] is False
        assert await ports(site, machine_id) == vrfs

    run(scenario)


def test_an_installation_that_failed_says_so_until_one_succeeds() -> None:
    async def scenario(site: Fleet) -> None:
        machine_id = await site.boot(0)
        await site.allocate()
        await site.install(machine_id, success=False, message="no space on /dev/sda")
        found = await site.world.ok("GET", f"/v1/machine/{machine_id}")
        assert found["allocation"]["succeeded"] is False
        assert found["allocation"]["failure"] == "no space on /dev/sda"
        said = await site.world.ok("GET", f"/v1/machine/{machine_id}/explain")
        assert any("no space" in each["reason"] for each in said["obstacles"])
        await site.install(machine_id)
        found = await site.world.ok("GET", f"/v1/machine/{machine_id}")
        assert "failure" not in found["allocation"]
        said = await site.world.ok("GET", f"/v1/machine/{machine_id}/explain")
        assert said == {"machineid": machine_id, "verdict": "in use", "obstacles": []}

    run(scenario)


def test_only_an_allocated_machine_is_updated_and_its_system_tags_stay() -> None:
    async def scenario(site: Fleet) -> None:
        machine_id = await site.boot(0)
        body = {"id": machine_id, "description": "db", "tags": ["b", "a"], "ssh_pub_keys": []}
        await site.world.refused(400, "POST", "/v1/machine", body)
        await site.allocate()
        answer = await site.world.ok("POST", "/v1/machine", body)
        assert answer["description"] == "db"
        assert answer["allocation"]["ssh_pub_keys"] == []
        keys = [tag.partition("=")[0] for tag in answer["tags"]]
        assert keys == [
            "a",
            "b",
            "machine.metal-stack.io/chassis",
            "machine.metal-stack.io/network.primary.asn",
            "machine.metal-stack.io/rack",
        ]
        bad = body | {"ssh_pub_keys": ["nonsense"]}
        await site.world.refused(400, "POST", "/v1/machine", bad)
        only = await site.world.ok(
            "POST", "/v1/machine", {"id": machine_id, "ssh_pub_keys": [SSH_KEY]}
        )
        assert only["tags"] == answer["tags"]

    run(scenario)


def test_only_a_dead_machine_that_is_nobodys_is_deleted() -> None:
    async def scenario(site: Fleet) -> None:
        machine_id = await site.boot(0)
        path = f"/v1/machine/{machine_id}"
        assert "alive" in await site.world.refused(422, "DELETE", path)
        await site.allocate()
        assert "allocated" in await site.world.refused(422, "DELETE", path)
        await site.free(machine_id)
        await site.silence(301)
        await site.world.ok("DELETE", path)
        await site.world.refused(404, "GET", path)
        assert await site.world.leaks() == []
        switch = await site.world.ok("GET", "/v1/switch/leaf01")
        assert switch["connections"] == []
        belongings: tuple[Kind[Any], ...] = (EVENTS, EVENT_HISTORIES, IPMIS, CONSOLE_PASSWORDS)
        for kind in belongings:
            assert await site.world.store.read(partial(count_of, kind=kind)) == 0
        await site.boot(0)

    run(scenario)
