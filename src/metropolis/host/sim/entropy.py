# SPDX-License-Identifier: Apache-2.0
"""Randomness that a seed names."""

from random import Random
from typing import final

_SEED_BITS = 64


@final
class SimEntropy:
    """Bytes of a seeded generator: as secret as the seed, that is, not at all."""

    def __init__(self, seed: int) -> None:
        self._rng = Random(seed)  # noqa: S311  # a simulation wants the same bytes again

    def token_bytes(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        assert count >= 0
        return self._rng.randbytes(count)

    def jitter(self) -> Random:
        """Return a new generator, seeded by this one."""
        return Random(self._rng.getrandbits(_SEED_BITS))  # noqa: S311  # as above
