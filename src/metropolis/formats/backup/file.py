# SPDX-License-Identifier: Apache-2.0
"""A backup as a stream of bytes: archive and sealing put together, in either direction."""

from collections.abc import Iterator
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from metropolis.formats.backup import sealing
from metropolis.formats.backup.archive import ArchiveReader, ArchiveWriter, Record
from metropolis.formats.backup.header import Header, damaged, decode_header, header_bytes

FILE_BYTES_MAX: Final = 1 << 30  # of everything we read or write; a store holds 2 GiB with history


class BackupWriter:
    """Makes a backup, record by record.

    Attributes:
        file_key: Opens this one file; for a rehearsal, never to be kept.

    Args:
        public_key: Recovery key, X25519 raw; its fingerprint must be the header's.
        ephemeral_secret: 32 random bytes of this one file.
    """

    def __init__(self, header: Header, *, public_key: bytes, ephemeral_secret: bytes) -> None:
        assert header.recovery_key_fingerprint == sealing.fingerprint(public_key)
        self._archive = ArchiveWriter(header)
        prologue = self._archive.prologue
        ephemeral, self.file_key = sealing.seal_to(public_key, prologue, ephemeral_secret)
        self._sealer = sealing.Sealer(self.file_key)
        self.beginning = prologue + ephemeral

    @property
    def count(self) -> int:
        """Records so far."""
        return self._archive.count

    def record(self, record: Record) -> Iterator[bytes]:
        """Take a record and yield the bytes that are complete. Keys must ascend. Exhaust it."""
        return self._sealer.feed(self._archive.record(record))

    def finish(self, ca_key: Ed25519PrivateKey) -> Iterator[bytes]:
        """Yield the end."""
        yield from self._sealer.feed(self._archive.finish(ca_key))
        yield self._sealer.finish()


class BackupReader:
    """Reads a backup as it arrives. Nothing it yields counts before `finish` has returned.

    Attributes:
        header: None until enough has arrived.

    Args:
        private_key: Recovery key, X25519 raw.
        file_key: Instead of it: what the writer of this very file still has.
    """

    def __init__(
        self, *, private_key: bytes | None = None, file_key: sealing.FileKey | None = None
    ) -> None:
        assert (private_key is None) is not (file_key is None), "one of the two opens it"
        self.header: Header | None = None
        self._private_key = private_key
        self._file_key = file_key
        self._beginning = bytearray()
        self._opener: sealing.Opener | None = None
        self._archive: ArchiveReader | None = None
        self._total_bytes = 0

    @property
    def count(self) -> int:
        """Records so far."""
        return 0 if self._archive is None else self._archive.count

    @property
    def digest(self) -> bytes:
        """SHA-256 of the content, once `finish` has returned."""
        assert self._archive is not None
        return self._archive.digest

    def feed(self, data: bytes) -> Iterator[Record]:
        """Take the next bytes and yield the records that are complete. Exhaust it.

        Raises:
            InvalidArgumentError: this is no backup.
            FailedPreconditionError: it is encrypted to another key.
            DataLossError: it is damaged.
        """
        self._total_bytes += len(data)
        if self._total_bytes > FILE_BYTES_MAX:
            raise damaged("it is larger than any can be")
        if self._opener is None or self._archive is None:
            self._beginning += data
            rest = self._open()
            if rest is None:
                return
            data = rest
        assert self._opener is not None
        assert self._archive is not None
        for piece in self._opener.feed(data):
            yield from self._archive.feed(piece)

    def finish(self) -> Iterator[Record]:
        """Yield the last records, then check the end, all but its signature. Exhaust it.

        Raises:
            DataLossError: the backup is cut or damaged.
        """
        if self._opener is None or self._archive is None:
            raise damaged("it is cut")
        yield from self._archive.feed(self._opener.finish())
        self._archive.finish()

    def check_signature(self, ca_public_key: bytes) -> None:
        """Check that a CA (raw Ed25519) has signed this. Only after `finish`.

        Raises:
            DataLossError: it has not.
        """
        assert self._archive is not None
        self._archive.check_signature(ca_public_key)

    def _open(self) -> bytes | None:
        length = header_bytes(self._beginning)
        if length is None or len(self._beginning) < length + sealing.KEY_BYTES:
            return None
        prologue = bytes(self._beginning[:length])
        ephemeral = bytes(self._beginning[length : length + sealing.KEY_BYTES])
        self.header = decode_header(prologue)
        key = self._file_key
        if key is None:
            assert self._private_key is not None
            key = sealing.open_with(
                self._private_key,
                prologue,
                ephemeral,
                sealed_for=self.header.recovery_key_fingerprint,
            )
        self._opener = sealing.Opener(key)
        self._archive = ArchiveReader(prologue)
        rest = bytes(self._beginning[length + sealing.KEY_BYTES :])
        self._beginning.clear()
        return rest
