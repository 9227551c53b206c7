# SPDX-License-Identifier: Apache-2.0
"""The handbook's examples, sent as they stand there to a site that was seeded."""

import re
from pathlib import Path

import msgspec
import pytest

from unit.metal.http.client import Client
from unit.metal.inventory.site import run

PAGE = Path(__file__).resolve().parents[4] / "docs" / "handbook" / "metal-inventory.md"
EXAMPLES = re.findall(
    r"^```http\n([A-Z]+) (\S+)\n\n(.*?)^```",
    PAGE.read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)


def test_the_page_has_examples_of_everything_that_can_be_created() -> None:
    created = {path for method, path, _ in EXAMPLES if method == "PUT"}
    assert created == {
        "/v1/partition",
        "/v1/size",
        "/v1/size/reservations",
        "/v1/image",
        "/v1/size-image-constraint",
        "/v1/filesystemlayout",
    }


@pytest.mark.parametrize(("method", "path", "body"), EXAMPLES)
def test_an_example_of_the_page_works(method: str, path: str, body: str) -> None:
    async def scenario(client: Client) -> None:
        answer = await client.call(method, path, msgspec.json.decode(body))
        assert answer.status == (201 if method == "PUT" else 200), answer.body

    run(scenario)
