# SPDX-License-Identifier: Apache-2.0
"""Secrets of 32 bytes: never printed, compared in constant time, checked for length."""

import hmac
from dataclasses import dataclass, field
from typing import ClassVar, Final, Self

from typing_extensions import override

from metropolis.base.errors import InvalidArgumentError
from metropolis.host import Entropy

SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True, eq=False)
class Secret:
    """Exactly 32 secret bytes. Subclasses say of what; different kinds are never equal.

    Not hashable: a dictionary lookup would compare byte by byte.

    Raises:
        InvalidArgumentError: not 32 bytes.
    """

    data: bytes = field(repr=False)

    NOUN: ClassVar[str] = "a secret"

    def __post_init__(self) -> None:
        if len(self.data) != SECRET_BYTES:
            raise InvalidArgumentError(
                f"{self.NOUN} has {SECRET_BYTES} bytes, this one has {len(self.data)}",
                remedy="Give it whole, as the cluster or the node produced it.",
            )

    @classmethod
    def generate(cls, entropy: Entropy) -> Self:
        """Draw a new one."""
        return cls(entropy.token_bytes(SECRET_BYTES))

    @override
    def __eq__(self, other: object) -> bool:
        """Compare in constant time."""
        if type(self) is not type(other):
            return NotImplemented
        assert isinstance(other, Secret)
        return hmac.compare_digest(self.data, other.data)

    __hash__ = None  # type: ignore[assignment]  # see above
