# SPDX-License-Identifier: Apache-2.0
"""Policy digests (part 1, 19.7), computed without asking a TPM.

A policy session begins with zeros; each command that the TPM accepts replaces its digest by a hash
of the digest and of what was accepted. An object opens to a session with exactly its digest.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

from metropolis.protocols.tpm2 import codes
from metropolis.protocols.tpm2.wire import u8, u16, u32

EMPTY: Final = bytes(codes.SHA256_BYTES)
_SELECT_BYTES: Final = 3  # a bit each for PCR 0 to 23


def pcr_selection(*indexes: int) -> bytes:
    """A TPML_PCR_SELECTION of registers of the SHA-256 bank."""
    bits = bytearray(_SELECT_BYTES)
    for index in indexes:
        bits[index // 8] |= 1 << (index % 8)
    return u32(1) + u16(codes.ALG_SHA256) + u8(_SELECT_BYTES) + bytes(bits)


def policy_pcr(digest: bytes, values: Mapping[int, bytes]) -> bytes:
    """What `digest` becomes when the registers have these values."""
    indexes = sorted(values)
    composite = hashlib.sha256(b"".join(values[each] for each in indexes)).digest()
    return _hash(digest, u32(codes.CC_POLICY_PCR), pcr_selection(*indexes), composite)


def policy_authorize(key_name: bytes) -> bytes:
    """What any digest becomes that the key's owner has signed."""
    return _hash(_hash(EMPTY, u32(codes.CC_POLICY_AUTHORIZE), key_name))


def _hash(*pieces: bytes) -> bytes:
    return hashlib.sha256(b"".join(pieces)).digest()
