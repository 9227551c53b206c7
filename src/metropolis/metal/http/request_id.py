# SPDX-License-Identifier: Apache-2.0
"""The name of a request: as the client gave it, or a new UUIDv7."""

import re
from typing import Final

from metropolis.metal.http.exchange import Exchange
from metropolis.metal.ids import new_uuid7
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
