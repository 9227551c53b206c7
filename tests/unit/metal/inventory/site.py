# SPDX-License-Identifier: Apache-2.0
"""Scenarios against the REST API of a site that was seeded and asks nobody for URLs."""

import asyncio
from collections.abc import Awaitable, Callable

from metropolis.metal.seed import seed
from metropolis.metal.settings import Settings
from unit.metal.http.client import Client, serving

MACHINE = "00000000-0000-0000-0000-000100000001"  # of the seed, waiting in rack-1


def run(
    scenario: Callable[[Client], Awaitable[None]],
    *,
    seeded: bool = True,
    settings: Settings | None = None,
) -> None:
    """Run a scenario to its end."""

    async def work() -> None:
        async with serving(settings=settings or Settings(check_urls=False)) as client:
            if seeded:
                await seed(client.site)
            await scenario(client)

    asyncio.run(work())


async def allocate(client: Client, *, project: str, image: str = "ubuntu-24.04") -> str:
    """Allocate a machine of the seed for a project; return its id."""
    networks = (await client.post("/v1/network/find", {"projectid": project})).json
    answer = await client.post(
        "/v1/machine/allocate",
        {
            "projectid": project,
            "partitionid": "mini-lab",
            "sizeid": "v1-small-x86",
            "imageid": image,
            "ssh_pub_keys": [],
            "networks": [{"networkid": networks[0]["id"], "autoacquire": True}],
        },
    )
    assert answer.status == 200, answer.body
    return str(answer.json["id"])
