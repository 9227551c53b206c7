# SPDX-License-Identifier: Apache-2.0
"""Pages, filters, entity tags and watches: for clients that ask, and invisible to all others."""

import asyncio
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from metropolis.metal.access.role import Role
from metropolis.metal.http.kept import Shelf
from metropolis.metal.masterdata.model import TENANTS
from metropolis.metal.model.image import IMAGES
from metropolis.metal.model.size import SIZES, Size
from metropolis.metal.store import Stored, Transaction
from unit.metal.http.client import Answer, Client, serving

Entity = Stored[Size]


def run(scenario: Callable[[Client], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with serving() as client:
            await scenario(client)

    asyncio.run(whole())


async def add_sizes(client: Client, *names: str, **more: Any) -> None:
    async def change(tx: Transaction) -> None:
        for name in names:
            await tx.insert(SIZES, name, Size(name=name, **more))

    await client.site.store.write(change)


async def rename(client: Client, key: str, name: str) -> None:
    async def change(tx: Transaction) -> None:
        await tx.replace(await tx.get(SIZES, key), Size(name=name))

    await client.site.store.write(change)


def ids(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.body
    return [each["id"] for each in answer.json]


def test_a_list_comes_in_pages_that_name_the_next() -> None:
    async def scenario(client: Client) -> None:
        await add_sizes(client, *"edcba")
        first = await client.get("/v1/size?limit=2")
        assert (ids(first), first.headers["x-next"]) == (["a", "b"], "b")
        assert first.headers["link"] == '</v1/size?limit=2&after=b>; rel="next"'
        second = await client.get("/v1/size?limit=2&after=b")
        assert ids(second) == ["c", "d"]
        last = await client.get("/v1/size?limit=2&after=d")
        assert ids(last) == ["e"]
        assert "x-next" not in last.headers
        assert ids(await client.get("/v1/size?limit=5")) == list("abcde")

    run(scenario)


def test_pages_follow_the_link_even_when_ids_need_escapes() -> None:
    async def scenario(client: Client) -> None:
        await add_sizes(client, "a&b=c", "ü", "z")
        first = await client.get("/v1/size?limit=1")
        link = first.headers["link"].partition("<")[2].partition(">")[0]
        second = await client.get(link)
        assert ids(first) + ids(second) == ["a&b=c", "z"]

    run(scenario)


@pytest.mark.parametrize("limit", ["0", "-1", "10001", "x", "", "²"])
def test_a_limit_is_a_number_in_bounds(limit: str) -> None:
    async def scenario(client: Client) -> None:
        assert "limit" in (await client.get(f"/v1/size?limit={limit}")).message

    run(scenario)


def test_lists_and_finds_are_filtered_by_any_field() -> None:
    async def scenario(client: Client) -> None:
        await add_sizes(client, "a", "b", labels={"rack": "1"}, description="x")
        await add_sizes(client, "c", description="x")
        assert ids(await client.get("/v1/size?filter=description=x&filter=labels.rack=1")) == [
            "a",
            "b",
        ]
        assert ids(await client.get("/v1/size?filter=id=c&limit=1")) == ["c"]
        assert ids(await client.get("/v1/size?filter=nothing.here=1")) == []
        assert "filter" in (await client.get("/v1/size?filter=id")).message

    run(scenario)


def test_what_is_no_list_takes_no_page() -> None:
    async def scenario(client: Client) -> None:
        assert (await client.get("/v1/version?limit=1", headers={})).status == 400
        assert (await client.post("/v1/audit/find?limit=1", {})).status == 400

    run(scenario)


def test_an_unchanged_list_is_not_sent_again_and_a_changed_one_is() -> None:
    async def scenario(client: Client) -> None:
        await add_sizes(client, "a")
        first = await client.get("/v1/size")
        tag = first.headers["etag"]
        again = await client.get("/v1/size", headers={**client.signed("GET"), "if-none-match": tag})
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
        await rename(client, "a", "changed")
        headers = {**client.signed("GET"), "if-none-match": f'"x", W/{tag}'}
        changed = await client.get("/v1/size", headers=headers)
        assert (changed.status, changed.json[0]["name"]) == (200, "changed")
        assert changed.headers["etag"] != tag

    run(scenario)


def test_a_kept_list_is_made_once_for_each_revision_and_for_each_kind_of_caller() -> None:
    made: list[int] = []

    async def scenario(client: Client) -> None:
        shelf = Shelf(client.site.store, bytes_max=10)

        async def make() -> bytes:
            made.append(len(made))
            return b"12345"

        for _ in range(3):
            await asyncio.gather(*(shelf.get("k", (SIZES,), make) for _ in range(5)))
        assert made == [0]
        await add_sizes(client, "a")
        await asyncio.gather(*(shelf.get("k", (SIZES,), make) for _ in range(5)))
        assert made == [0, 1]
        await shelf.get("l", (SIZES,), make)
        await shelf.get("k", (SIZES,), make)
        assert made == [0, 1, 2]
        await shelf.get("m", (SIZES,), make)  # the 11th byte: l was asked for longest ago
        await shelf.get("k", (SIZES,), make)
        assert made == [0, 1, 2, 3]
        await shelf.get("l", (SIZES,), make)
        assert made == [0, 1, 2, 3, 4]

    run(scenario)


def test_one_entity_is_kept_until_it_changes_and_others_do_not_matter() -> None:
    made: list[int] = []

    async def scenario(client: Client) -> None:
        shelf = Shelf(client.site.store, bytes_max=1000)
        await add_sizes(client, "a", "b")

        async def make() -> bytes:
            made.append(len(made))
            return b"x"

        async def ask() -> None:
            await shelf.get("k", (TENANTS,), make, entities=[(SIZES, "a"), (IMAGES, "a")])

        await ask()
        await rename(client, "b", "other")
        await ask()
        assert made == [0]
        await rename(client, "a", "new")
        await ask()
        assert made == [0, 1]
        await client.put("/v1/tenant", {"meta": {"id": "t"}, "name": "t"})
        await ask()
        assert made == [0, 1, 2]

        async def delete(tx: Transaction) -> None:
            await tx.delete(await tx.get(SIZES, "a"))

        await client.site.store.write(delete)
        await ask()
        await ask()
        assert made == [0, 1, 2, 3]

    run(scenario)


class Reading:
    """A client that reads a watched list line by line."""

    def __init__(self, client: Client, path: str, *, headers: dict[str, str]) -> None:
        self.lines: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.status = 0
        self._client = client
        self._gone = asyncio.Event()
        target, _, query = path.partition("?")
        self._scope = {
            "type": "http",
            "method": "GET",
            "path": target,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }

    async def receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.status = message.get("status", self.status)
        for line in message.get("body", b"").splitlines():
            self.lines.put_nowait(msgspec.json.decode(line))

    async def run(self) -> None:
        await self._client.application(self._scope, self.receive, self.send)

    def leave(self) -> None:
        self._gone.set()


def watching(
    path: str, scenario: Callable[[Client, Reading], Awaitable[None]], *names: str
) -> None:
    async def whole() -> None:
        async with serving() as client, asyncio.timeout(30), asyncio.TaskGroup() as group:
            await add_sizes(client, *names)
            reading = Reading(client, path, headers=client.signed("GET", Role.VIEW))
            task = group.create_task(reading.run())
            await scenario(client, reading)
            reading.leave()
            await task

    asyncio.run(whole())


def test_a_watched_list_tells_what_changes_until_its_reader_leaves() -> None:
    async def scenario(client: Client, reading: Reading) -> None:
        assert (await reading.lines.get())["operation"] == "beat"
        await add_sizes(client, "b")
        line = await reading.lines.get()
        assert (line["operation"], line["id"], line["value"]["id"]) == ("insert", "b", "b")
        await rename(client, "b", "new name")
        line = await reading.lines.get()
        assert (line["operation"], line["value"]["name"]) == ("replace", "new name")

        async def delete(tx: Transaction) -> None:
            await tx.delete(await tx.get(SIZES, "b"))

        await client.site.store.write(delete)
        line = await reading.lines.get()
        assert (line["operation"], line["id"], "value" in line) == ("delete", "b", False)

    watching("/v1/size?watch=now", scenario, "a")


def test_a_watch_from_the_revision_of_a_list_misses_nothing() -> None:
    async def whole() -> None:
        async with serving() as client, asyncio.timeout(30), asyncio.TaskGroup() as group:
            await add_sizes(client, "a")
            revision = (await client.get("/v1/size")).headers["x-revision"]
            await add_sizes(client, "b")
            path = f"/v1/size?watch={revision}"
            reading = Reading(client, path, headers=client.signed("GET"))
            task = group.create_task(reading.run())
            await reading.lines.get()
            assert (await reading.lines.get())["id"] == "b"
            reading.leave()
            await task

    asyncio.run(whole())


def test_a_watch_ends_with_the_token_that_it_was_asked_with() -> None:
    async def whole() -> None:
        async with serving() as client, asyncio.timeout(30):
            token = (await client.put("/v1/token", {"role": "view"})).json
            headers = {"authorization": f"Bearer {token['token']}"}
            reading = Reading(client, "/v1/size?watch=now", headers=headers)
            async with asyncio.TaskGroup() as group:
                task = group.create_task(reading.run())
                await reading.lines.get()
                await client.delete(f"/v1/token/{token['id']}")
                await add_sizes(client, "secret")
                await task  # by itself
            assert reading.lines.empty()

    asyncio.run(whole())


async def add_projects(client: Client, *names: str) -> None:
    for name in names:
        body = {"meta": {"id": name}, "name": name, "tenant_id": "t"}
        assert (await client.put("/v1/project", body)).status == 201


async def remove_projects(client: Client, *names: str) -> None:
    for name in names:
        assert (await client.delete(f"/v1/project/{name}")).status == 200


def watching_confined(
    scenario: Callable[[Client, Reading], Awaitable[None]], *, since: str = ""
) -> None:
    """Watch the projects as a token that sees `ours` and not `theirs`."""

    async def whole() -> None:
        async with serving() as client, asyncio.timeout(30), asyncio.TaskGroup() as group:
            await client.put("/v1/tenant", {"meta": {"id": "t"}, "name": "t"})
            await add_projects(client, "ours", "theirs")
            wanted = {"role": "view", "projects": ["ours"]}
            token = (await client.put("/v1/token", wanted)).json["token"]
            headers = {"authorization": f"Bearer {token}"}
            listed = await client.call("GET", "/v1/project", headers=headers)
            revision = listed.headers["x-revision"]
            if since == "theirs":
                await remove_projects(client, "theirs")
            path = f"/v1/project?watch={revision if since else 'now'}"
            reading = Reading(client, path, headers=headers)
            task = group.create_task(reading.run())
            assert (await reading.lines.get())["operation"] == "beat"
            await scenario(client, reading)
            reading.leave()
            await task

    asyncio.run(whole())


def test_a_confined_watch_tells_of_the_end_of_what_is_seen_and_of_nothing_else() -> None:
    async def scenario(client: Client, reading: Reading) -> None:
        await add_projects(client, "other-secret")
        await remove_projects(client, "theirs")
        await remove_projects(client, "ours")
        line = await reading.lines.get()
        assert (line["operation"], line["id"]) == ("delete", "ours")

    watching_confined(scenario)
    watching_confined(scenario, since="list")


def test_a_confined_watch_names_nothing_that_ended_before_it_began() -> None:
    async def scenario(_client: Client, reading: Reading) -> None:
        line = await reading.lines.get()
        assert (line["operation"], "id" in line) == ("lost", False)

    watching_confined(scenario, since="theirs")


def test_a_long_question_is_not_kept_with_its_answer() -> None:
    async def scenario(client: Client) -> None:
        tracemalloc.start()
        try:
            for number in range(4):
                body = {"ipaddress": f"{number}" * 1_000_000}
                await client.post("/v1/ip/find", body)
            kept_bytes, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert kept_bytes < 3_000_000  # the last one is still in our hands

    run(scenario)


def test_other_kinds_do_not_disturb_a_watch() -> None:
    async def scenario(client: Client, reading: Reading) -> None:
        await reading.lines.get()
        await client.put("/v1/tenant", {"meta": {"id": "t"}, "name": "t"})
        await add_sizes(client, "b")
        assert (await reading.lines.get())["id"] == "b"

    watching("/v1/size?watch=now", scenario)


@pytest.mark.parametrize("given", ["", "-1", "x", "9" * 19])
def test_a_watch_begins_at_a_revision(given: str) -> None:
    async def scenario(client: Client) -> None:
        assert "watch" in (await client.get(f"/v1/size?watch={given}")).message

    run(scenario)
