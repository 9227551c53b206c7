# SPDX-License-Identifier: Apache-2.0
"""Tenants and projects over REST."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from metropolis.metal.access.role import Role
from metropolis.metal.masterdata import tenants
from metropolis.metal.masterdata.model import (
    ConnectorConfig,
    IAMConfig,
    IDMConfig,
    Meta,
    NamespaceGroupConfig,
    Tenant,
)
from metropolis.metal.seed import SHOP, seed
from metropolis.metal.settings import Settings
from unit.metal.http.client import Client, serving

Scenario = Callable[[Client], Awaitable[None]]
UUID_CHARACTERS = 36


def run(scenario: Scenario) -> None:
    async def whole() -> None:
        async with serving(settings=Settings(check_urls=False)) as client:
            await scenario(client)

    asyncio.run(whole())


async def made(client: Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = await client.put(path, body)
    assert answer.status == 201, answer.body
    created: dict[str, Any] = answer.json
    return created


def test_a_tenant_is_created_changed_and_deleted() -> None:
    async def scenario(client: Client) -> None:
        wanted = {
            "meta": {"id": "acme", "annotations": {"a": "b"}, "labels": ["x"]},
            "name": "Acme",
            "description": "d",
            "default_quotas": {"machine": {"quota": 5}},
            "quotas": {"project": {"quota": 2}, "cluster": {}, "ip": None},
            "iam_config": {
                "idm_config": {"idm_type": "AD"},
                "issuer_config": {"url": "https://i", "client_id": "c"},
            },
        }
        created = await made(client, "/v1/tenant", wanted)
        assert created == {
            **wanted,
            "quotas": {"project": {"quota": 2}, "cluster": {}},
            "meta": {
                **wanted["meta"],  # type: ignore[dict-item]
                "kind": "Tenant",
                "apiversion": "v1",
                "version": 0,
                "created_time": "2026-11-20T12:00:00Z",
            },
        }
        assert (await client.put("/v1/tenant", wanted)).status == 409
        assert (await client.get("/v1/tenant/acme")).json == created
        assert (await client.get("/v1/tenant")).json == [created]

        client.clock.advance(5)
        answer = await client.post("/v1/tenant", {**created, "name": "Acme 2"})
        changed = answer.json
        assert (answer.status, changed["name"], changed["meta"]["version"]) == (200, "Acme 2", 1)
        assert changed["meta"]["created_time"] == created["meta"]["created_time"]
        assert changed["meta"]["updated_time"] == "2026-11-20T12:00:05Z"
        late = await client.post("/v1/tenant", created)
        assert late.status == 412
        assert "optimistic lock" in late.message
        assert (await client.delete("/v1/tenant/acme")).json == changed
        for gone in (
            await client.get("/v1/tenant/acme"),
            await client.delete("/v1/tenant/acme"),
            await client.post("/v1/tenant", changed),
        ):
            assert gone.status == 404
            assert "acme" in gone.message
        assert (await client.get("/v1/tenant")).json == []

    run(scenario)


def test_what_rest_cannot_say_of_a_tenant_stays() -> None:
    async def scenario(client: Client) -> None:
        stored = Tenant(
            meta=Meta(id="t"),
            iam_config=IAMConfig(
                idm_config=IDMConfig(
                    idm_type="AD", connector_config=ConnectorConfig(idm_api_password="secret")
                ),
                group_config=NamespaceGroupConfig(namespace_max_length=7),
            ),
        )
        store = client.site.store
        await store.write(lambda tx: tenants.create_tenant(tx, stored))
        answer = await client.get("/v1/tenant/t")
        assert b"secret" not in answer.body
        body = {**answer.json, "description": "new"}
        assert (await client.post("/v1/tenant", body)).status == 200
        after = (await store.read(lambda reader: tenants.get_tenant(reader, "t"))).value
        assert after.description == "new"
        assert after.iam_config == stored.iam_config

    run(scenario)


def test_a_project_belongs_to_a_tenant_for_ever() -> None:
    async def scenario(client: Client) -> None:
        await made(
            client,
            "/v1/tenant",
            {
                "meta": {"id": "t"},
                "default_quotas": {"machine": {"quota": 5}},
                "quotas": {"project": {"quota": 1}},
            },
        )
        created = await made(client, "/v1/project", {"name": "p", "tenant_id": "t"})
        key = created["meta"]["id"]
        assert len(key) == UUID_CHARACTERS
        assert created["quotas"] == {"machine": {"quota": 5}}
        full = await client.put("/v1/project", {"tenant_id": "t"})
        assert (full.status, "project quota is 1" in full.message) == (422, True)
        for body, status in (
            ({"name": "x"}, 400),
            ({"tenant_id": "nobody"}, 404),
            ({"tenant_id": "t", "meta": {"kind": "Tenant"}}, 400),
            ({"tenant_id": "t", "meta": {"version": -1}}, 400),
            ({"tenant_id": "t", "quotas": {"ip": {"quota": -1}}}, 400),
            ({"tenant_id": "t", "color": "red"}, 400),
        ):
            refused = await client.put("/v1/project", body)
            assert refused.status == status, body
            assert refused.message
        moved = await client.post("/v1/project", {**created, "tenant_id": "u"})
        assert (moved.status, "tenant_id" in moved.message) == (400, True)
        assert (await client.post("/v1/project", {"name": "x"})).status == 400

        without = {"meta": {"id": key, "version": 0}, "name": "p2"}
        changed = (await client.post("/v1/project", without)).json
        assert (changed["tenant_id"], changed["name"]) == ("t", "p2")
        assert (await client.post("/v1/project", without)).status == 412
        with_projects = await client.delete("/v1/tenant/t")
        assert (with_projects.status, "has 1 projects" in with_projects.message) == (422, True)
        assert (await client.delete(f"/v1/project/{key}")).json == changed
        assert (await client.delete("/v1/tenant/t")).status == 200

    run(scenario)


def test_a_project_tells_what_it_uses_and_stays_while_it_uses_it() -> None:
    async def scenario(client: Client) -> None:
        await seed(client.site)
        found = (await client.get(f"/v1/project/{SHOP}")).json
        quotas = found["quotas"]
        ips = [each for each in (await client.get("/v1/ip")).json if each["projectid"] == SHOP]
        assert ips
        assert quotas["ip"]["used"] == len(ips)
        assert quotas["machine"]["used"] == 0
        (listed,) = (await client.post("/v1/project/find", {"id": SHOP})).json
        assert "used" not in listed.get("quotas", {}).get("ip", {})
        refused = await client.delete(f"/v1/project/{SHOP}")
        assert refused.status == 400
        assert "networks" in refused.message
        assert (await client.get(f"/v1/project/{SHOP}")).json == found

    run(scenario)


IN_THE_WAY: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ips": ("POST", "/v1/ip/allocate", {"networkid": "internet", "projectid": "p"}),
    "networks": (
        "POST",
        "/v1/network/allocate",
        {"projectid": "p", "partitionid": "mini-lab"},
    ),
    "size reservations": (
        "PUT",
        "/v1/size/reservations",
        {"sizeid": "v1-small-x86", "projectid": "p", "partitionids": ["mini-lab"], "amount": 1},
    ),
    "machines": (
        "POST",
        "/v1/machine/allocate",
        {
            "hostname": "m",
            "projectid": "p",
            "partitionid": "mini-lab",
            "sizeid": "v1-small-x86",
            "imageid": "ubuntu-24.04",
        },
    ),
}


@pytest.mark.parametrize("what", IN_THE_WAY)
def test_each_thing_that_belongs_to_a_project_keeps_it(what: str) -> None:
    async def scenario(client: Client) -> None:
        await seed(client.site)
        shop = (await client.get(f"/v1/project/{SHOP}")).json
        body = {"meta": {"id": "p"}, "tenant_id": shop["tenant_id"]}
        await made(client, "/v1/project", body)
        method, path, wanted = IN_THE_WAY[what]
        if what == "machines":
            network = {"projectid": "p", "partitionid": "mini-lab"}
            child = (await client.post("/v1/network/allocate", network)).json["id"]
            wanted = {**wanted, "networks": [{"networkid": child, "autoacquire": True}]}
        answer = await client.call(method, path, wanted)
        assert answer.status in {200, 201}, answer.body
        refused = await client.delete("/v1/project/p")
        assert (refused.status, what in refused.message) == (400, True)
        used = (await client.get("/v1/project/p")).json["quotas"]
        assert used["machine"]["used"] == (1 if what == "machines" else 0)

    run(scenario)


def test_everything_that_is_asked_for_must_hold() -> None:
    async def scenario(client: Client) -> None:
        for number in range(3):
            meta: dict[str, Any] = {
                "id": f"t{number}",
                "annotations": {"even": str(number % 2 == 0), "all": "1"},
                "labels": ["l", f"l{number}"],
            }
            await made(client, "/v1/tenant", {"meta": meta, "name": "same"})
        for number in range(3):
            body = {
                "meta": {"id": f"p{number}"},
                "tenant_id": f"t{number % 2}",
                "name": f"n{number}",
            }
            await made(client, "/v1/project", body)

        async def ids(path: str, body: dict[str, Any]) -> list[str]:
            answer = await client.post(path, body)
            assert answer.status == 200, answer.body
            return [each["meta"]["id"] for each in answer.json]

        of_tenants: list[tuple[dict[str, Any], list[str]]] = [
            ({}, ["t0", "t1", "t2"]),
            ({"name": "same", "id": None}, ["t0", "t1", "t2"]),
            ({"id": "t1"}, ["t1"]),
            ({"id": "t9"}, []),
            ({"annotations": {"even": "True", "all": "1"}}, ["t0", "t2"]),
            ({"annotations": {"even": "True"}, "labels": ["l2", "l"]}, ["t2"]),
            ({"annotations": {"x' OR 1=1 --": "1"}}, []),
            ({"paging": {"count": 2}}, ["t0", "t1"]),
            ({"paging": {"count": 2, "page": 1}}, ["t2"]),
            ({"paging": {"page": 2**62}}, []),
        ]
        for body, expected in of_tenants:
            assert await ids("/v1/tenant/find", body) == expected, body
        of_projects: list[tuple[dict[str, Any], list[str]]] = [
            ({}, ["p0", "p1", "p2"]),
            ({"tenant_id": "t0"}, ["p0", "p2"]),
            ({"tenant_id": "t0", "name": "n2"}, ["p2"]),
            ({"id": "p1", "tenant_id": "t0"}, []),
            ({"description": ""}, ["p0", "p1", "p2"]),
        ]
        for body, expected in of_projects:
            assert await ids("/v1/project/find", body) == expected, body

    run(scenario)


@pytest.mark.parametrize("role", [Role.VIEW, Role.EDIT])
def test_only_administrators_change_them(role: Role) -> None:
    async def scenario(client: Client) -> None:
        await made(client, "/v1/tenant", {"meta": {"id": "t"}})
        await made(client, "/v1/project", {"meta": {"id": "p"}, "tenant_id": "t"})
        for entity, key in (("tenant", "t"), ("project", "p")):
            body = {"meta": {"id": key}, "tenant_id": "t"} if entity == "project" else {}
            for method, path in (
                ("PUT", f"/v1/{entity}"),
                ("POST", f"/v1/{entity}"),
                ("DELETE", f"/v1/{entity}/{key}"),
            ):
                assert (await client.call(method, path, body, role=role)).status == 403
            assert (await client.get(f"/v1/{entity}/{key}", role=role)).status == 200
            assert (await client.get(f"/v1/{entity}", role=role)).status == 200
            assert (await client.post(f"/v1/{entity}/find", {}, role=role)).status == 200

    run(scenario)
