# SPDX-License-Identifier: Apache-2.0
"""Every change leaves two rows and uses its signature up; what cannot be recorded is not done."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec

from metropolis.base.errors import FailedPreconditionError
from metropolis.metal.access import salts
from metropolis.metal.access.caller import GUEST
from metropolis.metal.access.hmac import Proof
from metropolis.metal.access.role import Role
from metropolis.metal.access.seen import SeenSignatures
from metropolis.metal.audit import trace
from metropolis.metal.http.operation import Call, Nothing, Operation
from metropolis.metal.store import Transaction
from unit.metal.http.client import Client, serving
from unit.metal.kit import NOW


class Order(msgspec.Struct, kw_only=True):
    projectid: str = ""
    user_data: str = ""
    ssh_pub_keys: tuple[str, ...] = ()
    fail: bool = False


done: list[str] = []


async def allocate(call: Call[Order, Nothing]) -> Any:
    if call.body.fail:
        raise FailedPreconditionError("no machine available")
    done.append(call.request_id)
    return {"allocation": {"project": call.body.projectid or "p-of-answer"}, "password": "hunter2"}


def operation(name: str, method: str, *, audited: bool | None = None) -> Operation[Any, Any]:
    return Operation(
        id=name, method=method, path=f"/v1/{name}", role=Role.VIEW, summary=name, handle=allocate,
        body=Order, answer=dict, audited=audited,
    )  # fmt: skip


OPERATIONS = (
    operation("allocate", "POST"),
    operation("find", "POST", audited=False),
    operation("list", "GET"),
    operation("consolepassword", "GET", audited=True),
    replace(operation("state", "POST"), role=Role.EDIT),
)


def run(scenario: Callable[[Client], Awaitable[None]]) -> None:
    async def whole() -> None:
        done.clear()
        async with serving(OPERATIONS) as client:
            await scenario(client)

    asyncio.run(whole())


async def traces(client: Client, **more: Any) -> Sequence[trace.Trace]:
    now = client.clock.wall()
    wanted = {"exact": {}, "part": {}, "words": {}, **more}
    search = trace.Search(since=now - timedelta(days=1), until=now, **wanted)
    return await client.site.store.read(lambda reader: trace.search(reader, search))


def test_a_change_leaves_two_rows_with_one_request_id() -> None:
    async def scenario(client: Client) -> None:
        answer = await client.post("/v1/allocate", {"projectid": "p1"})
        asked, answered = await traces(client)
        assert asked.rqid == answered.rqid == answer.headers["x-request-id"]
        assert (asked.phase, answered.phase) == ("request", "response")
        assert (asked.status_code, answered.status_code) == (0, 200)
        assert {asked.email, answered.email} == {"metal-admin@metal-stack.io"}
        assert (asked.detail, asked.path, asked.tenant) == ("POST", "/v1/allocate", "metal-stack")
        assert asked.remote_addr == "192.0.2.7"
        assert asked.project == answered.project == "p1"

    run(scenario)


def test_what_failed_is_told_with_its_status_and_error() -> None:
    async def scenario(client: Client) -> None:
        await client.post("/v1/allocate", {"fail": True})
        client.clock.advance(1)
        await client.post("/v1/allocate", raw=b"{")
        rows = [each for each in await traces(client) if each.phase == "response"]
        assert [each.status_code for each in rows] == [422, 400]
        assert rows[0].error == "no machine available"
        assert "not JSON" in rows[1].error

    run(scenario)


def test_whoever_tries_what_is_not_theirs_to_do_is_written_down() -> None:
    async def scenario(client: Client) -> None:
        refused = await client.post("/v1/state", {"projectid": "p1"}, role=Role.VIEW)
        assert refused.status == 403
        (row,) = await traces(client)
        assert (row.phase, row.status_code, row.email) == (
            "error",
            403,
            "metal-view@metal-stack.io",
        )
        assert row.rqid == refused.headers["x-request-id"]
        assert "not member" in row.error
        # A stranger cannot fill the disk.
        assert (await client.post("/v1/state", {}, headers={})).status == 403
        assert len(await traces(client)) == 1

    run(scenario)


def test_finds_leave_no_rows_and_reading_a_password_does() -> None:
    async def scenario(client: Client) -> None:
        await client.post("/v1/find", {})
        await client.get("/v1/list")
        assert await traces(client) == []
        await client.get("/v1/consolepassword")
        assert len(await traces(client)) == 2

    run(scenario)


def test_secrets_are_in_no_row_and_public_keys_are() -> None:
    async def scenario(client: Client) -> None:
        await client.post(
            "/v1/allocate", {"user_data": "s3cret", "ssh_pub_keys": ["ssh-ed25519 A"]}
        )
        text = "".join(each.body for each in await traces(client))
        assert "s3cret" not in text
        assert "hunter2" not in text
        assert "ssh-ed25519 A" in text

    run(scenario)


def test_the_answer_names_the_project_when_the_request_did_not() -> None:
    async def scenario(client: Client) -> None:
        await client.post("/v1/allocate", {})
        assert [each.project for each in await traces(client)] == ["", "p-of-answer"]
        only = await traces(client, projects=frozenset({"p-of-answer"}))
        assert [each.phase for each in only] == ["response"]
        assert await traces(client, projects=frozenset()) == []

    run(scenario)


def test_a_signature_that_changes_something_counts_once_for_every_path() -> None:
    async def scenario(client: Client) -> None:
        headers = client.signed("POST", salt="once")
        assert (await client.post("/v1/find", {}, headers=headers)).status == 200
        for path in ("/v1/find", "/v1/allocate"):
            answer = await client.post(path, {}, headers=headers)
            assert answer.status == 403
            assert "used before" in answer.message
        assert len(done) == 1
        assert await traces(client) == []

    run(scenario)


def test_a_signature_for_reading_may_be_sent_again_and_never_for_a_secret() -> None:
    async def scenario(client: Client) -> None:
        headers = client.signed("GET")
        for _ in range(2):
            assert (await client.get("/v1/list", headers=headers)).status == 200
        client.clock.advance(29)
        answer = await client.get("/v1/consolepassword", headers=headers)
        assert (answer.status, "used before" in answer.message) == (403, True)
        headers = client.signed("GET")
        assert (await client.get("/v1/consolepassword", headers=headers)).status == 200
        assert (await client.get("/v1/consolepassword", headers=headers)).status == 403

    run(scenario)


def proof(number: int) -> Proof:
    return Proof(caller=GUEST, digest=bytes([number]), expires=NOW)


def test_seen_signatures_are_remembered_for_a_lifetime_and_not_without_bound() -> None:
    seen = SeenSignatures(generation_max=2)
    lifetime = timedelta(seconds=60)
    seen.add(proof(0), now=NOW, lifetime=lifetime)
    seen.add(proof(1), now=NOW + timedelta(seconds=59), lifetime=lifetime)
    seen.add(proof(2), now=NOW + timedelta(seconds=61), lifetime=lifetime)
    assert [number for number in range(4) if proof(number) in seen] == [0, 1, 2]
    seen.add(proof(3), now=NOW + timedelta(seconds=121), lifetime=lifetime)
    assert [number for number in range(4) if proof(number) in seen] == [2, 3]
    for number in range(4, 12):
        seen.add(proof(number), now=NOW + timedelta(seconds=122), lifetime=lifetime)
    assert [number for number in range(12) if proof(number) in seen] == [9, 10, 11]


def test_a_signature_is_remembered_until_its_date_refuses_it() -> None:
    async def scenario(client: Client) -> None:
        headers = client.signed("POST")
        await client.post("/v1/find", {}, headers=headers)
        client.clock.advance(89)
        assert await client.site.store.write(salts.forget) == 0
        assert "used before" in (await client.post("/v1/find", {}, headers=headers)).message
        client.clock.advance(90)
        assert await client.site.store.write(salts.forget) == 1
        assert "too old" in (await client.post("/v1/find", {}, headers=headers)).message

    run(scenario)


def test_what_cannot_be_recorded_is_not_done() -> None:
    async def scenario(client: Client) -> None:
        async def drop(tx: Transaction) -> int:
            return await tx.execute("DROP TABLE audit_trace")

        await client.site.store.write(drop)
        answer = await client.post("/v1/allocate", {})
        assert answer.status in {500, 503}
        assert done == []

    run(scenario)


def test_old_rows_are_forgotten() -> None:
    async def scenario(client: Client) -> None:
        await client.post("/v1/allocate", {})
        client.clock.advance(14 * 86_400 + 1)
        await client.post("/v1/allocate", {})
        assert await client.site.store.write(trace.forget) == 2
        assert len(await traces(client)) == 2

    run(scenario)
