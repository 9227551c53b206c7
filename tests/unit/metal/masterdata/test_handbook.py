# SPDX-License-Identifier: Apache-2.0
"""The handbook's examples, sent in their order to an empty site."""

import asyncio
import re
from pathlib import Path

import msgspec

from unit.metal.http.client import serving

NAME = "metal-tenants-and-address-books.md"
PAGE = Path(__file__).resolve().parents[4] / "docs" / "handbook" / NAME
EXAMPLES = re.findall(
    r"^```http\n([A-Z]+) (\S+)\n\n(.*?)^```",
    PAGE.read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)


def test_the_examples_of_the_page_work_one_after_the_other() -> None:
    assert len(EXAMPLES) == 4

    async def scenario() -> None:
        async with serving() as client:
            answers = []
            for method, path, body in EXAMPLES:
                answer = await client.call(method, path, msgspec.json.decode(body))
                assert answer.status == (201 if method == "PUT" else 200), (path, answer.body)
                answers.append(answer.json)
            (found,) = answers[-1]
            assert found["meta"]["id"] == "acme"
            project = (await client.get("/v1/project/acme-shop")).json
            assert project["description"] == "Sells things."
            assert project["quotas"]["machine"] == {"quota": 10, "used": 0}

    asyncio.run(scenario())
