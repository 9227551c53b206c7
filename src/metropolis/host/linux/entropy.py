# SPDX-License-Identifier: Apache-2.0
"""The kernel's random numbers."""

import os
from random import Random
from typing import final

_SEED_BYTES = 32


@final
class LinuxEntropy:
    """getrandom(2), which blocks until the kernel's pool is initialised, then never again."""

    def token_bytes(self, count: int) -> bytes:
        """Return `count` bytes fit for keys and secrets."""
        assert count >= 0
        token = b""
        while len(token) < count:  # one call may return less than asked above 256 bytes
            token += os.getrandom(count - len(token))
        return token

    def jitter(self) -> Random:
        """Return a new generator for back-off jitter: never for secrets."""
        return Random(os.getrandom(_SEED_BYTES))  # noqa: S311  # jitter needs speed, not secrecy
