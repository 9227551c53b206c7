# SPDX-License-Identifier: Apache-2.0
"""Bodies as the audit keeps them: without secrets, and not longer than needed."""

import re
from typing import Any, Final, cast

import msgspec

TEXT_CHARACTERS_MAX: Final = 16 * 1024
STRUCK: Final = "[redacted]"
_UNREADABLE: Final = "[not JSON, not kept]"
# Names of fields whose values nobody may read later. Public keys (`ssh_pub_keys`) are no secrets.
_SECRET: Final = re.compile(
    r"password|passwd|secret|token(?!_id)|user_?data|auth_?key|private_?key|access_?code"
    r"|credential",
    re.IGNORECASE,
)
_DEPTH_MAX: Final = 32


def redacted(body: bytes) -> str:
    """Return a JSON body as text with every secret struck out."""
    if not body:
        return ""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _UNREADABLE
    text = msgspec.json.encode(_struck(document, 0)).decode()
    return text if len(text) <= TEXT_CHARACTERS_MAX else text[:TEXT_CHARACTERS_MAX] + "…"


def _struck(value: Any, depth: int) -> Any:  # noqa: ANN401  # any JSON
    if depth > _DEPTH_MAX:
        return STRUCK
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return {
            name: STRUCK if _SECRET.search(name) is not None and each else _struck(each, depth + 1)
            for name, each in fields.items()
        }
    if isinstance(value, list):
        return [_struck(each, depth + 1) for each in cast("list[object]", value)]
    return value
