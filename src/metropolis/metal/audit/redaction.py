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
# Whose password it is: a viewer, who may read the audit, may not know that of a BMC either.
_ACCOUNTS: Final = frozenset({"user", "username"})
_DEPTH_MAX: Final = 32


def redacted(body: bytes) -> str:
    """Return a JSON body as text with every secret struck out."""
    if not body:
        return ""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _UNREADABLE
    text = msgspec.json.encode(_Striking().struck(document, 0)).decode()
    return text if len(text) <= TEXT_CHARACTERS_MAX else text[:TEXT_CHARACTERS_MAX] + "…"


class _Striking:
    """Strikes out secrets and what would be cut off: megabytes must not keep others waiting."""

    def __init__(self) -> None:
        self._left = TEXT_CHARACTERS_MAX  # values; each is a character at least

    def struck(self, value: Any, depth: int) -> Any:  # noqa: ANN401  # any JSON
        """Return a value without secrets."""
        self._left -= 1
        if depth > _DEPTH_MAX:
            return STRUCK
        if isinstance(value, dict):
            kept: dict[str, Any] = {}
            fields = cast("dict[str, Any]", value)
            secret = _ACCOUNTS if "password" in fields else frozenset[str]()
            for name, each in fields.items():
                is_secret = (name in secret or _SECRET.search(name) is not None) and each
                kept[name] = STRUCK if is_secret else self.struck(each, depth + 1)
                if self._left < 0:
                    break
            return kept
        if isinstance(value, list):
            listed: list[Any] = []
            for each in cast("list[object]", value):
                listed.append(self.struck(each, depth + 1))
                if self._left < 0:
                    break
            return listed
        return value
