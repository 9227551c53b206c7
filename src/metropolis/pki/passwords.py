# SPDX-License-Identifier: Apache-2.0
"""One-time passwords: 128 random bits that people can read to each other over a telephone.

    K3QX-7M2A-PLZN-44TD-WOVB-R6EH-YI        26 letters and digits of base32, in groups

What is random enough needs no slow hash: only HMAC-SHA256 by a salt of its own is kept.
"""

import base64
import binascii
import hmac
from dataclasses import dataclass, field
from typing import Final

from metropolis.host import Entropy

PASSWORD_BYTES: Final = 16
SALT_BYTES: Final = 16
_GROUP_CHARS: Final = 4
_TEXT_CHARS_MAX: Final = 128
_TEXT_CHARS: Final = 26
_MISREAD: Final = str.maketrans("018", "OIB")  # which base32 does not have
_PADDING: Final = "======"


@dataclass(frozen=True, slots=True, kw_only=True)
class HashedPassword:
    """What is kept of a password. Knowing it, nobody can show the password."""

    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    def is_shown_by(self, text: str) -> bool:
        """Tell in constant time whether somebody typed this password; garbage is just wrong."""
        secret = _read(text)
        typed = _digest(self.salt, secret or bytes(PASSWORD_BYTES))
        return hmac.compare_digest(typed, self.digest) and secret is not None


def new_password(entropy: Entropy) -> tuple[str, HashedPassword]:
    """Draw a password; return it as people type it, and what to keep."""
    secret, salt = entropy.token_bytes(PASSWORD_BYTES), entropy.token_bytes(SALT_BYTES)
    letters = base64.b32encode(secret).decode("ascii").rstrip("=")
    groups = [letters[at : at + _GROUP_CHARS] for at in range(0, len(letters), _GROUP_CHARS)]
    return "-".join(groups), HashedPassword(salt=salt, digest=_digest(salt, secret))


def _digest(salt: bytes, secret: bytes) -> bytes:
    return hmac.digest(salt, secret, "sha256")


def _read(text: str) -> bytes | None:
    """Return the bits of a typed password, forgiving what people do to such texts."""
    if len(text) > _TEXT_CHARS_MAX:
        return None
    letters = "".join(char for char in text if not char.isspace() and char != "-")
    letters = letters.upper().translate(_MISREAD)
    if len(letters) != _TEXT_CHARS or not letters.isascii():
        return None
    try:
        return base64.b32decode(letters + _PADDING)
    except binascii.Error:
        return None
