# SPDX-License-Identifier: Apache-2.0
"""Filesystem layouts, as clients meet them."""

from typing import Any

import pytest

from unit.metal.http.client import Client
from unit.metal.inventory.site import MACHINE, run

PATH = "/v1/filesystemlayout"
LAYOUT: dict[str, Any] = {
    "id": "two",
    "name": "",
    "description": "",
    "constraints": {"sizes": ["c9"], "images": {"ubuntu": "*"}},
    "disks": [
        {
            "device": "/dev/sda",
            "wipeonreinstall": True,
            "partitions": [{"number": 1, "size": 0, "label": "root", "gpttype": "8300"}],
        }
    ],
    "filesystems": [
        {
            "device": "/dev/sda1",
            "format": "ext4",
            "path": "/",
            "label": "root",
            "mountoptions": ["noatime"],
            "createoptions": [],
        }
    ],
    "raid": [],
    "volumegroups": [],
    "logicalvolumes": [],
}


def test_a_layout_comes_back_as_it_was_stated() -> None:
    async def scenario(client: Client) -> None:
        created = await client.put(PATH, LAYOUT)
        assert (created.status, created.json) == (201, LAYOUT)
        changed = {**LAYOUT, "name": "zwei", "filesystems": []}
        assert (await client.post(PATH, changed)).json == changed
        assert (await client.get(f"{PATH}/two")).json == changed
        assert (await client.get(PATH)).json == [changed]
        assert (await client.delete(f"{PATH}/two")).json == changed
        assert (await client.get(f"{PATH}/two")).status == 404

    run(scenario, seeded=False)


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"id": "default-sata"}, 409, "default-sata"),
        ({"filesystems": [{"device": "/dev/sdz1", "format": "ext4"}]}, 400, "/dev/sdz1"),
        ({"filesystems": [{"device": "/dev/sda1", "format": "ntfs"}]}, 400, "format"),
        ({"constraints": {"sizes": ["v1-small-x86"], "images": {"debian": "13"}}}, 400, "collide"),
        ({"constraints": {"sizes": ["*"]}}, 400, "sizes"),
        ({"constraints": None}, 400, "constraints"),
        ({"disks": [{"device": "x", "partitions": [{"number": 300, "size": 1}]}]}, 400, "number"),
    ],
)  # fmt: skip
def test_a_layout_that_cannot_be_is_refused(change: Any, status: int, message: str) -> None:
    async def scenario(client: Client) -> None:
        answer = await client.put(PATH, {**LAYOUT, **change})
        assert answer.status == status
        assert message in answer.message
        assert len((await client.get(PATH)).json) == 2

    run(scenario)


def test_a_layout_without_constraints_collides_with_nothing_and_is_never_chosen() -> None:
    async def scenario(client: Client) -> None:
        free = {**LAYOUT, "id": "a-trial", "constraints": {"sizes": None, "images": {}}}
        assert (await client.put(PATH, free)).status == 201
        assert (await client.put(PATH, {**free, "id": "b-trial"})).status == 201
        wanted = {"size": "v1-small-x86", "image": "ubuntu-24.04.20261110"}
        assert (await client.post(f"{PATH}/try", wanted)).json["id"] == "default-sata"

    run(scenario)


def test_the_layout_for_a_size_and_an_image_is_found_by_trying() -> None:
    async def scenario(client: Client) -> None:
        await client.put("/v1/image", {"id": "centos-7.0.1", "url": "https://x.example/i"})
        nvme = {"size": "c1-large-x86", "image": "debian-13.0.20261020"}
        assert (await client.post(f"{PATH}/try", nvme)).json["id"] == "default-nvme"
        none = await client.post(f"{PATH}/try", {**nvme, "image": "centos-7.0.1"})
        assert none.status == 422
        assert "no filesystem layout" in none.message
        assert (await client.post(f"{PATH}/try", {**nvme, "size": "huge"})).status == 404
        assert (await client.post(f"{PATH}/try", {**nvme, "image": "x-1"})).status == 404

    run(scenario)


def test_a_layout_matches_a_machine_that_has_its_disks() -> None:
    async def scenario(client: Client) -> None:
        wanted = {"machine": MACHINE, "filesystemlayout": "default-sata"}
        assert (await client.post(f"{PATH}/matches", wanted)).json["id"] == "default-sata"
        other = await client.post(f"{PATH}/matches", {**wanted, "filesystemlayout": "default-nvme"})
        assert other.status == 422
        assert "/dev/nvme0n1" in other.message
        assert (await client.post(f"{PATH}/matches", {**wanted, "machine": "x"})).status == 404

    run(scenario)
