# SPDX-License-Identifier: Apache-2.0
"""A signature that changes something counts once, on all replicas together.

Whoever sees a request could send it again while its date is good: neither path nor body is signed,
so a harmless POST would do for any other. What was used is remembered in the database until the
date alone refuses it.
"""

from datetime import UTC, datetime
from typing import Final

from metropolis.base.errors import UnauthenticatedError
from metropolis.metal.access.hmac import Proof
from metropolis.metal.store import Transaction

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SLACK_US: Final = 60_000_000  # clocks of replicas differ
_REMEMBER: Final = (
    "INSERT INTO used_signature (digest, expires_us) VALUES ($1, $2) ON CONFLICT DO NOTHING"
)
_FORGET: Final = "DELETE FROM used_signature WHERE expires_us < $1"


async def remember(tx: Transaction, proof: Proof) -> None:
    """Use a signature up.

    Raises:
        UnauthenticatedError: it was used before.
    """
    expires_us = microseconds(proof.expires) + _SLACK_US
    if not await tx.execute(_REMEMBER, proof.digest, expires_us):
        raise UnauthenticatedError(
            "this signature was used before",
            remedy="Sign every request anew, with a new salt.",
        )


async def forget(tx: Transaction) -> int:
    """Forget the signatures that their dates refuse by now; return how many."""
    return await tx.execute(_FORGET, microseconds(tx.now))


def microseconds(moment: datetime) -> int:
    """Return a time as whole microseconds since 1970."""
    passed = moment - _EPOCH
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds
