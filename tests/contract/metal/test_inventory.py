# SPDX-License-Identifier: Apache-2.0
"""Sizes, images, layouts and partitions on both databases, and by several replicas at once."""

import asyncio
from typing import Any

from metropolis.metal.model.reservation import RESERVATIONS
from metropolis.metal.model.size import SIZES
from metropolis.metal.seed import LAB, seed
from metropolis.metal.settings import Settings
from metropolis.metal.store import Reader
from unit.metal.http.client import Client, serving

SETTINGS = Settings(check_urls=False)
WIDTH = 8


def size(number: int) -> dict[str, Any]:
    cores = {"type": "cores", "min": 100, "max": 100 + number}
    return {"id": f"c{number}", "constraints": [cores]}


def reservation(size_id: str) -> dict[str, Any]:
    return {"sizeid": size_id, "projectid": LAB, "partitionids": ["mini-lab"], "amount": 1}


async def seeded(client: Client) -> Client:
    await seed(client.site)
    return client


async def _dangling(reader: Reader) -> list[str]:
    sizes = {each.id for each in await reader.find(SIZES)}
    found = await reader.find(RESERVATIONS)
    return [each.id for each in found if each.value.size_id not in sizes]


def test_a_seeded_site_counts_and_refuses_the_same_on_both(store_url: str) -> None:
    async def scenario() -> None:
        async with serving(settings=SETTINGS, url=store_url) as client:
            await seeded(client)
            (partition,) = (await client.post("/v1/partition/capacity", {"projectid": LAB})).json
            (row,) = partition["servers"]
            assert (row["total"], row["free"], row["reservations"]) == (5, 4, 1)
            (usage,) = (await client.post("/v1/size/reservations/usage", {})).json
            assert (usage["amount"], usage["usedamount"]) == (1, 0)
            for path in (
                "/v1/size/v1-small-x86",
                "/v1/partition/mini-lab",
            ):
                assert (await client.delete(path)).status == 422
            greatest = {**size(0), "labels": {"é": "'; --", "\U0001f600": ""}}
            greatest["constraints"] = [{"type": "memory", "min": 0, "max": 2**64 - 1}]
            created = await client.put("/v1/size", greatest)
            assert created.status == 201
            assert (await client.get("/v1/size/c0")).json == created.json

    asyncio.run(scenario())


def test_two_replicas_that_seed_at_once_seed_once(postgres_url: str) -> None:
    async def scenario() -> None:
        async with (
            serving(settings=SETTINGS, url=postgres_url) as one,
            serving(settings=SETTINGS, url=postgres_url, seed=6) as other,
        ):
            await asyncio.gather(seed(one.site), seed(other.site))
            assert len((await one.get("/v1/machine")).json) == 5

    asyncio.run(scenario())


def test_overlapping_sizes_of_two_replicas_are_never_both_there(postgres_url: str) -> None:
    async def scenario() -> None:
        async with (
            serving(settings=SETTINGS, url=postgres_url) as one,
            serving(settings=SETTINGS, url=postgres_url, seed=6) as other,
        ):
            answers = await asyncio.gather(
                *((one, other)[number % 2].put("/v1/size", size(number)) for number in range(WIDTH))
            )
            assert sorted(answer.status for answer in answers) == [201] + [400] * (WIDTH - 1)

    asyncio.run(scenario())


def test_a_size_that_is_deleted_while_it_is_reserved_leaves_nothing_dangling(
    postgres_url: str,
) -> None:
    async def scenario() -> None:
        async with (
            serving(settings=SETTINGS, url=postgres_url) as one,
            serving(settings=SETTINGS, url=postgres_url, seed=6) as other,
        ):
            await seeded(one)
            for number in range(WIDTH):
                await one.put("/v1/size", {"id": f"z{number}", "constraints": []})
            answers = await asyncio.gather(
                *(
                    call
                    for number in range(WIDTH)
                    for call in (
                        one.delete(f"/v1/size/z{number}"),
                        other.put("/v1/size/reservations", reservation(f"z{number}")),
                    )
                )
            )
            assert {answer.status for answer in answers} <= {200, 201, 400, 422}
            assert await one.site.store.read(_dangling) == []

    asyncio.run(scenario())
