# SPDX-License-Identifier: Apache-2.0
"""Which project a body speaks of, as the different entities say it."""

from typing import Final

import msgspec


class _Allocation(msgspec.Struct):
    project: str = ""


class _Body(msgspec.Struct):
    projectid: str = ""
    allocation: _Allocation | None = None


_DECODER: Final = msgspec.json.Decoder(_Body)


def project_in(body: bytes) -> str:
    """Return the project that a request is about, or an answer; empty when it names none."""
    if not body:
        return ""
    try:
        found = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return found.projectid or (found.allocation.project if found.allocation is not None else "")
