# SPDX-License-Identifier: Apache-2.0
"""The handbook's pages about the architecture and about messages say what the code does."""

from pathlib import Path

from metropolis.metal.boot import messages as boot
from metropolis.metal.boot.server import LIMITS, TCP_PORT
from metropolis.metal.boot.service import KEEPALIVE_S as WAIT_KEEPALIVE_S
from metropolis.metal.messages import delivery, outbox, subscribing
from metropolis.metal.messages.subscribers import BMC_AGENT, CONTROL_PLANE
from metropolis.metal.model.message import Command, EventType
from metropolis.metal.simulated.fleet import MACHINES_MAX
from metropolis.metal.simulated.machine import RETRY_S

HANDBOOK = Path(__file__).resolve().parents[4] / "docs" / "handbook"


def page(name: str) -> str:
    """A page on one line."""
    return " ".join((HANDBOOK / name).read_text(encoding="utf-8").split())


def test_the_architecture_says_how_long_and_how_much() -> None:
    text = page("metal-architecture.md")
    dead_s = LIMITS.ping_idle_s + LIMITS.ping_timeout_s
    for told in (
        f"a sign of life, every {WAIT_KEEPALIVE_S:g} s",
        f"asks again after {RETRY_S:g} s",
        f"found dead ({dead_s:g} s)",
        f"0.0.0.0:{TCP_PORT}",
        f"{boot.TEXT_LENGTH_MAX:,} characters of a name",
        f"({boot.COMMAND_LINE_LENGTH_MAX:,} of a command line)",
        f"{boot.PARTS_MAX:,} parts of a kind",
        f"{boot.EVENTS_MAX:,} events in a message",
        f"{boot.EVENT_MESSAGE_LENGTH_MAX:,} characters of an event's message",
        f"{LIMITS.message_bytes >> 20} MiB of a request",
        f"have ports for ({MACHINES_MAX})",
    ):
        assert told in text, told


def test_the_page_about_messages_says_what_there_is_and_how_long() -> None:
    text = page("metal-messages.md")
    for told in (
        f"comes again after {delivery.REDELIVER_AFTER_S:g} s",
        f"({delivery.IN_FLIGHT}, at most {delivery.IN_FLIGHT_MAX})",
        f"every {delivery.KEEPALIVE_S:g} s of silence",
        f"silent for {subscribing.SILENCE_MAX_S:g} s for dead",
        f"at most {outbox.RETENTION.days} days and {outbox.MESSAGES_MAX:,} in a topic",
        f"CN={BMC_AGENT}, OU=",
        f"O={CONTROL_PLANE}",
    ):
        assert told in text, told
    for command in Command:
        assert f"`{command}`" in text, command
    for kind in (EventType.COMMAND, EventType.DELETE, EventType.CREATE):
        assert f"| `{kind}` |" in text, kind
