# SPDX-License-Identifier: Apache-2.0
"""Signatures of requests that only read, for as long as their dates are good.

They may be sent again: nothing comes of that. But the path is not signed, so whoever saw one could
send it to the one `GET` that answers a secret. There it is refused when this replica has seen it
with another request; what only another replica saw is refused when it is used there a second time
(see `salts`). In memory, bounded, in two generations of which the older is dropped as a whole.
"""

from datetime import datetime, timedelta
from typing import Final

from metropolis.metal.access.hmac import Proof

GENERATION_MAX: Final = 100_000


class SeenSignatures:
    """What was seen lately."""

    def __init__(self, *, generation_max: int = GENERATION_MAX) -> None:
        self._generation_max = generation_max
        self._older: set[bytes] = set()
        self._newer: set[bytes] = set()
        self._turned: datetime | None = None

    def add(self, proof: Proof, *, now: datetime, lifetime: timedelta) -> None:
        """Remember a signature.

        Args:
            lifetime: The longest that any signature is good for, from the past to the future.
        """
        if self._turned is None:
            self._turned = now
        is_old = now - self._turned >= lifetime
        if is_old or len(self._newer) >= self._generation_max:
            self._older, self._newer = self._newer, set()
            self._turned = now
        self._newer.add(proof.digest)

    def __contains__(self, proof: Proof) -> bool:
        """Whether it was seen before."""
        return proof.digest in self._newer or proof.digest in self._older
