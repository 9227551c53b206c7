# SPDX-License-Identifier: Apache-2.0
"""dm-verity's hash tree, version 1, SHA-256, blocks of 4096 bytes, no superblock.

    hash_tree(blocks, salt) -> VerityTree(tree, root_hash)

A tree's levels stand from the top to the bottom, as the kernel expects them at "hash start"; one
block of a level holds 128 hashes of blocks below it, the last is filled with zeros. The hash of a
block is SHA-256 over salt and block. Layout: Linux, admin-guide/device-mapper/verity.
"""

import hashlib
import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from metropolis.base.errors import DataLossError

BLOCK_BYTES: Final = 4096
HASH_BYTES: Final = 32
SALT_BYTES_MAX: Final = 256
HASHES_PER_BLOCK: Final = BLOCK_BYTES // HASH_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class VerityTree:
    """The tree of some data.

    Attributes:
        tree: Whole blocks; stands right behind the data.
        root_hash: SHA-256 of the tree's first block with the salt; the one thing to be trusted.
        data_blocks: How many blocks of 4096 bytes the data has.
    """

    tree: bytes
    root_hash: bytes
    data_blocks: int


def hash_tree(blocks: Iterable[bytes], salt: bytes) -> VerityTree:
    """Hash data that comes in pieces of whole blocks (each a multiple of 4096 bytes).

    Raises:
        ValueError: there are fewer than two blocks, or a piece is no whole number of them.
    """
    assert len(salt) <= SALT_BYTES_MAX
    level = b"".join(_hashes(blocks, salt))
    if len(level) < 2 * HASH_BYTES:
        raise ValueError("less than two blocks have no tree")
    data_blocks = len(level) // HASH_BYTES
    levels: list[bytes] = []
    while True:
        padded = level + bytes(-len(level) % BLOCK_BYTES)
        levels.append(padded)
        if len(padded) == BLOCK_BYTES:
            break
        level = b"".join(_hashes([padded], salt))
    root_hash = hashlib.sha256(salt + levels[-1]).digest()
    return VerityTree(tree=b"".join(reversed(levels)), root_hash=root_hash, data_blocks=data_blocks)


def tree_bytes(data_blocks: int) -> int:
    """Return how long the tree of so many blocks is."""
    total = 0
    count = data_blocks
    while True:
        count = -(-count // HASHES_PER_BLOCK)
        total += count
        if count <= 1:
            return total * BLOCK_BYTES


def verify(blocks: Iterable[bytes], *, tree: bytes, root_hash: bytes, salt: bytes) -> None:
    """Check that data and tree are those that a root hash stands for.

    Raises:
        DataLossError: they are not; says whether the data or the tree differs.
    """
    try:
        expected = hash_tree(blocks, salt)
    except ValueError as cause:
        raise _damaged("its length is wrong") from cause
    if not hmac.compare_digest(expected.root_hash, root_hash):
        same_tree = hmac.compare_digest(
            hashlib.sha256(salt + tree[:BLOCK_BYTES]).digest(), root_hash
        )
        raise _damaged("the data is damaged" if same_tree else "data or root hash differ")
    if not hmac.compare_digest(expected.tree, tree):
        raise _damaged("the hash tree is damaged")


def _hashes(pieces: Iterable[bytes], salt: bytes) -> Iterator[bytes]:
    salted = hashlib.sha256(salt)
    for piece in pieces:
        if len(piece) % BLOCK_BYTES:
            raise ValueError("a piece is no whole number of blocks")
        view = memoryview(piece)
        for offset in range(0, len(piece), BLOCK_BYTES):
            digest = salted.copy()
            digest.update(view[offset : offset + BLOCK_BYTES])
            yield digest.digest()


def _damaged(reason: str) -> DataLossError:
    return DataLossError(
        f"a system image does not match its root hash: {reason}",
        remedy="Fetch or build the image again.",
    )
