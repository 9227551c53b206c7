# SPDX-License-Identifier: Apache-2.0
"""What a TPM answers when it does not do what it was asked (part 2, TPM_RC)."""

from enum import Enum
from typing import Final

from metropolis.base.errors import FailedPreconditionError

_FORMAT_ONE: Final = 0x80  # the code also says which handle, session or parameter it is about
_FORMAT_ONE_MASK: Final = 0xBF


class Refusal(Enum):
    """Answers that somebody tells apart; `OTHER` is all the rest."""

    POLICY_FAIL = 0x09D
    PCR_CHANGED = 0x128
    VALUE = 0x084
    SIGNATURE = 0x09B
    INTEGRITY = 0x09F
    LOCKOUT = 0x921
    YIELDED = 0x908
    TESTING = 0x90A
    NV_RATE = 0x920
    RETRY = 0x922
    INITIALIZE = 0x100
    OTHER = 0


# The same command works a moment later.
PASSING: Final = frozenset({Refusal.YIELDED, Refusal.TESTING, Refusal.NV_RATE, Refusal.RETRY})


class TpmRefusalError(FailedPreconditionError):
    """The TPM refused a command.

    Attributes:
        kind: Why, as far as anybody needs to know.
        response_code: As the TPM said it.
    """

    def __init__(self, what: str, response_code: int) -> None:
        self.kind = refusal(response_code)
        self.response_code = response_code
        reason = self.kind.name.lower().replace("_", " ")
        super().__init__(
            f"the TPM refused {what}: {reason}, response code {response_code:#05x}",
            remedy="Power the machine off and on; clear the TPM in its firmware if that is in "
            "vain, and install the machine again.",
        )


def refusal(response_code: int) -> Refusal:
    """Strip off which handle or parameter is meant, and name the rest."""
    code = response_code
    if code & _FORMAT_ONE:
        code &= _FORMAT_ONE_MASK
    try:
        return Refusal(code)
    except ValueError:
        return Refusal.OTHER
