# SPDX-License-Identifier: Apache-2.0
"""Images, as clients meet them, and what becomes of those that nobody uses."""

from datetime import timedelta
from typing import Any

import pytest

from metropolis.metal.seed import SHOP
from metropolis.metal.services.orphan_images import remove_orphans
from metropolis.metal.settings import Settings
from unit.metal.http.client import Client
from unit.metal.inventory.site import allocate, run
from unit.metal.inventory.web_server import web_server

URL = "https://images.example/img.tar.lz4"
IMAGE: dict[str, Any] = {"id": "alpine-3.20.20261101", "url": URL, "features": ["machine"]}


def ids(answer: Any) -> list[str]:
    return [each["id"] for each in answer.json]


def test_an_image_is_a_preview_for_90_days_if_nothing_else_is_said() -> None:
    async def scenario(client: Client) -> None:
        created = await client.put("/v1/image", IMAGE)
        assert created.status == 201
        assert created.json == {
            **IMAGE,
            "name": "",
            "description": "",
            "classification": "preview",
            "expirationDate": "2027-02-18T12:00:00Z",
            "created": "2026-11-20T12:00:00Z",
            "changed": "2026-11-20T12:00:00Z",
        }

    run(scenario, seeded=False)


def test_an_image_is_changed_where_it_is_told_and_nowhere_else() -> None:
    async def scenario(client: Client) -> None:
        await client.put("/v1/image", IMAGE)
        changed = await client.post(
            "/v1/image",
            {
                "id": IMAGE["id"],
                "expirationDate": "2030-01-01T00:00:00+01:00",
                "classification": "supported",
                "usedby": ["somebody"],
            },
        )
        assert changed.status == 200
        assert changed.json["expirationDate"] == "2029-12-31T23:00:00Z"
        assert changed.json["classification"] == "supported"
        assert (changed.json["url"], changed.json["features"]) == (URL, ["machine"])
        assert "usedby" not in changed.json

    run(scenario, seeded=False)


def test_an_id_without_patch_means_the_newest() -> None:
    async def scenario(client: Client) -> None:
        assert (await client.get("/v1/image/ubuntu-24.04")).status == 404
        latest = await client.get("/v1/image/ubuntu-24.04/latest")
        assert latest.json["id"] == "ubuntu-24.04.20261110"
        assert ids(await client.get("/v1/image/ubuntu-24.04/query")) == [
            "ubuntu-24.04.20261110",
            "ubuntu-24.04.20260915",
        ]
        assert ids(await client.get("/v1/image/ubuntu-24.04.20260915/query")) == [
            "ubuntu-24.04.20260915"
        ]
        assert (await client.get("/v1/image/ubuntu-22.04/latest")).status == 404
        assert (await client.get("/v1/image/ubuntu/latest")).status == 400

    run(scenario)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"os": "debian"}, ["debian-13.0.20261020"]),
        ({"classification": "preview"}, ["debian-13.0.20261020"]),
        ({"features": ["firewall"]}, ["firewall-ubuntu-3.0.20261101"]),
        ({"version": "24.04.20260915"}, ["ubuntu-24.04.20260915"]),
        ({"os": "ubuntu", "name": "debian-13.0"}, []),
        ({"id": "ubuntu-24.04.20260915", "os": None}, ["ubuntu-24.04.20260915"]),
    ],
)
def test_images_are_found_by_what_they_are(wanted: Any, found: list[str]) -> None:
    async def scenario(client: Client) -> None:
        assert ids(await client.post("/v1/image/find", wanted)) == found

    run(scenario)


def test_an_image_that_a_machine_uses_says_so_and_stays() -> None:
    async def scenario(client: Client) -> None:
        machine = await allocate(client, project=SHOP)
        usage = {
            each["id"]: each["usedby"]
            for each in (await client.get("/v1/image?show-usage=true")).json
        }
        assert usage["ubuntu-24.04.20261110"] == [machine]
        assert usage["debian-13.0.20261020"] == []
        assert "usedby" not in (await client.get("/v1/image")).json[0]
        refused = await client.delete("/v1/image/ubuntu-24.04.20261110")
        assert refused.status == 422
        assert machine in refused.message
        assert (await client.delete("/v1/image/debian-13.0.20261020")).status == 200

    run(scenario)


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"id": "ubuntu-24.04.20261110"}, 409, "ubuntu-24.04.20261110"),
        ({"id": "alpine"}, 400, "alpine"),
        ({"id": "alpine-latest"}, 400, "latest"),
        ({"id": "../alpine-1"}, 400, "id"),
        ({"url": ""}, 400, "url"),
        ({"url": "ftp://x/y"}, 400, "url"),
        ({"classification": "old"}, 400, "classification"),
        ({"features": ["laptop"]}, 400, "features"),
        ({"expirationDate": "tomorrow"}, 400, "expirationDate"),
    ],
)
def test_an_image_that_cannot_be_is_refused(change: Any, status: int, message: str) -> None:
    async def scenario(client: Client) -> None:
        answer = await client.put("/v1/image", {**IMAGE, **change})
        assert answer.status == status
        assert message in answer.message
        assert len((await client.get("/v1/image")).json) == 4

    run(scenario)


def test_an_image_whose_file_is_not_there_is_refused() -> None:
    async def scenario(client: Client) -> None:
        with web_server({"/img": (200, "", b""), "/moved": (302, "/img", b"")}) as served:
            missing = await client.put("/v1/image", {**IMAGE, "url": f"{served.url}/missing"})
            assert missing.status == 400
            assert "answers 404 to HEAD" in missing.message
            there = await client.put("/v1/image", {**IMAGE, "url": f"{served.url}/moved"})
            assert there.status == 201
            assert served.asked == ["HEAD /missing", "HEAD /moved", "HEAD /img"]
            same = {"id": IMAGE["id"], "url": f"{served.url}/moved", "name": "new"}
            assert (await client.post("/v1/image", same)).status == 200
            assert len(served.asked) == 3
            other = await client.post("/v1/image", {**same, "url": f"{served.url}/other"})
            assert other.status == 400
        gone = await client.put("/v1/image", {**IMAGE, "url": f"{served.url}/img"})
        assert gone.status == 400
        assert gone.message.startswith("url: ")

    run(scenario, seeded=False, settings=Settings())


def test_images_that_expired_and_nobody_uses_are_forgotten_but_the_newest_of_each_system() -> None:
    async def scenario(client: Client) -> None:
        await allocate(client, project=SHOP, image="ubuntu-24.04.20260915")
        for image_id in (
            "ubuntu-22.04.1",
            "ubuntu-24.04.20261000",
            "alpine-3.19.1",
            "alpine-3.20.1",
        ):
            await client.put("/v1/image", {**IMAGE, "id": image_id})
        young = {**IMAGE, "id": "debian-12.0.1", "expirationDate": "2040-01-01T00:00:00Z"}
        await client.put("/v1/image", young)
        assert await client.site.store.write(remove_orphans) == []
        client.clock.advance(timedelta(days=400).total_seconds())
        gone = await client.site.store.write(remove_orphans)
        assert gone == ["alpine-3.19.1", "ubuntu-22.04.1", "ubuntu-24.04.20261000"]
        assert ids(await client.get("/v1/image")) == [
            "alpine-3.20.1",
            "debian-12.0.1",
            "debian-13.0.20261020",
            "firewall-ubuntu-3.0.20261101",
            "ubuntu-24.04.20260915",
            "ubuntu-24.04.20261110",
        ]

    run(scenario)
