# SPDX-License-Identifier: Apache-2.0
"""Sizes, reservations and size-image constraints, as clients meet them."""

import asyncio
from typing import Any

import pytest

from metropolis.metal.access.role import Role
from metropolis.metal.seed import LAB, SHOP
from unit.metal.http.client import Client
from unit.metal.inventory.site import MACHINE, allocate, run

SIZE: dict[str, Any] = {
    "id": "c9",
    "name": "nine",
    "description": "nine cores",
    "labels": {"a": "b"},
    "constraints": [
        {"type": "cores", "min": 9, "max": 9},
        {"type": "memory", "min": 1, "max": 2},
        {"type": "storage", "min": 3, "max": 4, "identifier": "/dev/sd*"},
    ],
}
RESERVATION: dict[str, Any] = {
    "id": "r1",
    "sizeid": "v1-small-x86",
    "projectid": LAB,
    "partitionids": ["mini-lab"],
    "amount": 2,
}


def test_a_size_is_created_read_changed_and_deleted() -> None:
    async def scenario(client: Client) -> None:
        created = await client.put("/v1/size", SIZE)
        assert created.status == 201
        shown = created.json
        assert shown.pop("created") == shown.pop("changed") == "2026-11-20T12:00:00Z"
        for constraint in SIZE["constraints"]:
            constraint.setdefault("identifier", "")
        assert shown == SIZE
        assert (await client.get("/v1/size/c9")).json["name"] == "nine"
        changed = await client.post("/v1/size", {"id": "c9", "name": "neun", "labels": {}})
        assert (changed.status, changed.json["name"], changed.json["labels"]) == (200, "neun", {})
        assert changed.json["constraints"] == SIZE["constraints"]
        assert [each["id"] for each in (await client.get("/v1/size")).json] == ["c9"]
        assert (await client.delete("/v1/size/c9")).json["id"] == "c9"
        assert (await client.get("/v1/size")).json == []

    run(scenario, seeded=False)


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"id": "v1-small-x86"}, 409, "v1-small-x86"),
        ({"id": "unknown"}, 400, "unknown"),
        ({"id": ""}, 400, "id"),
        ({"id": "a/b"}, 400, "id"),
        ({"constraints": [{"type": "cores", "min": 2, "max": 1}]}, 400, "constraints[0]"),
        ({"constraints": [{"type": "cores", "min": -1}]}, 400, "constraints[0].min"),
        ({"constraints": [{"type": "cpus"}]}, 400, "constraints[0].type"),
        ({"constraints": [{"type": "cores", "mini": 1}]}, 400, "mini"),
        ({"labels": {"a": 1}}, 400, "labels"),
        ({"colour": "red"}, 400, "colour"),
    ],
)
def test_a_size_that_cannot_be_is_refused_naming_what_is_wrong(
    change: Any, status: int, message: str
) -> None:
    async def scenario(client: Client) -> None:
        before = (await client.get("/v1/size")).json
        answer = await client.put("/v1/size", {**SIZE, **change})
        assert answer.status == status
        assert message in answer.message
        assert (await client.get("/v1/size")).json == before

    run(scenario)


def test_a_size_that_overlaps_with_another_is_refused() -> None:
    async def scenario(client: Client) -> None:
        small = (await client.get("/v1/size/v1-small-x86")).json
        other = {"id": "v2", "constraints": small["constraints"]}
        answer = await client.put("/v1/size", other)
        assert answer.status == 400
        assert "'v2' overlaps with size 'v1-small-x86'" in answer.message
        assert (await client.put("/v1/size", SIZE)).status == 201
        moved = await client.post("/v1/size", {**other, "id": "c9"})
        assert moved.status == 400

    run(scenario)


def test_a_size_with_reservations_cannot_be_deleted() -> None:
    async def scenario(client: Client) -> None:
        answer = await client.delete("/v1/size/v1-small-x86")
        assert answer.status == 422
        assert "shop-sales-day" in answer.message
        await client.delete("/v1/size/reservations/shop-sales-day")
        assert (await client.delete("/v1/size/v1-small-x86")).status == 200

    run(scenario)


def test_what_is_suggested_for_a_machine_is_the_size_that_it_has() -> None:
    async def scenario(client: Client) -> None:
        suggested = (await client.post("/v1/size/suggest", {"machineID": MACHINE})).json
        assert suggested == [
            {"type": "cores", "min": 4, "max": 4, "identifier": "Xeon E-2314"},
            {"type": "memory", "min": 2**33, "max": 2**33, "identifier": ""},
            {
                "type": "storage",
                "min": 240 * 2**30,
                "max": 240 * 2**30,
                "identifier": "/dev/sda",
            },
        ]
        assert (await client.post("/v1/size/suggest", {"machineID": "nobody"})).status == 404

    run(scenario)


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("PUT", "/v1/size", Role.EDIT),
        ("DELETE", "/v1/size/v1-small-x86", Role.EDIT),
        ("PUT", "/v1/size/reservations", Role.VIEW),
        ("DELETE", "/v1/size/reservations/shop-sales-day", Role.VIEW),
        ("PUT", "/v1/size-image-constraint", Role.EDIT),
    ],
)
def test_who_may_not_is_refused(method: str, path: str, role: Role) -> None:
    async def scenario(client: Client) -> None:
        assert (await client.call(method, path, role=role)).status == 403

    run(scenario)


def test_a_reservation_is_created_found_changed_and_deleted() -> None:
    async def scenario(client: Client) -> None:
        created = await client.put("/v1/size/reservations", RESERVATION)
        assert created.status == 201
        assert created.json["amount"] == 2
        assert created.json["labels"] == {}
        found = await client.post("/v1/size/reservations/find", {"projectid": LAB})
        assert [each["id"] for each in found.json] == ["r1"]
        for nothing in ({"id": "r2"}, {"sizeid": "c1-large-x86"}, {"partitionid": "elsewhere"}):
            assert (await client.post("/v1/size/reservations/find", nothing)).json == []
        labelled = await client.post(
            "/v1/size/reservations",
            {"id": "r1", "amount": 3, "partitionids": ["mini-lab"], "labels": {"a": "b"}},
        )
        assert (labelled.json["amount"], labelled.json["labels"]) == (3, {"a": "b"})
        cleared = await client.post("/v1/size/reservations", {"id": "r1", "labels": {}})
        assert (cleared.json["amount"], cleared.json["labels"]) == (3, {})
        assert (await client.delete("/v1/size/reservations/r1")).status == 200
        assert (await client.get("/v1/size/reservations/r1")).status == 404

    run(scenario)


def test_a_reservation_without_id_gets_one() -> None:
    async def scenario(client: Client) -> None:
        stated = {key: value for key, value in RESERVATION.items() if key != "id"}
        first = (await client.put("/v1/size/reservations", stated)).json["id"]
        second = (await client.put("/v1/size/reservations", {**stated, "id": ""})).json["id"]
        assert first != second
        assert (await client.get(f"/v1/size/reservations/{first}")).status == 200

    run(scenario)


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"id": "shop-sales-day"}, 409, "shop-sales-day"),
        ({"amount": 0}, 400, "amount"),
        ({"amount": 2**40}, 400, "amount"),
        ({"sizeid": "huge"}, 400, "sizeid: there is no size 'huge'"),
        ({"projectid": "nobody"}, 400, "projectid: there is no project 'nobody'"),
        ({"partitionids": ["elsewhere"]}, 400, "partitionids: there is no partition"),
        ({"partitionids": []}, 400, "partitionids"),
        ({"partitionids": ["mini-lab", "mini-lab"]}, 400, "partitionids"),
    ],
)
def test_a_reservation_that_cannot_be_is_refused(change: Any, status: int, message: str) -> None:
    async def scenario(client: Client) -> None:
        answer = await client.put("/v1/size/reservations", {**RESERVATION, **change})
        assert answer.status == status
        assert message in answer.message
        assert len((await client.get("/v1/size/reservations")).json) == 1

    run(scenario)


def test_the_use_of_reservations_is_counted_by_partition() -> None:
    async def scenario(client: Client) -> None:
        await allocate(client, project=SHOP)
        await allocate(client, project=SHOP)
        (row,) = (await client.post("/v1/size/reservations/usage", {"projectid": SHOP})).json
        assert row == {
            "id": "shop-sales-day",
            "name": "",
            "description": "For the busiest day of the year",
            "sizeid": "v1-small-x86",
            "projectid": SHOP,
            "partitionid": "mini-lab",
            "amount": 1,
            "usedamount": 1,
            "projectallocations": 2,
            "labels": {},
        }

    run(scenario)


def test_an_image_that_a_size_does_not_allow_is_refused_when_tried() -> None:
    async def scenario(client: Client) -> None:
        path = "/v1/size-image-constraint"
        good = {"size": "g1-medium-x86", "image": "ubuntu-24.04.20261110"}
        tried = await client.post(f"{path}/try", good)
        assert (tried.status, tried.json) == (200, {})
        old = await client.post(f"{path}/try", {**good, "image": "ubuntu-24.04.20260915"})
        assert old.status == 422
        assert "does not satisfy" in old.message
        other = await client.post(f"{path}/try", {**good, "size": "v1-small-x86"})
        assert other.status == 200
        assert (await client.post(f"{path}/try", {**good, "image": "x-1"})).status == 404
        assert (await client.post(f"{path}/try", {**good, "size": "huge"})).status == 404

    run(scenario)


def test_a_size_image_constraint_is_created_changed_and_deleted() -> None:
    async def scenario(client: Client) -> None:
        path = "/v1/size-image-constraint"
        stated = {"id": "c9", "constraints": {"images": {"ubuntu": ">= 24.04.1"}}}
        created = await client.put(path, stated)
        assert created.status == 201
        assert created.json == {**stated, "name": "", "description": ""}
        assert (await client.put(path, stated)).status == 409
        changed = await client.post(path, {"id": "c9", "name": "new"})
        assert changed.json == {**stated, "name": "new", "description": ""}
        bad = await client.post(path, {"id": "c9", "constraints": {"images": {"*": "*"}}})
        assert bad.status == 400
        assert (await client.get(f"{path}/c9")).json["name"] == "new"
        assert len((await client.get(path)).json) == 2
        assert (await client.delete(f"{path}/c9")).status == 200
        assert (await client.get(f"{path}/c9")).status == 404

    run(scenario)


def test_machines_still_tell_which_size_they_had_when_it_is_gone() -> None:
    async def scenario(client: Client) -> None:
        held = await allocate(client, project=SHOP)
        reservations = (await client.get("/v1/size/reservations")).json
        for each in reservations:
            await client.delete(f"/v1/size/reservations/{each['id']}")
        assert (await client.delete("/v1/size/v1-small-x86")).status == 200
        bare = {"id": "v1-small-x86", "constraints": [], "labels": {}}
        assert (await client.get(f"/v1/machine/{held}")).json["size"] == bare
        listed = (await client.post("/v1/machine/find", {"sizeid": "v1-small-x86"})).json
        assert [each["size"] for each in listed] == [bare] * len(listed)
        assert len(listed) > 1
        assert (await client.delete(f"/v1/machine/{held}/free")).status == 200

    run(scenario)


def test_two_who_create_overlapping_sizes_at_once_do_not_both_succeed() -> None:
    async def scenario(client: Client) -> None:
        answers = await asyncio.gather(
            *(client.put("/v1/size", {**SIZE, "id": f"c{number}"}) for number in range(4))
        )
        assert sorted(answer.status for answer in answers) == [201, 400, 400, 400]

    run(scenario)
