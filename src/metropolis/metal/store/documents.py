# SPDX-License-Identifier: Apache-2.0
"""Entities as rows: JSON texts, microseconds, facet values."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from metropolis.base.errors import DataLossError, InvalidArgumentError
from metropolis.metal.store.interface import Kind, Scalar, Stored

EntityT = TypeVar("EntityT", bound=msgspec.Struct)

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
FACET_BYTES_MAX: Final = 512  # PostgreSQL indexes nothing above 2,704 bytes
ID_BYTES_MAX: Final = 1024
_MICROSECOND: Final = timedelta(microseconds=1)
_encoder: Final = msgspec.json.Encoder()


class Facet(NamedTuple):
    """One value by which an entity is found."""

    name: str
    value: str
    is_unique: bool


def to_us(moment: datetime) -> int:
    """Return the microseconds since 1970, UTC."""
    return (moment - EPOCH) // _MICROSECOND


def from_us(moment_us: int) -> datetime:
    """Return the moment so many microseconds after 1970, UTC."""
    return EPOCH + timedelta(microseconds=moment_us)


@lru_cache
def _decoder(shape: type[msgspec.Struct]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(shape)


def encode(value: msgspec.Struct) -> str:
    """Return a document's JSON."""
    return _encoder.encode(value).decode()


def stored(kind: Kind[EntityT], row: Sequence[Any]) -> Stored[EntityT]:
    """Read a row (id, revision, created, changed, doc).

    Raises:
        DataLossError: the document does not fit its kind.
    """
    key, revision, created_us, changed_us, doc = row
    try:
        value = _decoder(kind.type).decode(doc)
    except (msgspec.DecodeError, ValueError) as cause:
        raise DataLossError(
            f"the stored {kind.name} {key!r} cannot be read: {cause}",
            remedy="Use the release that wrote it, or restore a backup.",
        ) from cause
    return Stored(
        kind=kind,
        id=key,
        value=value,
        revision=revision,
        created=from_us(created_us),
        changed=from_us(changed_us),
    )


def check_key(kind: Kind[Any], key: str) -> None:
    """Refuse an id that a database cannot hold.

    Raises:
        InvalidArgumentError: it is empty, too long, or holds what no text may.
    """
    if not key:
        raise InvalidArgumentError(f"a {kind.name} needs an id", remedy="Give it an id.")
    if not is_storable(key) or len(key.encode()) > ID_BYTES_MAX:
        raise InvalidArgumentError(
            f"this id of a {kind.name} is too long or has characters that no id can have",
            remedy=f"Use at most {ID_BYTES_MAX} bytes of printable text.",
        )


def is_storable(text: str) -> bool:
    """Tell whether a text can be a key: no NUL, no lone surrogate."""
    if "\0" in text:
        return False
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def facet_value(value: Scalar) -> str:
    """Return a facet's value as it is stored; long ones as their hash."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    raw = text.encode(errors="surrogatepass")
    if len(raw) > FACET_BYTES_MAX or not is_storable(text):
        return "sha256:" + hashlib.sha256(raw).hexdigest()
    return text


def facets_of(kind: Kind[EntityT], value: EntityT) -> dict[Facet, None]:
    """Return by what an entity is found: an ordered set."""
    found: dict[Facet, None] = {}
    for name, look in kind.facets.items():
        values = look(value)
        assert not isinstance(values, str), f"facet {name} of {kind.name} must return a sequence"
        is_unique = name in kind.unique
        for each in values:
            found[Facet(name, facet_value(each), is_unique)] = None
    return found
