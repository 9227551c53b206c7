# SPDX-License-Identifier: Apache-2.0
"""Allocation over the interface: who gets which machine, and that a refusal takes nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from metropolis.metal.masterdata.model import Quota, QuotaSet
from metropolis.metal.masterdata.projects import get_project, update_project
from metropolis.metal.model.event import Event
from metropolis.metal.model.remembered_allocation import REMEMBERED_ALLOCATIONS
from metropolis.metal.model.reservation import RESERVATIONS, Reservation
from metropolis.metal.services.liveliness import judge_liveliness
from metropolis.metal.store import Reader, Transaction
from unit.metal.http.client import Answer
from unit.metal.machines.fleet import FIREWALL, Fleet, fleet, uuid_of


def run(scenario: Callable[[Fleet], Awaitable[None]], *, racks: int = 1) -> None:
    async def main() -> None:
        async with fleet(racks=racks) as site:
            await scenario(site)

    asyncio.run(main())


async def outbox(site: Fleet, topic: str) -> list[Any]:
    async def view(reader: Reader) -> list[Any]:
        rows = await reader.fetch(
            "SELECT payload FROM outbox WHERE topic = $1 ORDER BY sequence", topic
        )
        return [msgspec.json.decode(payload) for (payload,) in rows]

    return await site.world.store.read(view)


async def refused(site: Fleet, status: int = 422, path: str = "machine", **more: Any) -> str:
    """Ask for a machine in vain, and see that nothing is different afterwards."""
    before = await site.world.store.read(lambda reader: reader.revision())
    body = site.request(**more)
    message = await site.world.refused(status, "POST", f"/v1/{path}/allocate", body)
    assert await site.world.store.read(lambda reader: reader.revision()) == before
    assert await site.world.leaks() == []
    return message


def test_whoever_waits_is_told_by_a_message_of_the_same_transaction() -> None:
    async def scenario(site: Fleet) -> None:
        machine_id = await site.boot(0)
        assert await outbox(site, "allocation") == []
        await site.allocate()
        assert await outbox(site, "allocation") == [{"old": machine_id}]

    run(scenario)


def test_the_last_machine_goes_to_one_of_two_who_ask_at_the_same_time() -> None:
    async def scenario(site: Fleet) -> None:
        await site.boot(0)
        client, body = site.world.client, site.request()
        answers = await asyncio.gather(
            *(client.post("/v1/machine/allocate", body) for _ in range(4))
        )
        assert sorted(each.status for each in answers) == [200, 422, 422, 422]
        assert await site.world.leaks() == []

    run(scenario)


def test_only_what_waits_is_alive_and_is_not_set_aside_is_given_away() -> None:
    async def scenario(site: Fleet) -> None:
        machine_id = await site.boot(0)
        await site.leave(machine_id)
        assert "no machine available" in await refused(site)
        await site.wait(machine_id)
        state = {"value": "RESERVED", "description": "for a test", "metal_hammer_version": ""}
        await site.world.ok("POST", f"/v1/machine/{machine_id}/state", state)
        assert "no machine available" in await refused(site)
        state = {"value": "", "description": "", "metal_hammer_version": ""}
        await site.world.ok("POST", f"/v1/machine/{machine_id}/state", state)
        await site.silence(301)
        assert "no machine available" in await refused(site)
        await site.send(machine_id, Event.ALIVE)
        await site.allocate()

    run(scenario)


def test_a_named_machine_may_be_reserved_and_need_not_wait_but_a_lock_holds() -> None:
    async def scenario(site: Fleet) -> None:
        machine_id = await site.boot(0)
        await site.leave(machine_id)
        path = f"/v1/machine/{machine_id}/state"
        locked = {"value": "LOCKED", "description": "broken fan", "metal_hammer_version": ""}
        await site.world.ok("POST", path, locked)
        assert "broken fan" in await refused(site, uuid=machine_id)
        await site.world.ok("POST", path, locked | {"value": "TAINTED"})
        assert "sizeid" in await refused(site, uuid=machine_id, sizeid="large")
        answer = await site.allocate(uuid=machine_id)
        assert answer["id"] == machine_id
        assert answer["state"]["value"] == "RESERVED"
        assert "already allocated" in await refused(site, uuid=machine_id)
        assert "no machine" in await refused(site, 404, uuid=uuid_of(77))

    run(scenario)


@pytest.mark.parametrize(
    ("status", "more"),
    [
        (404, {"sizeid": "unknown"}),
        (404, {"partitionid": "nowhere"}),
        (404, {"imageid": "ubuntu-18.04"}),
        (422, {"imageid": FIREWALL}),
        (404, {"projectid": "nobody"}),
        (404, {"filesystemlayoutid": "none"}),
        (404, {"networks": [{"networkid": "none"}]}),
        (404, {"ips": ["10.0.0.9"]}),
        (422, {"networks": [{"networkid": "super"}]}),
        (400, {"hostname": "no good"}),
        (400, {"surprise": True}),
    ],
)
def test_a_refused_allocation_takes_nothing(status: int, more: dict[str, Any]) -> None:
    async def scenario(site: Fleet) -> None:
        machine_id = await site.boot(0)
        await refused(site, status, **more)
        assert (await site.machine(machine_id)).candidate
        await site.allocate()

    run(scenario)


def test_what_was_acquired_before_the_refusal_is_not_lost() -> None:
    async def scenario(site: Fleet) -> None:
        await site.boot(0)
        wide = await site.world.ok("POST", "/v1/ip/allocate", {
            "networkid": "internet", "projectid": "red", "type": "static",
        }, 201)  # fmt: skip
        networks = [{"networkid": site.network_id}]
        # The address lies in a network that the request does not name: found out late.
        await refused(site, networks=networks, ips=[wide["ipaddress"]])
        await site.allocate()

    run(scenario)


def test_all_machines_of_a_project_count_for_its_quota() -> None:
    async def scenario(site: Fleet) -> None:
        for number in range(3):
            await site.boot(number)

        async def limit(tx: Transaction) -> None:
            project = await get_project(tx, "red")
            quotas = QuotaSet(machine=Quota(max=2))
            await update_project(tx, msgspec.structs.replace(project.value, quotas=quotas))

        await site.write(limit)
        await site.allocate()
        await site.allocate()
        assert "quota is 2" in await refused(site)

    run(scenario, racks=2)


def test_machines_that_are_reserved_for_others_are_not_given_away() -> None:
    async def scenario(site: Fleet) -> None:
        await site.boot(0)
        await site.boot(1)

        async def reserve(tx: Transaction) -> None:
            blue = Reservation(
                size_id="medium", project_id="blue", partition_ids=("muc",), amount=1
            )
            await tx.insert(RESERVATIONS, "for-blue", blue)

        await site.write(reserve)
        await site.allocate()
        assert "reserved for others" in await refused(site)
        shared = await site.world.child(projectid="blue", name="blue")
        mine = {"projectid": "blue", "networks": [{"networkid": shared["id"]}]}
        await site.allocate(**mine)

    run(scenario)


def test_machines_of_a_project_come_from_different_racks() -> None:
    async def scenario(site: Fleet) -> None:
        for number in range(6):
            await site.boot(number)
        racks = [(await site.allocate())["rackid"] for _ in range(3)]
        assert sorted(racks) == ["rack-1", "rack-2", "rack-3"]
        again = [(await site.allocate())["rackid"] for _ in range(3)]
        assert sorted(again) == ["rack-1", "rack-2", "rack-3"]

    run(scenario, racks=3)


def test_machines_with_the_same_placement_tag_are_kept_apart() -> None:
    async def scenario(site: Fleet) -> None:
        for number in range(4):
            await site.boot(number)
        first = await site.allocate(tags=["cluster=a"], placement_tags=["cluster=a"])
        other = "rack-1" if first["rackid"] == "rack-2" else "rack-2"
        # Without the tag the other rack has the project's fewest machines as well.
        second = await site.allocate(tags=["cluster=b"], placement_tags=["cluster=b"])
        assert second["rackid"] == other
        third = await site.allocate(tags=["cluster=a"], placement_tags=["cluster=a"])
        assert third["rackid"] == other

    run(scenario, racks=2)


def test_asking_again_with_the_same_key_gives_the_same_machine() -> None:
    async def scenario(site: Fleet) -> None:
        await site.boot(0)
        await site.boot(1)
        path, body = "/v1/machine/allocate?idempotency-key=once", site.request()
        first = await site.world.ok("POST", path, body)
        again = await site.world.ok("POST", path, body)
        assert again["id"] == first["id"]
        assert again["allocation"]["allocationuuid"] == first["allocation"]["allocationuuid"]
        await site.free(first["id"])
        count = site.world.store.read(lambda reader: reader.count(REMEMBERED_ALLOCATIONS))
        assert await count == 0, "memories do not pile up"
        anew = await site.world.ok("POST", path, body)
        assert anew["allocation"]["allocationuuid"] != first["allocation"]["allocationuuid"]

    run(scenario)


def test_the_key_may_be_a_header_too() -> None:
    async def scenario(site: Fleet) -> None:
        await site.boot(0)
        await site.boot(1)
        client, path, body = site.world.client, "/v1/machine/allocate", site.request()

        async def ask(query: str = "", header: str = "") -> Answer:
            headers = client.signed("POST") | ({"idempotency-key": header} if header else {})
            return await client.post(path + query, body, headers=headers)

        first = (await ask(header="once")).json
        assert (await ask(header="once")).json == first
        assert (await ask(query="?idempotency-key=once")).json == first
        differ = await ask(query="?idempotency-key=once", header="twice")
        assert (differ.status, "idempotency-key" in differ.json["message"]) == (400, True)
        assert (await ask(header="twice")).json["id"] != first["id"]

    run(scenario)


def test_a_firewall_is_a_machine_with_rules_and_the_underlay() -> None:
    async def scenario(site: Fleet) -> None:
        machine_id = await site.boot(0)
        rules = {"egress": [{"ports": [443], "to": ["0.0.0.0/0"], "protocol": "TCP"}]}
        body = site.request(
            imageid="firewall-3.0",
            networks=[{"networkid": site.network_id}, {"networkid": "internet"}],
            firewall_rules=rules,
        )
        answer = await site.world.ok("POST", "/v1/firewall/allocate", body)
        assert answer["allocation"]["role"] == "firewall"
        assert answer["allocation"]["firewall_rules"]["egress"][0]["protocol"] == "tcp"
        assert "underlay" in {each["networkid"] for each in answer["allocation"]["networks"]}
        assert [each["id"] for each in await site.world.ok("GET", "/v1/firewall")] == [machine_id]
        await site.world.ok("GET", f"/v1/firewall/{machine_id}")
        await site.install(machine_id)
        ports = await site.world.ok("GET", "/v1/switch/leaf01")
        assert [nic["vrf"] for nic in ports["nics"] if nic.get("vrf")] == ["default"]
        await site.free(machine_id)
        assert await site.world.ok("GET", "/v1/firewall") == []
        assert await site.world.leaks() == []

    run(scenario)


def test_a_machine_is_no_firewall_and_has_no_rules() -> None:
    async def scenario(site: Fleet) -> None:
        machine_id = await site.boot(0)
        assert "firewall_rules" in await refused(site, 400, firewall_rules={"egress": []})
        await site.allocate()
        await site.world.refused(422, "GET", f"/v1/firewall/{machine_id}")

    run(scenario)


def test_servers_of_names_and_time_are_the_partitions_unless_some_are_named() -> None:
    async def scenario(site: Fleet) -> None:
        await site.boot(0)
        await site.boot(1)
        servers = {
            "id": "muc",
            "dns_servers": [{"ip": "10.0.0.53"}],
            "ntp_servers": [{"address": "time.example.org"}],
        }
        await site.world.ok("POST", "/v1/partition", servers)
        answer = await site.allocate()
        assert answer["allocation"]["dns_servers"] == servers["dns_servers"]
        assert answer["allocation"]["ntp_servers"] == servers["ntp_servers"]
        mine = [{"ip": "9.9.9.9"}]
        answer = await site.allocate(dns_servers=mine)
        assert answer["allocation"]["dns_servers"] == mine
        assert answer["allocation"]["ntp_servers"] == servers["ntp_servers"]

    run(scenario)


def test_a_rack_whose_machines_are_all_dead_is_passed_over() -> None:
    async def scenario(site: Fleet) -> None:
        for number in range(4):
            await site.boot(number)
        site.clock.advance(301)
        await site.send(uuid_of(3), Event.ALIVE)
        await judge_liveliness(site.world.store, now=site.clock.wall())
        assert (await site.allocate())["id"] == uuid_of(3)
        assert "no machine available" in await refused(site)

    run(scenario, racks=2)


def test_a_layout_must_fit_the_disks_and_a_constraint_the_image() -> None:
    async def scenario(site: Fleet) -> None:
        await site.boot(0)
        other = {"id": "nvme", "constraints": {"sizes": [], "images": {}}, "disks": [
            {"device": "/dev/nvme0n1", "wipeonreinstall": True}]}  # fmt: skip
        await site.world.ok("PUT", "/v1/filesystemlayout", other, 201)
        assert "/dev/nvme0n1" in await refused(site, filesystemlayoutid="nvme")
        late = {"id": "medium", "constraints": {"images": {"ubuntu": ">= 24.04.20270101"}}}
        await site.world.ok("PUT", "/v1/size-image-constraint", late, 201)
        assert "ubuntu" in await refused(site)
        await site.world.ok("DELETE", "/v1/size-image-constraint/medium")
        await site.allocate()

    run(scenario)
