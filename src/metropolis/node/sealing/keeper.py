# SPDX-License-Identifier: Apache-2.0
"""Who keeps the key: the edge, and its twin in memory for simulations."""

import hashlib
from typing import Protocol, final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from metropolis.api.enrolment_pb2 import SealedKey
from metropolis.base.errors import MetropolisError
from metropolis.node.sealing.diagnosis import Situation, diagnose, locked


class Keeper(Protocol):
    """Gives a key of 32 bytes out again to the same machine in the same state."""

    async def seal(self, key: bytes, *, secure_boot_register: bytes | None = None) -> SealedKey:
        """Return what the key can be had for.

        Args:
            secure_boot_register: PCR 7 to which it opens; None: what it is now.
        """
        ...

    async def unseal(self, sealed: SealedKey) -> bytes:
        """Return the key.

        Raises:
            MetropolisError: it is not given out; the message says what changed.
        """
        ...

    async def lock(self) -> None:
        """Give nothing out any more until the machine starts again. May be repeated."""
        ...


@final
class MemoryKeeper:
    """A TPM as far as a node can tell. Change the attributes to make it another one.

    Attributes:
        situation: What it would measure now.
        is_locked: It gives nothing out until the machine starts again.
    """

    def __init__(self, secret: bytes) -> None:
        self.is_locked = False
        self.situation = Situation(
            root_key_name=hashlib.sha256(b"root" + secret).digest(),
            endorsement_key_name=hashlib.sha256(b"endorsement" + secret).digest(),
            secure_boot_register=bytes(32),
            builder_key_digest=bytes(32),
        )

    def start(self) -> None:
        """The machine starts again."""
        self.is_locked = False

    async def seal(self, key: bytes, *, secure_boot_register: bytes | None = None) -> SealedKey:
        now = self.situation
        register = secure_boot_register or now.secure_boot_register
        sealed = SealedKey(
            root_key_name=now.root_key_name,
            endorsement_key_name=now.endorsement_key_name,
            secure_boot_register=register,
            builder_key_digest=now.builder_key_digest,
        )
        sealed.private_area = self._cipher(now, register).encrypt(bytes(12), key, None)
        return sealed

    async def unseal(self, sealed: SealedKey) -> bytes:
        now = self.situation
        if self.is_locked:
            raise locked(bytes(32))
        try:
            cipher = self._cipher(now, now.secure_boot_register)
            return cipher.decrypt(bytes(12), sealed.private_area, None)
        except InvalidTag:
            error: MetropolisError = diagnose(sealed, now)
            raise error from None

    async def lock(self) -> None:
        self.is_locked = True

    def _cipher(self, now: Situation, register: bytes) -> AESGCM:
        names = now.root_key_name + now.builder_key_digest + register
        return AESGCM(hashlib.sha256(names).digest())
