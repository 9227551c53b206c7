# SPDX-License-Identifier: Apache-2.0
"""Contents under a key that a keeper keeps. One per start of the machine: it remembers the key.

What it has opened once it opens again, though the keeper is locked by then: the node's tree is
built anew when an address changes, and the disk must open again then.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import DecodeError

from metropolis.api.enrolment_pb2 import SealedContent, SealedKey
from metropolis.base.errors import DataLossError, MetropolisError
from metropolis.host import Entropy
from metropolis.node.sealing.keeper import Keeper

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_PURPOSE: Final = b"metropolis sealed file 1\0"


@final
class Sealer:
    """Seals and opens the contents of files."""

    def __init__(self, keeper: Keeper, entropy: Entropy) -> None:
        self._keeper = keeper
        self._entropy = entropy
        self._known: dict[bytes, bytes] = {}  # a SealedKey as it stands in files -> the key
        self._current: tuple[Sequence[SealedKey], bytes] | None = None
        self._lock = asyncio.Lock()

    async def seal(self, path: str, content: bytes) -> bytes:
        """Return a content that only this machine opens.

        Args:
            path: Of the file; it opens nowhere else.
        """
        async with self._lock:
            if self._current is None:
                key = self._entropy.token_bytes(KEY_BYTES)
                self._remember((await self._keeper.seal(key),), key)
            assert self._current is not None
            keys, key = self._current
        nonce = self._entropy.token_bytes(_NONCE_BYTES)
        ciphertext = AESGCM(key).encrypt(nonce, content, _PURPOSE + path.encode())
        sealed = SealedContent(keys=keys, nonce=nonce, ciphertext=ciphertext)
        return sealed.SerializeToString(deterministic=True)

    async def open(self, path: str, sealed: bytes) -> bytes:
        """Return the content of a file.

        Raises:
            MetropolisError: the TPM does not give out its key; the message says what changed.
            DataLossError: the file is damaged, or another file.
        """
        try:
            parsed = SealedContent.FromString(sealed)
        except DecodeError:
            raise _damaged(path) from None
        async with self._lock:
            key = await self._key(path, parsed.keys)
            if self._current is None:
                self._remember(parsed.keys, key)
        try:
            purpose = _PURPOSE + path.encode()
            return AESGCM(key).decrypt(parsed.nonce, parsed.ciphertext, purpose)
        except (InvalidTag, ValueError):
            raise _damaged(path) from None

    async def lock(self) -> None:
        """Have the keeper give nothing out any more until the machine starts again."""
        async with self._lock:
            await self._keeper.lock()

    async def _key(self, path: str, keys: Sequence[SealedKey]) -> bytes:
        for each in keys:
            known = self._known.get(_text(each))
            if known is not None:
                return known
        problem: MetropolisError = _damaged(path)
        for each in keys:
            try:
                key = await self._keeper.unseal(each)
            except MetropolisError as error:
                if error.retryable:
                    raise
                problem = error
            else:
                self._known[_text(each)] = key
                return key
        raise problem

    def _remember(self, keys: Sequence[SealedKey], key: bytes) -> None:
        self._current = (tuple(keys), key)
        self._known.update((_text(each), key) for each in keys)


def _damaged(path: str) -> DataLossError:
    return DataLossError(
        f"{path} is damaged",
        remedy="Delete the node with `metroctl node delete`, wipe the machine, and install it "
        "again.",
    )


def _text(key: SealedKey) -> bytes:
    return key.SerializeToString(deterministic=True)
