# SPDX-License-Identifier: Apache-2.0
"""Switches through the interface: they register, are replaced, report, and filter."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from metropolis.base.errors import FailedPreconditionError
from metropolis.metal.model.hardware import Nic
from metropolis.metal.model.machine import MACHINES
from metropolis.metal.model.switch import SWITCH_STATUSES, SWITCHES
from metropolis.metal.services.connections import (
    connect_machine,
    disconnect_machine,
    set_machine_vrf,
)
from metropolis.metal.services.switch_status import SwitchAnswers
from metropolis.metal.store import Reader
from unit.metal.fabric.world import SONIC, World, nics_of, registration, seen, world

BOTH = {"leaf01": "Ethernet0", "leaf02": "Ethernet0"}


def ports(switch: Any) -> dict[str, Any]:
    return {each["name"]: each for each in switch["nics"]}


def machines_of(switch: Any) -> dict[str, str]:
    return {each["nic"]["name"]: each["machine_id"] for each in switch["connections"]}


def test_a_switch_that_registers_twice_stays_as_it_is() -> None:
    async def scenario() -> None:
        async with world() as made:
            first = await made.ok("POST", "/v1/switch/register", registration("leaf01"), 201)
            assert first["mode"] == "operational"
            assert first["name"] == "leaf01"
            assert first["partition"]["id"] == "muc"
            assert [each["name"] for each in first["nics"]] == list(SONIC)
            assert first["connections"] == []
            assert {each["actual"] for each in first["nics"]} == {"UNKNOWN"}
            made.client.clock.advance(60)
            again = await made.ok("POST", "/v1/switch/register", registration("leaf01"))
            assert again == first
            more = registration("leaf01", nics=nics_of("leaf01", (*SONIC, "Ethernet12")))
            again = await made.ok("POST", "/v1/switch/register", more)
            assert len(again["nics"]) == 4
            assert await made.ok("GET", "/v1/switch/leaf01") == again
            assert await made.ok("GET", "/v1/switch") == [again]

    asyncio.run(scenario())


def doubled(field: str) -> list[dict[str, Any]]:
    nics = nics_of("leaf01", SONIC)
    nics[1][field] = nics[0][field]
    return nics


REFUSED: list[tuple[str, int, dict[str, Any], str]] = [
    ("unknown partition", 404, {"partition_id": "nowhere"}, "partition"),
    ("unknown vendor", 400, {"os": {"vendor": "IOS"}}, "os.vendor"),
    ("two ports of a name", 400, {"nics": doubled("name")}, "Ethernet0"),
    ("two ports of an identifier", 400, {"nics": doubled("identifier")}, "leaf01-Ethernet0"),
    ("no nics", 400, {"nics": None}, "nics"),
    ("id that is no path", 400, {"id": "../leaf"}, "id"),
    ("empty id", 400, {"id": ""}, "id"),
    ("empty rack", 400, {"rack_id": ""}, "rack_id"),
    (
        "unknown port status",
        400,
        {"nics": [nics_of("leaf01", SONIC)[0] | {"actual": "?"}]},
        "actual",
    ),
    ("unknown field", 400, {"colour": "red"}, "colour"),
]


@pytest.mark.parametrize(
    ("status", "change", "named"),
    [each[1:] for each in REFUSED],
    ids=[each[0] for each in REFUSED],
)
def test_a_registration_that_is_refused_leaves_nothing(
    status: int, change: dict[str, Any], named: str
) -> None:
    async def scenario() -> None:
        async with world() as made:
            body = registration("leaf01") | change
            assert named in await made.refused(status, "POST", "/v1/switch/register", body)
            assert await made.ok("GET", "/v1/switch") == []

    asyncio.run(scenario())


def test_switches_that_were_swapped_are_told_apart() -> None:
    async def scenario() -> None:
        async with world(switches=True) as made:
            swapped = registration("leaf01", nics=nics_of("leaf02", SONIC))
            message = await made.refused(409, "POST", "/v1/switch/register", swapped)
            assert "leaf02" in message
            assert "swapped" in message
            renamed = registration("leaf09", nics=nics_of("leaf02", SONIC))
            assert "leaf02" in await made.refused(409, "POST", "/v1/switch/register", renamed)

    asyncio.run(scenario())


def test_a_switch_with_machines_does_not_move_nor_lose_their_ports() -> None:
    async def scenario() -> None:
        async with world(switches=True) as made:
            await made.add_machine("m1", BOTH)
            for change, named in (
                ({"rack_id": "rack-2"}, "rack_id"),
                ({"partition_id": "fra"}, "partition_id"),
                ({"nics": nics_of("leaf01", SONIC[1:])}, "Ethernet0"),
                (
                    {
                        "nics": [
                            each | {"name": "x" + each["name"]} for each in nics_of("leaf01", SONIC)
                        ]
                    },
                    "Ethernet0",
                ),
            ):
                body = registration("leaf01") | change
                assert named in await made.refused(422, "POST", "/v1/switch/register", body)
            await made.ok("POST", "/v1/switch", {"id": "leaf01", "rack_id": "rack-2"})
            await made.ok("POST", "/v1/switch/register", registration("leaf01", rack_id="rack-2"))
            await made.ok(
                "POST",
                "/v1/switch/register",
                registration("leaf02", nics=nics_of("leaf02", SONIC[:1])),
            )

    asyncio.run(scenario())


def test_a_machine_is_connected_where_it_sees_both_switches() -> None:
    async def scenario() -> None:
        async with world(switches=True) as made:
            nics = seen(BOTH)
            rack = await made.store.write(lambda tx: connect_machine(tx, "m1", nics))
            assert rack == "rack-1"
            before = await made.store.read(lambda reader: reader.revision(SWITCHES))
            await made.store.write(lambda tx: connect_machine(tx, "m1", nics))
            assert await made.store.read(lambda reader: reader.revision(SWITCHES)) == before
            await made.store.write(lambda tx: set_machine_vrf(tx, "m1", "vrf7"))
            switch = await made.ok("GET", "/v1/switch/leaf02")
            assert machines_of(switch) == {"Ethernet0": "m1"}
            assert ports(switch)["Ethernet0"]["vrf"] == "vrf7"
            assert ports(switch)["Ethernet4"]["vrf"] == ""
            await made.ok("POST", "/v1/switch/register", registration("leaf02"))
            switch = await made.ok("GET", "/v1/switch/leaf02")
            assert ports(switch)["Ethernet0"]["vrf"] == "vrf7"
            await made.store.write(lambda tx: disconnect_machine(tx, "m1"))
            for name in BOTH:
                switch = await made.ok("GET", f"/v1/switch/{name}")
                assert switch["connections"] == []
                assert ports(switch)["Ethernet0"]["vrf"] == ""

    asyncio.run(scenario())


WIRINGS: list[tuple[str, dict[str, str], str]] = [
    ("nothing", {}, "exactly 2"),
    ("one switch", {"leaf01": "Ethernet0"}, "exactly 2"),
    ("a switch that is unknown", {"leaf01": "Ethernet0", "leaf99": "Ethernet0"}, "exactly 2"),
    ("a port that is unknown", {"leaf01": "Ethernet0", "leaf02": "Ethernet99"}, "exactly 2"),
    ("three switches", BOTH | {"leaf03": "Ethernet0"}, "exactly 2"),
    ("two racks", {"leaf01": "Ethernet0", "leaf03": "Ethernet0"}, "different racks"),
    ("different ports", {"leaf01": "Ethernet0", "leaf02": "Ethernet4"}, "mirrored"),
    ("a port of another machine", {"leaf01": "Ethernet8", "leaf02": "Ethernet8"}, "other"),
]


@pytest.mark.parametrize(
    ("wiring", "reason"), [each[1:] for each in WIRINGS], ids=[each[0] for each in WIRINGS]
)
def test_a_machine_that_is_plugged_in_wrongly_is_refused(
    wiring: dict[str, str], reason: str
) -> None:
    async def scenario() -> None:
        async with world(switches=True) as made:
            other = registration("leaf03", rack_id="rack-2")
            await made.ok("POST", "/v1/switch/register", other, 201)
            await made.add_machine("other", {"leaf01": "Ethernet8", "leaf02": "Ethernet8"})
            with pytest.raises(FailedPreconditionError) as refused:
                await made.store.write(lambda tx: connect_machine(tx, "m1", seen(wiring)))
            assert reason in f"{refused.value} {refused.value.remedy}"
            switch = await made.ok("GET", "/v1/switch/leaf01")
            assert machines_of(switch) == {"Ethernet8": "other"}

    asyncio.run(scenario())


def test_a_machine_that_was_moved_must_be_deleted_first() -> None:
    async def scenario() -> None:
        async with world(switches=True) as made:
            await made.add_machine("m1", BOTH)
            moved = seen({"leaf01": "Ethernet4", "leaf02": "Ethernet4"})
            with pytest.raises(FailedPreconditionError, match="Ethernet0 of switch leaf01"):
                await made.store.write(lambda tx: connect_machine(tx, "m1", moved))
            await made.store.write(lambda tx: disconnect_machine(tx, "m1"))
            await made.store.write(lambda tx: connect_machine(tx, "m1", moved))

    asyncio.run(scenario())


async def neighbours(made: World, machine_id: str) -> set[tuple[str, str, str]]:
    machine = await made.store.read(lambda reader: reader.get(MACHINES, machine_id))
    return {
        (end.hostname, end.name, end.identifier)
        for nic in machine.value.hardware.nics
        for end in nic.neighbors
    }


def test_a_replaced_switch_takes_the_place_of_the_old_one_by_its_twin() -> None:
    async def scenario() -> None:
        async with world(switches=True) as made:
            await made.add_machine("m1", BOTH)
            await made.add_machine("m2", {"leaf01": "Ethernet4", "leaf02": "Ethernet4"})
            await made.store.write(lambda tx: set_machine_vrf(tx, "m1", "vrf9"))
            await made.ok(
                "POST", "/v1/switch", {"id": "leaf01", "rack_id": "rack-1", "mode": "replace"}
            )
            names = ("swp1", "swp2", "swp3", "swp4")
            new = registration("leaf01", os={"vendor": "Cumulus"}, nics=nics_of("leafxx", names))
            missing = new | {"nics": nics_of("leafxx", names[:2])}
            assert "swp3" in await made.refused(422, "POST", "/v1/switch/register", missing)
            switch = await made.ok("POST", "/v1/switch/register", new)
            assert switch["mode"] == "operational"
            assert machines_of(switch) == {"swp1": "m1", "swp2": "m2"}
            assert ports(switch)["swp1"]["vrf"] == "vrf9"
            assert ports(switch)["swp2"]["vrf"] == ""
            assert await neighbours(made, "m1") == {
                ("leaf01", "swp1", "leafxx-swp1"),
                ("leaf02", "Ethernet0", "leaf02-Ethernet0"),
            }
            machine = await made.store.read(lambda reader: reader.get(MACHINES, "m2"))
            nics = machine.value.hardware.nics
            await made.store.write(lambda tx: connect_machine(tx, "m2", nics))
            assert await made.leaks() == []

    asyncio.run(scenario())


def test_a_switch_without_a_twin_is_not_replaced() -> None:
    async def scenario() -> None:
        async with world(switches=True) as made:
            replace = {"id": "leaf01", "rack_id": "rack-1", "mode": "replace"}
            await made.ok("POST", "/v1/switch", replace)
            assert "twin" in await made.refused(
                422, "POST", "/v1/switch/register", registration("leaf01")
            )
            await made.add_machine("m1", BOTH)
            await made.ok("POST", "/v1/switch", replace | {"id": "leaf02"})
            assert "there is none" in await made.refused(
                422, "POST", "/v1/switch/register", registration("leaf01")
            )
            assert (await made.ok("GET", "/v1/switch/leaf01"))["mode"] == "replace"
            unreplace = {"id": "leaf01", "rack_id": "rack-1", "mode": "whatever"}
            await made.ok("POST", "/v1/switch", unreplace)
            await made.ok("POST", "/v1/switch/register", registration("leaf01"))

    asyncio.run(scenario())


def test_what_is_connected_migrates_to_another_switch_of_the_rack() -> None:
    async def scenario() -> None:
        async with world(switches=True) as made:
            await made.add_machine("m1", BOTH)
            await made.store.write(lambda tx: set_machine_vrf(tx, "m1", "vrf9"))
            for name, rack in (("leaf03", "rack-1"), ("leaf04", "rack-2"), ("leaf05", "rack-1")):
                names = SONIC[1:] if name == "leaf05" else SONIC
                body = registration(name, rack_id=rack, nics=nics_of(name, names))
                await made.ok("POST", "/v1/switch/register", body, 201)
            for old, new, status in (
                ("leaf01", "leaf01", 400),
                ("leaf01", "leaf02", 422),
                ("leaf01", "leaf04", 422),
                ("leaf01", "leaf05", 422),
                ("leaf01", "leaf09", 404),
            ):
                body = {"old_switch_id": old, "new_switch_id": new}
                await made.refused(status, "POST", "/v1/switch/migrate", body)
            body = {"old_switch_id": "leaf01", "new_switch_id": "leaf03"}
            moved = await made.ok("POST", "/v1/switch/migrate", body)
            assert moved["id"] == "leaf03"
            assert machines_of(moved) == {"Ethernet0": "m1"}
            assert ports(moved)["Ethernet0"]["vrf"] == "vrf9"
            emptied = await made.ok("GET", "/v1/switch/leaf01")
            assert emptied["connections"] == []
            assert {each["vrf"] for each in emptied["nics"]} == {""}
            assert ("leaf03", "Ethernet0", "leaf03-Ethernet0") in await neighbours(made, "m1")
            machine = await made.store.read(lambda reader: reader.get(MACHINES, "m1"))
            nics = machine.value.hardware.nics
            await made.store.write(lambda tx: connect_machine(tx, "m1", nics))
            await made.ok("DELETE", "/v1/switch/leaf01")

    asyncio.run(scenario())


def test_a_report_is_remembered_without_a_change_of_the_switch() -> None:
    async def scenario() -> None:
        async with world(switches=True) as made:
            before = await made.store.read(lambda reader: reader.revision(SWITCHES))
            bgp = {
                "Neighbor": "spine01",
                "PeerGroup": "FABRIC",
                "VrfName": "default",
                "BgpState": "Established",
                "BgpTimerUpEstablished": 1763640000,
                "SentPrefixCounter": 9,
                "AcceptedPrefixCounter": 7,
            }
            body: dict[str, Any] = {
                "sync_duration": 1500000,
                "error": None,
                "port_states": {"Ethernet0": "UP", "eth0": "DOWN"},
                "bgp_port_states": {"Ethernet0": bgp, "eth0": bgp},
            }
            answer = await made.ok("POST", "/v1/switch/leaf01/notify", body)
            assert answer["last_sync"]["duration"] == 1500000
            assert "last_sync_error" not in answer
            switch = await made.ok("GET", "/v1/switch/leaf01")
            assert ports(switch)["Ethernet0"]["actual"] == "UP"
            assert ports(switch)["Ethernet0"]["bgp_port_state"] == bgp
            assert ports(switch)["Ethernet4"]["actual"] == "UNKNOWN"
            made.client.clock.advance(10)
            failed = body | {"error": "frr reload failed", "port_states": {}}
            answer = await made.ok("POST", "/v1/switch/leaf01/notify", failed)
            assert answer["last_sync_error"]["error"] == "frr reload failed"
            assert answer["last_sync"]["time"] < answer["last_sync_error"]["time"]
            switch = await made.ok("GET", "/v1/switch/leaf01")
            assert switch["last_sync_error"] == answer["last_sync_error"]
            assert ports(switch)["Ethernet0"]["actual"] == "UP"
            assert await made.store.read(lambda reader: reader.revision(SWITCHES)) == before
            status = await made.store.read(lambda reader: reader.get(SWITCH_STATUSES, "leaf01"))
            assert set(status.value.port_states) == {"Ethernet0"}
            assert set(status.value.bgp_port_states) == {"Ethernet0"}
            await made.refused(404, "POST", "/v1/switch/leaf09/notify", body)
            for wrong in ({"port_states": {"Ethernet0": "ON"}}, {"sync_duration": 2**63}):
                await made.refused(400, "POST", "/v1/switch/leaf01/notify", body | wrong)

    asyncio.run(scenario())


def test_a_port_that_is_turned_off_says_so_until_it_is_and_after() -> None:
    async def scenario() -> None:
        async with world(switches=True) as made:
            await made.add_machine("m1", BOTH)
            report = {"sync_duration": 1, "error": "", "port_states": {"Ethernet0": "UP"}}
            await made.ok("POST", "/v1/switch/leaf01/notify", report)
            body = {"nic": "ETHERNET0", "status": "DOWN"}
            switch = await made.ok("POST", "/v1/switch/leaf01/port", body)
            assert ports(switch)["Ethernet0"]["actual"] == "DOWN"
            assert ports(switch)["Ethernet0"]["admin_status"] == "DOWN"
            assert switch["connections"][0]["nic"]["actual"] == "UP"
            await made.ok("POST", "/v1/switch/leaf01/notify", report)
            switch = await made.ok("GET", "/v1/switch/leaf01")
            assert ports(switch)["Ethernet0"]["actual"] == "DOWN"
            down = report | {"port_states": {"Ethernet0": "DOWN"}}
            await made.ok("POST", "/v1/switch/leaf01/notify", down)
            await made.ok("POST", "/v1/switch/leaf01/notify", report)
            switch = await made.ok("GET", "/v1/switch/leaf01")
            assert ports(switch)["Ethernet0"]["actual"] == "UP"
            assert ports(switch)["Ethernet0"]["admin_status"] == "DOWN"
            await made.ok("POST", "/v1/switch/register", registration("leaf01"))
            switch = await made.ok("GET", "/v1/switch/leaf01")
            assert ports(switch)["Ethernet0"]["admin_status"] == "DOWN"
            unconnected = {"nic": "Ethernet4", "status": "DOWN"}
            await made.refused(400, "POST", "/v1/switch/leaf01/port", unconnected)
            unknown = {"nic": "Ethernet77", "status": "DOWN"}
            await made.refused(404, "POST", "/v1/switch/leaf01/port", unknown)
            await made.refused(
                400, "POST", "/v1/switch/leaf01/port", {"nic": "Ethernet0", "status": "UNKNOWN"}
            )

    asyncio.run(scenario())


def test_a_switch_with_machines_is_deleted_only_by_force() -> None:
    async def scenario() -> None:
        async with world(switches=True) as made:
            await made.add_machine("m1", BOTH)
            assert "m1" in await made.refused(422, "DELETE", "/v1/switch/leaf01")
            deleted = await made.ok("DELETE", "/v1/switch/leaf01?force=true")
            assert machines_of(deleted) == {"Ethernet0": "m1"}
            await made.refused(404, "GET", "/v1/switch/leaf01")
            await made.refused(404, "DELETE", "/v1/switch/leaf01?force=true")

    asyncio.run(scenario())


def test_switches_are_found_by_what_they_are() -> None:
    async def scenario() -> None:
        async with world(switches=True) as made:
            queries: list[tuple[dict[str, Any], int]] = [
                ({}, 2),
                ({"id": "leaf01"}, 1),
                ({"id": "leaf01", "rackid": "rack-2"}, 0),
                ({"name": "leaf02"}, 1),
                ({"rackid": "rack-1"}, 2),
                ({"partitionid": "fra"}, 0),
                ({"osvendor": "SONiC"}, 2),
                ({"osversion": "4.3"}, 0),
                ({"roomid": "north"}, 0),
            ]
            for query, count in queries:
                assert len(await made.ok("POST", "/v1/switch/find", query)) == count, query

    asyncio.run(scenario())


async def filters(made: World, switch: str = "leaf01") -> dict[str, Any]:
    answered = await made.ok("GET", f"/v1/switch/{switch}")
    return {each["name"]: each.get("filter") for each in answered["nics"]}


def test_a_machine_may_announce_its_network_its_projects_addresses_and_nothing_else() -> None:
    async def scenario() -> None:
        async with world(switches=True) as made:
            child = await made.child()
            await made.add_machine("m1", BOTH)
            assert await filters(made) == dict.fromkeys(SONIC)
            await made.allocate("m1", [child["id"]])
            covering = {"10.0.0.0/22", "10.240.0.0/12", "2001:db8::/64"}
            allowed = await filters(made)
            assert set(allowed["Ethernet0"]["cidrs"]) == covering
            assert allowed["Ethernet4"] is None
            for project, address in (("red", "198.51.100.4"), ("red", "198.51.100.5")):
                body = {"projectid": project, "networkid": "internet", "type": "static"}
                await made.ok("POST", f"/v1/ip/allocate/{address}", body, 201)
            body = {"projectid": "blue", "networkid": "internet", "type": "static"}
            await made.ok("POST", "/v1/ip/allocate/198.51.100.99", body, 201)
            underlay = {"projectid": "red", "networkid": "underlay", "type": "static"}
            await made.ok("POST", "/v1/ip/allocate", underlay, 201)
            allowed = await filters(made, "leaf02")
            assert set(allowed["Ethernet0"]["cidrs"]) == covering | {"198.51.100.4/31"}

    asyncio.run(scenario())


def test_a_machine_keeps_its_filter_when_the_rack_is_renamed() -> None:
    async def scenario() -> None:
        async with world(switches=True) as made:
            child = await made.child()
            await made.add_machine("m1", BOTH)
            await made.allocate("m1", [child["id"]])
            before = await filters(made)
            assert before["Ethernet0"]
            for name, rack in (("leaf01", "rack-1"), ("leaf02", "rack-one")):
                await made.ok("POST", "/v1/switch", {"id": name, "rack_id": "rack-one"})
                assert await filters(made) == before
                machine = await made.store.read(lambda reader: reader.get(MACHINES, "m1"))
                assert machine.value.rack_id == rack
                is_renamed = "machine.metal-stack.io/rack=rack-one" in machine.value.tags
                assert is_renamed == (rack == "rack-one")

    asyncio.run(scenario())


def test_a_port_is_known_by_its_mac_where_it_has_no_identifier() -> None:
    async def scenario() -> None:
        async with world() as made:
            nics = {}
            for name in BOTH:
                nics[name] = [each | {"identifier": ""} for each in nics_of(name, SONIC)]
                body = registration(name, nics=nics[name])
                await made.ok("POST", "/v1/switch/register", body, 201)
            machine = tuple(
                Nic(
                    mac=f"aa:00:00:00:00:0{index}",
                    neighbors=(Nic(mac=nics[name][1]["mac"].upper(), hostname=name),),
                )
                for index, name in enumerate(BOTH)
            )
            await made.store.write(lambda tx: connect_machine(tx, "m1", machine))
            switch = await made.ok("GET", "/v1/switch/leaf02")
            assert machines_of(switch) == {"Ethernet4": "m1"}

    asyncio.run(scenario())


def test_a_switch_is_known_by_its_name_where_its_id_is_another() -> None:
    async def scenario() -> None:
        async with world() as made:
            for name in BOTH:
                body = registration(name, id=f"muc-{name}", name=name)
                await made.ok("POST", "/v1/switch/register", body, 201)
            await made.store.write(lambda tx: connect_machine(tx, "m1", seen(BOTH)))
            switch = await made.ok("GET", "/v1/switch/muc-leaf01")
            assert machines_of(switch) == {"Ethernet0": "m1"}

    asyncio.run(scenario())


def test_a_firewall_announces_underlay_and_vnis_once_its_port_is_ready() -> None:
    async def scenario() -> None:
        async with world(switches=True) as made:
            child = await made.child()
            await made.add_machine("fw", BOTH)
            used = await made.allocate("fw", [child["id"], "internet"], role="firewall")
            assert (await filters(made))["Ethernet0"] is None
            await made.store.write(lambda tx: set_machine_vrf(tx, "fw", "default"))
            allowed = (await filters(made))["Ethernet0"]
            assert allowed["vnis"] == [str(child["vrf"]), "104009"]
            assert allowed["cidrs"] == [f"{used[-1].ips[0]}/32"]

    asyncio.run(scenario())


class Counting:
    """A reader that counts what is read through it."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.calls = 0
        self.entities = 0

    async def _counted(self, name: str, args: Sequence[Any]) -> Any:
        found = await getattr(self._reader, name)(*args)
        self.calls += 1
        self.entities += len(found) if isinstance(found, list) else 1
        return found

    def __getattr__(self, name: str) -> Any:
        return lambda *args: self._counted(name, args)


def test_the_cost_of_a_switch_does_not_grow_with_what_else_there_is() -> None:
    async def cost(made: World) -> tuple[int, int]:
        async def view(reader: Reader) -> tuple[int, int]:
            counting = Counting(reader)
            answers = SwitchAnswers(cast("Reader", counting))
            answer = await answers.response(await reader.get(SWITCHES, "leaf01"))
            assert answer.nics[0].filter is not None
            return counting.calls, counting.entities

        return await made.store.read(view)

    async def scenario() -> None:
        async with world(switches=True) as made:
            child = await made.child()
            await made.add_machine("m1", BOTH)
            await made.allocate("m1", [child["id"]])
            before = await cost(made)
            for index in range(20):
                await made.child(projectid="blue")
                body = {"projectid": "blue", "networkid": "internet", "type": "static"}
                await made.ok("POST", "/v1/ip/allocate", body, 201)
                await made.add_machine(f"other{index}", {})
                await made.allocate(f"other{index}", [child["id"]], project="red")
            grown = await cost(made)
            # The machines of the same project have addresses in its network, which are read.
            assert grown[0] == before[0]
            assert grown[1] == before[1] + 40

    asyncio.run(scenario())
