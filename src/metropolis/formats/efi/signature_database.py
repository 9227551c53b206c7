# SPDX-License-Identifier: Apache-2.0
"""EFI_SIGNATURE_LIST: whom and what a firmware's Secure Boot believes.

PK, KEK, db and dbx each hold a sequence of lists; a list holds signatures of one kind and size,
each with the GUID of its owner. X.509 certificates (DER) and SHA-256 digests are understood, other
kinds are kept as they are.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from metropolis.base.errors import DataLossError

X509: Final = UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
SHA256: Final = UUID("c1c41626-504c-4092-aca9-41f936934328")

_LIST: Final = struct.Struct("<16sIII")
_OWNER_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class EfiSignature:
    """One certificate or digest.

    Attributes:
        kind: `X509`, `SHA256`, or another SignatureType.
        owner: Who put it there; of no effect.
        data: DER of the certificate, or the 32 bytes of the digest.
    """

    kind: UUID
    owner: UUID
    data: bytes


def encode(signatures: Sequence[EfiSignature]) -> bytes:
    """Return the value of a database.

    Neighbours of one kind and size share a list; the order stays.
    """
    lists: list[list[EfiSignature]] = []
    for signature in signatures:
        if lists and _fits(lists[-1][0], signature):
            lists[-1].append(signature)
        else:
            lists.append([signature])
    return b"".join(_encode_list(each) for each in lists)


def decode(value: bytes) -> Sequence[EfiSignature]:
    """Return the signatures of a database in their order.

    Raises:
        DataLossError: it is cut or damaged.
    """
    return tuple(_decode(value))


def _fits(first: EfiSignature, other: EfiSignature) -> bool:
    return first.kind == other.kind and len(first.data) == len(other.data)


def _encode_list(signatures: Sequence[EfiSignature]) -> bytes:
    size = _OWNER_BYTES + len(signatures[0].data)
    head = _LIST.pack(signatures[0].kind.bytes_le, _LIST.size + size * len(signatures), 0, size)
    return head + b"".join(each.owner.bytes_le + each.data for each in signatures)


def _decode(value: bytes) -> Iterator[EfiSignature]:
    offset = 0
    while offset < len(value):
        if len(value) - offset < _LIST.size:
            raise _damaged(offset)
        kind, list_bytes, header_bytes, size = _LIST.unpack_from(value, offset)
        start = offset + _LIST.size + header_bytes
        end = offset + list_bytes
        if not start <= end <= len(value) or size < _OWNER_BYTES or (end - start) % size:
            raise _damaged(offset)
        for at in range(start, end, size):
            yield EfiSignature(
                kind=UUID(bytes_le=kind),
                owner=UUID(bytes_le=value[at : at + _OWNER_BYTES]),
                data=value[at + _OWNER_BYTES : at + size],
            )
        offset = end


def _damaged(offset: int) -> DataLossError:
    return DataLossError(
        f"a Secure Boot database of the firmware is damaged at byte {offset}",
        remedy="Reset the Secure Boot keys in the firmware's menu, then enrol again.",
    )
