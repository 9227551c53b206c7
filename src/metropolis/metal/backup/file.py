# SPDX-License-Identifier: Apache-2.0
"""One backup as a file.

    magic 13 bytes │ format u8 │ length u32 │ header (JSON) │ chunk 0 │ … │ last chunk
      └──────────── bound by the key ─────────────────────┘  └─ zlib( record record … ) ─┘

    key     = HKDF-SHA-256(secret, salt of the header, info = a fixed text || SHA-256(all before))
    chunk n = ChaCha20-Poly1305, as in `formats.backup.sealing`: order, end and content are genuine
    record  = length u32 │ msgpack: ["table", name, columns] │ ["rows", rows] │ ["end", counts]

All numbers are big-endian. The key belongs to one file, since its salt does.
"""

import hashlib
import hmac
import struct
import zlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, BinaryIO, Final

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from metropolis.base.errors import DataLossError, FailedPreconditionError, InvalidArgumentError
from metropolis.formats.backup.sealing import FileKey, Opener, Sealer

MAGIC: Final = b"METAL BACKUP\n"
FORMAT: Final = 1
SECRET_BYTES: Final = 32
SALT_BYTES: Final = 32
HEADER_BYTES_MAX: Final = 4096
_FIXED: Final = struct.Struct(">BI")
_LENGTH: Final = struct.Struct(">I")
_INFO: Final = b"metropolis metal backup, format 1\0"
_READ_BYTES: Final = 64 << 10
_LEVEL: Final = 6


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup says of itself in clear.

    Attributes:
        schema_version: Of the database.
        revision: Of the store; everything is as of this one.
        created: UTC.
        key_id: Tells secrets apart without telling them, hex.
        salt: Of this file alone, hex.
    """

    schema_version: int
    revision: int
    created: datetime
    key_id: str
    salt: str


def damaged(reason: str) -> DataLossError:
    """Return what a damaged backup is refused with."""
    return DataLossError(
        f"this backup is damaged: {reason}",
        remedy="Use another one: `metropolis metal backup list` names those there are.",
    )


def key_id(secret: bytes) -> str:
    """Return by what a secret is recognised, 16 hex digits."""
    return hmac.digest(secret, _INFO + b"id", "sha256")[:8].hex()


def parse_secret(text: bytes) -> bytes:
    """Read a secret as its file holds it: 64 hex digits.

    Raises:
        InvalidArgumentError: it is something else.
    """
    try:
        secret = bytes.fromhex(text.decode("ascii"))
    except (UnicodeDecodeError, ValueError):
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise InvalidArgumentError(
            "the key of the backups is not 64 hexadecimal digits",
            remedy="Make one with `metropolis metal backup keygen FILE`.",
        )
    return secret


def _file_key(secret: bytes, salt: bytes, prologue: bytes) -> FileKey:
    info = _INFO + hashlib.sha256(prologue).digest()
    return FileKey(HKDF(SHA256(), length=32, salt=salt, info=info).derive(secret))


class BackupWriter:
    """Writes a backup, record by record.

    Args:
        header: Its `key_id` must be the secret's.
    """

    def __init__(self, file: BinaryIO, header: Header, secret: bytes) -> None:
        assert header.key_id == key_id(secret)
        body = msgspec.json.encode(header)
        assert len(body) <= HEADER_BYTES_MAX
        prologue = MAGIC + _FIXED.pack(FORMAT, len(body)) + body
        file.write(prologue)
        self._file = file
        self._sealer = Sealer(_file_key(secret, bytes.fromhex(header.salt), prologue))
        self._compressor = zlib.compressobj(_LEVEL)
        self._counts: dict[str, int] = {}
        self._table = ""

    def table(self, name: str, columns: Sequence[str]) -> None:
        """Begin a table."""
        self._table = name
        self._counts[name] = 0
        self._record(["table", name, list(columns)])

    def rows(self, rows: Sequence[Sequence[Any]]) -> None:
        """Add rows to the table begun last: integers, texts, bytes, null."""
        self._counts[self._table] += len(rows)
        self._record(["rows", [list(row) for row in rows]])

    def finish(self) -> None:
        """Write the end."""
        self._record(["end", self._counts])
        self._feed(self._compressor.flush())
        self._file.write(self._sealer.finish())

    def _record(self, record: object) -> None:
        body = msgspec.msgpack.encode(record)
        self._feed(self._compressor.compress(_LENGTH.pack(len(body)) + body))

    def _feed(self, data: bytes) -> None:
        for chunk in self._sealer.feed(data):
            self._file.write(chunk)


def read_header(file: BinaryIO) -> tuple[Header, bytes]:
    """Read the beginning of a backup; return what it says, and its bytes.

    Raises:
        InvalidArgumentError: it has a format that we do not know.
        DataLossError: it is damaged, or no backup at all.
    """
    fixed = file.read(len(MAGIC) + _FIXED.size)
    if not fixed.startswith(MAGIC):
        raise damaged("it does not begin as a backup does")
    if len(fixed) < len(MAGIC) + _FIXED.size:
        raise damaged("it is cut")
    number, length = _FIXED.unpack_from(fixed, len(MAGIC))
    if number != FORMAT:
        raise InvalidArgumentError(
            f"this backup has format {number}, this program knows {FORMAT}",
            remedy="Use the release that wrote it, or a newer one.",
        )
    body = file.read(length) if length <= HEADER_BYTES_MAX else b""
    if len(body) != length:
        raise damaged("its header is cut")
    try:
        header = msgspec.json.decode(body, type=Header)
        salt = bytes.fromhex(header.salt)
    except (msgspec.DecodeError, ValueError) as cause:
        raise damaged("its header cannot be read") from cause
    if len(salt) != SALT_BYTES:
        raise damaged("its header cannot be read")
    return header, fixed + body


def read_records(file: BinaryIO, header: Header, prologue: bytes, secret: bytes) -> Iterator[Any]:
    """Yield ["table", …] and ["rows", …] records of a file that stands behind its header.

    Nothing it yields counts before it has ended without an error.

    Raises:
        FailedPreconditionError: the backup is encrypted with another key.
        DataLossError: it is damaged.
    """
    if not hmac.compare_digest(header.key_id, key_id(secret)):
        raise FailedPreconditionError(
            f"this backup is encrypted with key {header.key_id}, and this is {key_id(secret)}",
            remedy="Give the file of the key that it was made with: --key-file.",
        )
    counts: dict[str, int] = {}
    name = ""
    end: object = None
    for record in _records(file, _file_key(secret, bytes.fromhex(header.salt), prologue)):
        if end is not None:
            raise damaged("something follows its end")
        match record:
            case ["table", str(name), list()]:
                counts[name] = 0
                yield record
            case ["rows", list()] if name:
                counts[name] += len(record[1])
                yield record
            case ["end", dict()]:
                end = record[1]
            case _:
                raise damaged("it holds what no backup holds")
    if end != counts:
        raise damaged("rows are missing")


def _records(file: BinaryIO, key: FileKey) -> Iterator[Any]:
    buffer = bytearray()
    decompressor = zlib.decompressobj()
    try:
        for data in _opened(file, key):
            buffer += decompressor.decompress(data)
            while len(buffer) >= _LENGTH.size:
                end = _LENGTH.size + int(_LENGTH.unpack_from(buffer)[0])
                if len(buffer) < end:
                    break
                record = bytes(buffer[_LENGTH.size : end])
                del buffer[:end]
                yield msgspec.msgpack.decode(record)
    except DataLossError as cause:
        raise damaged("it was cut or changed") from cause
    except (zlib.error, msgspec.DecodeError) as cause:
        raise damaged("its content cannot be read") from cause
    if buffer or not decompressor.eof:
        raise damaged("its content is cut")


def _opened(file: BinaryIO, key: FileKey) -> Iterator[bytes]:
    opener = Opener(key)
    while data := file.read(_READ_BYTES):
        yield from opener.feed(data)
    yield opener.finish()
