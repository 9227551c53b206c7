# SPDX-License-Identifier: Apache-2.0
"""Partitions and their capacity, as clients meet them."""

from typing import Any

import pytest

from metropolis.metal.seed import LAB, SHOP
from metropolis.metal.settings import Settings
from unit.metal.http.client import Client
from unit.metal.inventory.site import MACHINE, allocate, run
from unit.metal.inventory.web_server import web_server

PARTITION: dict[str, Any] = {
    "id": "fra-equ01",
    "name": "Frankfurt",
    "description": "",
    "bootconfig": {
        "imageurl": "https://x.example/initrd",
        "kernelurl": "https://x.example/kernel",
        "commandline": "console=ttyS0",
    },
    "mgmtserviceaddress": "10.0.0.1:3333",
    "labels": {"region": "fra"},
    "dns_servers": [{"ip": "10.0.0.2"}],
    "ntp_servers": [{"address": "ntp.example"}],
}


def test_a_partition_is_created_changed_and_deleted() -> None:
    async def scenario(client: Client) -> None:
        created = await client.put("/v1/partition", PARTITION)
        assert created.status == 201
        assert {key: created.json[key] for key in PARTITION} == PARTITION
        changed = await client.post(
            "/v1/partition",
            {
                "id": "fra-equ01",
                "bootconfig": {"commandline": "quiet"},
                "dns_servers": [],
                "ntp_servers": None,
            },
        )
        assert changed.status == 200
        assert changed.json["bootconfig"] == {**PARTITION["bootconfig"], "commandline": "quiet"}
        assert changed.json["dns_servers"] == []
        assert changed.json["ntp_servers"] == PARTITION["ntp_servers"]
        assert changed.json["labels"] == PARTITION["labels"]
        assert (await client.get("/v1/partition/fra-equ01")).json == changed.json
        assert (await client.get("/v1/partition")).json == [changed.json]
        assert (await client.delete("/v1/partition/fra-equ01")).status == 200
        assert (await client.get("/v1/partition/fra-equ01")).status == 404

    run(scenario, seeded=False)


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"id": "mini-lab"}, 409, "mini-lab"),
        ({"id": "mini lab"}, 400, "id"),
        ({"bootconfig": None}, 400, "bootconfig"),
        ({"bootconfig": {"imageurl": "file:///etc/passwd"}}, 400, "bootconfig.imageurl"),
        ({"bootconfig": {"kernelurl": "kernel"}}, 400, "bootconfig.kernelurl"),
        ({"mgmtserviceaddress": "10.0.0.1"}, 400, "mgmtserviceaddress"),
        ({"dns_servers": [{"ip": "10.0.0"}]}, 400, "dns_servers"),
        ({"dns_servers": [{"ip": "10.0.0.1"}] * 4}, 400, "dns_servers"),
        ({"ntp_servers": [{"address": "10.0.0.1"}] * 6}, 400, "ntp_servers"),
        ({"labels": ["a"]}, 400, "labels"),
    ],
)
def test_a_partition_that_cannot_be_is_refused(change: Any, status: int, message: str) -> None:
    async def scenario(client: Client) -> None:
        answer = await client.put("/v1/partition", {**PARTITION, **change})
        assert answer.status == status
        assert message in answer.message
        assert len((await client.get("/v1/partition")).json) == 1

    run(scenario)


def test_a_boot_file_that_is_not_there_is_refused() -> None:
    async def scenario(client: Client) -> None:
        with web_server({"/initrd": (200, "", b"")}) as served:
            boot = {"imageurl": f"{served.url}/initrd", "kernelurl": f"{served.url}/kernel"}
            answer = await client.put("/v1/partition", {**PARTITION, "bootconfig": boot})
            assert answer.status == 400
            assert answer.message.startswith("bootconfig.kernelurl: ")
            half = {"imageurl": f"{served.url}/initrd"}
            created = await client.put("/v1/partition", {**PARTITION, "bootconfig": half})
            assert created.status == 201
            served.asked.clear()
            unchanged = {"id": "fra-equ01", "bootconfig": {**half, "commandline": "quiet"}}
            assert (await client.post("/v1/partition", unchanged)).status == 200
            assert served.asked == []

    run(scenario, seeded=False, settings=Settings())


def test_a_partition_with_anything_in_it_cannot_be_deleted() -> None:
    async def scenario(client: Client) -> None:
        answer = await client.delete("/v1/partition/mini-lab")
        assert answer.status == 422
        for present in ("5 machines", "4 switches", "3 networks", "1 size reservations"):
            assert present in answer.message
        assert (await client.get("/v1/partition/mini-lab")).status == 200

    run(scenario)


async def capacity(client: Client, **wanted: Any) -> Any:
    answer = await client.post("/v1/partition/capacity", wanted)
    assert answer.status == 200, answer.body
    ((row,),) = (each["servers"] for each in answer.json)
    return row


def test_capacity_counts_what_machines_do_and_what_is_reserved() -> None:
    async def scenario(client: Client) -> None:
        machine = await allocate(client, project=SHOP)
        other = (await client.get("/v1/machine")).json
        dead = next(each["id"] for each in other if each["id"] != machine)
        locked = {"value": "LOCKED", "description": "broken", "metal_hammer_version": ""}
        await client.post(f"/v1/machine/{dead}/state", locked)
        row = await capacity(client, id="mini-lab", projectid=LAB)
        assert row == {
            "size": "v1-small-x86",
            "total": 5,
            "allocated": 1,
            "allocatable": 3,
            "free": 3,
            "unavailable": 1,
            "phoned_home": 0,
            "waiting": 5,
            "other": 0,
            "othermachines": [],
            "faulty": row["faulty"],
            "faultymachines": row["faultymachines"],
            "reservations": 1,
            "usedreservations": 1,
            "remainingreservations": 0,
        }

    run(scenario)


def test_what_is_reserved_for_a_project_is_free_for_nobody_else() -> None:
    async def scenario(client: Client) -> None:
        assert (await capacity(client))["free"] == 4
        assert (await capacity(client, id="", projectid=LAB))["free"] == 4
        assert (await capacity(client, projectid=SHOP))["free"] == 5

    run(scenario)


def test_a_machine_whose_bmc_is_silent_is_faulty() -> None:
    async def scenario(client: Client) -> None:
        report = {
            "BMCIp": "10.255.9.9", "BMCVersion": "1", "BIOSVersion": "1", "FRU": {},
            "PowerState": "ON", "IndicatorLEDState": "LED-OFF", "PowerSupplies": [],
            "PowerMetric": {"averageconsumedwatts": 1, "intervalinmin": 1, "maxconsumedwatts": 1,
                            "minconsumedwatts": 1},
        }  # fmt: skip
        machines = [each["id"] for each in (await client.get("/v1/machine")).json]
        reports = {
            each: {**report, "BMCIp": f"10.255.9.{number}"} for number, each in enumerate(machines)
        }
        reports.pop(MACHINE)
        client.clock.advance(3600)
        answer = await client.post(
            "/v1/machine/ipmi", {"partitionid": "mini-lab", "reports": reports}
        )
        assert answer.status == 200
        assert (await capacity(client))["faultymachines"] == [MACHINE]

    run(scenario)


def test_capacity_is_asked_for_by_partition_and_size() -> None:
    async def scenario(client: Client) -> None:
        await client.put("/v1/partition", PARTITION)
        answer = await client.post("/v1/partition/capacity", {})
        assert [each["id"] for each in answer.json] == ["fra-equ01", "mini-lab"]
        (other,) = (
            await client.post("/v1/partition/capacity", {"sizeid": "c9", "id": "mini-lab"})
        ).json
        assert other["servers"] == []
        unknown = await client.post("/v1/partition/capacity", {"id": "nowhere"})
        assert unknown.status == 400
        assert "nowhere" in unknown.message

    run(scenario)
