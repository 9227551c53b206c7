# SPDX-License-Identifier: Apache-2.0
"""The handbook's page about machines says what the code does."""

import asyncio
import re
from pathlib import Path

import msgspec

from metropolis.metal.model.event import LOG_SHOWN_MAX, LOG_STORED_MAX, Event
from metropolis.metal.rules.issues import ISSUES
from metropolis.metal.rules.provisioning import EFFECTS, STATES, Effect, Keep
from unit.metal.machines.fleet import SSH_KEY, fleet

PAGE = Path(__file__).resolve().parents[4] / "docs" / "handbook" / "metal-machines.md"
_LETTERS = {Keep.STORED: "S", Keep.SEEN: "s", Keep.IGNORED: "x"}


def letters(effect: Effect) -> str:
    """An effect as the page writes it."""
    letter = _LETTERS[effect.keep]
    if effect.unexpected:
        letter = "!" if effect.keep is Keep.STORED else "?"
    return letter + {True: "+", False: "-", None: ""}[effect.crash_loop]


def table() -> str:
    """What every event does in every state."""
    head = ["state \\ event", *Event]
    rows = [
        [state or "*(none)*", *(letters(EFFECTS[state, event]) for event in Event)]
        for state in STATES
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def issues() -> str:
    """What can be wrong."""
    rows = [
        [f"`{each.id}`", each.severity.name.lower(), each.description, each.remedy]
        for each in ISSUES
    ]
    head = [["Issue", "Severity", "What it says", "What to do"], ["---"] * 4]
    return "\n".join("| " + " | ".join(row) + " |" for row in (*head, *rows))


def test_the_page_shows_the_table_of_events_and_the_issues() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert table() in page, table()
    assert issues() in page, issues()
    assert f"newest\n{LOG_SHOWN_MAX} events are answered, {LOG_STORED_MAX} are kept" in page


def test_the_request_of_the_page_gets_a_machine() -> None:
    page = PAGE.read_text(encoding="utf-8")
    ((method, path, body),) = re.findall(
        r"^```http\n([A-Z]+) (\S+)\n\n(.*?)^```", page, re.MULTILINE | re.DOTALL
    )

    async def scenario() -> None:
        async with fleet() as site:
            await site.boot(0)
            text = body.replace("NETWORK", site.network_id).replace("SSH_KEY", SSH_KEY)
            answer = await site.world.ok(method, path, msgspec.json.decode(text))
            assert answer["allocation"]["hostname"] == "worker-0"

    asyncio.run(scenario())
