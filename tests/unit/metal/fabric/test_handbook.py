# SPDX-License-Identifier: Apache-2.0
"""The handbook's examples, sent in their order to a site that was seeded."""

import re
from pathlib import Path

import msgspec

from unit.metal.http.client import Client
from unit.metal.inventory.site import run

PAGE = Path(__file__).resolve().parents[4] / "docs" / "handbook" / "metal-fabric.md"
EXAMPLES = re.findall(
    r"^```http\n([A-Z]+) (\S+)\n\n(.*?)^```",
    PAGE.read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)
CREATING = {"/v1/network/allocate", "/v1/ip/allocate", "/v1/switch/register"}


def test_the_examples_of_the_page_work_one_after_the_other() -> None:
    assert len(EXAMPLES) == 10

    async def scenario(client: Client) -> None:
        for method, path, body in EXAMPLES:
            answer = await client.call(method, path, msgspec.json.decode(body))
            creates = method == "PUT" or any(path.startswith(each) for each in CREATING)
            assert answer.status == (201 if creates else 200), (path, answer.body)
        switch = (await client.get("/v1/switch/leaf05")).json
        assert [each["nic"]["name"] for each in switch["connections"]] == ["swp1", "swp2"]

    run(scenario)
