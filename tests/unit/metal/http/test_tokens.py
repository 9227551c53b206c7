# SPDX-License-Identifier: Apache-2.0
"""API tokens: shown once, bounded, expiring, revocable at once."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from metropolis.metal.access.role import Role
from metropolis.metal.access.tokens import TOKENS, TokenJudge
from unit.metal.http.client import Answer, Client, serving
from unit.metal.kit import memory_store


def run(scenario: Callable[[Client], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with serving() as client:
            await client.put("/v1/tenant", {"meta": {"id": "t"}, "name": "t"})
            for key in ("red", "blue"):
                project = {"meta": {"id": key}, "name": key, "tenant_id": "t"}
                assert (await client.put("/v1/project", project)).status == 201
            await scenario(client)

    asyncio.run(whole())


async def made(client: Client, *, by: str = "", **more: Any) -> Any:
    answer = await asked(client, by=by, **more)
    assert answer.status == 201, answer.body
    return answer.json


async def asked(client: Client, *, by: str = "", **more: Any) -> Answer:
    headers = bearer(by) if by else None
    return await client.put("/v1/token", {"role": "view", **more}, headers=headers)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_a_token_may_what_its_role_may_and_is_its_owners() -> None:
    async def scenario(client: Client) -> None:
        token = (await made(client, description="for CI"))["token"]
        me = (await client.get("/v1/user/me", headers=bearer(token))).json
        assert me["EMail"] == "metal-admin@metal-stack.io"
        assert "maas-all-all-view" in me["Groups"]
        size = {"id": "s", "constraints": []}
        assert (await client.put("/v1/size", size, headers=bearer(token))).status == 403

    run(scenario)


def test_only_a_digest_is_stored_and_no_other_answer_has_the_secret() -> None:
    async def scenario(client: Client) -> None:
        answer = await made(client)
        secret = answer["token"].rpartition(".")[2]
        stored = await client.site.store.read(lambda reader: reader.texts(TOKENS))
        assert secret.encode() not in b"".join(stored)
        for path in ("/v1/token", f"/v1/token/{answer['id']}"):
            assert secret.encode() not in (await client.get(path)).body
        found = await client.post("/v1/audit/find", {"path": "/v1/token"})
        assert len(found.json) == 2
        assert secret.encode() not in found.body

    run(scenario)


def test_a_revoked_token_is_refused_at_once() -> None:
    async def scenario(client: Client) -> None:
        token = await made(client)
        assert (await client.get("/v1/size", headers=bearer(token["token"]))).status == 200
        assert (await client.delete(f"/v1/token/{token['id']}")).status == 200
        answer = await client.get("/v1/size", headers=bearer(token["token"]))
        assert (answer.status, "revoked" in answer.message) == (403, True)

    run(scenario)


def test_with_a_token_go_those_that_were_made_with_it() -> None:
    async def scenario(client: Client) -> None:
        parent = await made(client)
        child = await made(client, by=parent["token"])
        await made(client, by=child["token"])
        other = await made(client)
        await client.delete(f"/v1/token/{parent['id']}")
        left = (await client.get("/v1/token")).json
        assert [each["id"] for each in left] == [other["id"]]

    run(scenario)


def test_a_token_ends_by_itself() -> None:
    async def scenario(client: Client) -> None:
        token = (await made(client, expiration_s=60))["token"]
        client.clock.advance(59)
        assert (await client.get("/v1/size", headers=bearer(token))).status == 200
        client.clock.advance(1)
        answer = await client.get("/v1/size", headers=bearer(token))
        assert (answer.status, "expired" in answer.message) == (403, True)

    run(scenario)


@pytest.mark.parametrize(
    "wrong",
    ["mtk", "mtk.", "mtk..", "mtk.0011223344556677.x", "mtk.{id}", "mtk.{id}.", "mtk.{id}.x"],
)
def test_a_token_with_another_secret_is_refused(wrong: str) -> None:
    async def scenario(client: Client) -> None:
        token = wrong.format(id=(await made(client))["id"])
        assert (await client.get("/v1/size", headers=bearer(token))).status == 403

    run(scenario)


def test_operations_bound_a_token() -> None:
    async def scenario(client: Client) -> None:
        token = (await made(client, role="admin", operations=["listSizes"]))["token"]
        assert (await client.get("/v1/size", headers=bearer(token))).status == 200
        answer = await client.get("/v1/image", headers=bearer(token))
        assert (answer.status, "listImages" in answer.message) == (403, True)

    run(scenario)


def test_nobody_makes_a_token_that_may_more_than_they() -> None:
    async def scenario(client: Client) -> None:
        answer = await client.put("/v1/token", {"role": "edit"}, role=Role.VIEW)
        assert "more than you have" in answer.message
        confined = (
            await made(
                client,
                role="edit",
                projects=["red"],
                operations=["createToken", "listIPs"],
                expiration_s=600,
            )
        )["token"]
        for more, named in (
            ({"role": "admin"}, "role"),
            ({}, "projects"),
            ({"projects": ["red", "blue"], "operations": ["listIPs"]}, "projects"),
            ({"projects": ["red"]}, "operations"),
            ({"projects": ["red"], "operations": ["listSizes"]}, "operations"),
        ):
            refused = await asked(client, by=confined, **more)
            assert refused.status == 403, more
            assert named in refused.message
        client.clock.advance(60)
        child = await made(
            client, by=confined, projects=["red"], operations=["listIPs"], expiration_s=86_400
        )
        parent = (await client.get("/v1/token")).json
        assert child["expires"] == next(
            each["expires"] for each in parent if each["id"] == confined.split(".")[1]
        )

    run(scenario)


def test_a_token_names_projects_that_exist() -> None:
    async def scenario(client: Client) -> None:
        answer = await asked(client, projects=["green"])
        assert (answer.status, "green" in answer.message) == (400, True)
        assert (await asked(client, projects=[])).status == 400

    run(scenario)


def test_a_token_names_operations_that_exist() -> None:
    async def scenario(client: Client) -> None:
        answer = await asked(client, operations=["listSizes", "listSize"])
        assert (answer.status, "'listSize'" in answer.message) == (400, True)

    run(scenario)


def test_expired_tokens_are_listed_for_a_week_more() -> None:
    async def scenario(client: Client) -> None:
        old = await made(client, expiration_s=60)
        client.clock.advance(7 * 86_400)
        await made(client)
        assert old["id"] in [each["id"] for each in (await client.get("/v1/token")).json]
        client.clock.advance(61)
        new = await made(client)
        listed = [each["id"] for each in (await client.get("/v1/token")).json]
        assert old["id"] not in listed
        assert new["id"] in listed

    run(scenario)


def test_people_see_and_revoke_their_own_tokens_and_administrators_all() -> None:
    async def scenario(client: Client) -> None:
        mine = (await client.put("/v1/token", {"role": "view"}, role=Role.VIEW)).json
        theirs = await made(client)
        seen = (await client.get("/v1/token", role=Role.VIEW)).json
        assert [each["id"] for each in seen] == [mine["id"]]
        path = f"/v1/token/{theirs['id']}"
        for answer in (
            await client.get(path, role=Role.VIEW),
            await client.delete(path, role=Role.VIEW),
        ):
            assert answer.status == 404
        assert len((await client.get("/v1/token")).json) == 2
        assert (await client.delete(f"/v1/token/{mine['id']}")).status == 200

    run(scenario)


def test_a_confined_token_sees_no_wider_one_of_its_owner() -> None:
    async def scenario(client: Client) -> None:
        wide = await made(client, role="admin")
        other = await made(client, projects=["blue"])
        confined = await made(client, projects=["red"])
        headers = bearer(confined["token"])
        seen = (await client.get("/v1/token", headers=headers)).json
        assert [each["id"] for each in seen] == [confined["id"]]
        for key in (wide["id"], other["id"]):
            assert (await client.delete(f"/v1/token/{key}", headers=headers)).status == 404

    run(scenario)


def test_a_lifetime_has_bounds() -> None:
    async def scenario(client: Client) -> None:
        for seconds in (0, 59, 366 * 86_400 + 1):
            assert (await asked(client, expiration_s=seconds)).status == 400
        now = client.clock.wall()
        token = await made(client)
        expires = now + timedelta(days=30)
        assert token["expires"] == expires.strftime("%Y-%m-%dT%H:%M:%SZ")

    run(scenario)


def test_a_token_of_another_kind_is_left_to_others() -> None:
    async def scenario() -> None:
        async with memory_store() as store, serving() as client:
            judge = TokenJudge(store=store, clock=client.clock, tenant="t")
            assert await judge.judge("a.b.c") is None

    asyncio.run(scenario())
