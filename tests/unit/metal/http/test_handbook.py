# SPDX-License-Identifier: Apache-2.0
"""The requests that the handbook shows are answered as it says."""

import asyncio
import re
from pathlib import Path

import msgspec

from unit.metal.http.client import Client, serving

PAGE = Path(__file__).parents[4] / "docs" / "handbook" / "metal-api-and-access.md"
REQUEST = re.compile(r"```text\n(PUT|POST) (/v1/\S+)\n(\{.*?\})\n(?:\n(\d+).*?)?```", re.DOTALL)
PROJECT = "0fcd2a8e-5b0a-4f33-9d0e-1c4a7d7f5b10"


async def prepare(client: Client) -> None:
    await client.put("/v1/tenant", {"meta": {"id": "acme"}, "name": "acme"})
    project = {"meta": {"id": PROJECT}, "name": "shop", "tenant_id": "acme"}
    assert (await client.put("/v1/project", project)).status == 201


def test_shown_requests_are_answered() -> None:
    async def scenario() -> None:
        async with serving() as client:
            await prepare(client)
            shown = REQUEST.findall(PAGE.read_text(encoding="utf-8"))
            assert [(method, path) for method, path, *_ in shown] == [
                ("PUT", "/v1/tenant"),
                ("PUT", "/v1/token"),
                ("POST", "/v1/audit/find"),
            ]
            for method, path, body, _status in shown:
                answer = await client.call(method, path, msgspec.json.decode(body))
                assert answer.status == (201 if method == "PUT" else 200), answer.body

    asyncio.run(scenario())
