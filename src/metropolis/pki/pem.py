# SPDX-License-Identifier: Apache-2.0
"""PEM armour, exactly as Go's encoding/pem writes it: one block, 64 columns, no headers."""

import base64
import binascii
import re
from typing import Final

from metropolis.base.errors import InvalidArgumentError

CERTIFICATE: Final = "CERTIFICATE"
CRL: Final = "X509 CRL"

_COLUMNS: Final = 64
_TEXT_CHARS_MAX: Final = 32 << 10  # a certificate of the greatest size we read, armoured
_BLOCK: Final = re.compile(
    r"\s*-----BEGIN (?P<begin>[A-Z0-9 ]+)-----\s+(?P<body>[A-Za-z0-9+/=\s]*?)\s*"
    r"-----END (?P<end>[A-Z0-9 ]+)-----\s*"
)


def encode(label: str, data: bytes) -> str:
    """Armour `data` as one PEM block."""
    text = base64.b64encode(data).decode("ascii")
    lines = [text[start : start + _COLUMNS] for start in range(0, len(text), _COLUMNS)]
    return "\n".join((f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""))


def decode(label: str, text: str | bytes) -> bytes:
    """Return what the one PEM block in `text` holds. The error never quotes the content.

    Raises:
        InvalidArgumentError: not exactly one block of that label.
    """
    error = InvalidArgumentError(
        f"not exactly one PEM block of type {label}",
        remedy=f"Give a text that starts with -----BEGIN {label}----- and holds nothing else.",
    )
    if len(text) > _TEXT_CHARS_MAX:
        raise error
    if isinstance(text, bytes):
        text = text.decode("utf-8", errors="replace")
    block = _BLOCK.fullmatch(text)
    if block is None or block["begin"] != label or block["end"] != label:
        raise error
    try:
        return base64.b64decode("".join(block["body"].split()), validate=True)
    except binascii.Error:
        raise error from None
