# SPDX-License-Identifier: Apache-2.0
"""The name of a request: as the client gave it, or a new UUIDv7."""

import re
import uuid
from datetime import datetime
from typing import Final

from metropolis.metal.http.exchange import Exchange
from metropolis.metal.site import Site

_PLAIN: Final = re.compile(r"[!-~]{1,128}")
_RANDOM_BYTES: Final = 10


def request_id_of(exchange: Exchange, site: Site) -> str:
    """Return the id that the client sent, unless it would not fit into a log line; or a new one."""
    given = exchange.headers.get(b"x-request-id")
    if given is not None:
        text = given.decode("latin-1")
        if _PLAIN.fullmatch(text) is not None:
            return text
    return new_uuid7(site.clock.wall(), site.entropy.token_bytes(_RANDOM_BYTES))


def new_uuid7(now: datetime, random: bytes) -> str:
    """Return a UUID that sorts by time.

    Args:
        random: 10 bytes.
    """
    milliseconds = int(now.timestamp() * 1000) & ((1 << 48) - 1)
    number = (milliseconds << 80) | int.from_bytes(random)
    number = number & ~(0xF << 76) | (0x7 << 76)
    number = number & ~(0x3 << 62) | (0x2 << 62)
    return str(uuid.UUID(int=number))
