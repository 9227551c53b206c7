# SPDX-License-Identifier: Apache-2.0
"""The file of a backup: what goes in comes out, and nothing else does."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from metropolis.base.errors import (
    DataLossError,
    FailedPreconditionError,
    InvalidArgumentError,
    MetropolisError,
)
from metropolis.formats.backup.archive import KEY_BYTES_MAX, ArchiveWriter, Record, read_archive
from metropolis.formats.backup.file import BackupReader, BackupWriter
from metropolis.formats.backup.header import MAGIC, Header, encode_header
from metropolis.formats.backup.sealing import (
    CHUNK_BYTES,
    TAG_BYTES,
    FileKey,
    Opener,
    Sealer,
    check_public_key,
    fingerprint,
    open_with,
    public_key_of,
    seal_to,
)

CA = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
CA_PUBLIC = CA.public_key().public_bytes_raw()
RECOVERY = b"\x02" * 32
SEALED_CHUNK = CHUNK_BYTES + TAG_BYTES
HEADER = Header(
    generation=7,
    revision=4711,
    created=datetime(2026, 11, 20, 11, 30, tzinfo=UTC),
    ca_fingerprint=b"\x03" * 32,
    cluster_domain="cluster.internal",
    recovery_key_fingerprint=fingerprint(public_key_of(RECOVERY)),
)

contents = st.dictionaries(
    st.binary(min_size=1, max_size=40), st.binary(max_size=3 * CHUNK_BYTES // 2), max_size=6
).map(lambda found: [Record(key, found[key]) for key in sorted(found)])


def written(records: Iterable[Record], *, ca: Ed25519PrivateKey = CA) -> bytes:
    writer = BackupWriter(HEADER, public_key=public_key_of(RECOVERY), ephemeral_secret=b"\x04" * 32)
    pieces = [writer.beginning]
    for record in records:
        pieces += writer.record(record)
    return b"".join((*pieces, *writer.finish(ca)))


def read(
    data: bytes, *, step: int = 1 << 20, private_key: bytes = RECOVERY
) -> tuple[Header, list[Record]]:
    reader = BackupReader(private_key=private_key)
    found: list[Record] = []
    for start in range(0, len(data), step):
        found += reader.feed(data[start : start + step])
    found += reader.finish()
    reader.check_signature(CA_PUBLIC)
    assert reader.header is not None
    return reader.header, found


def plain(records: Sequence[Record]) -> bytes:
    writer = ArchiveWriter(HEADER)
    pieces = [writer.prologue, *(writer.record(each) for each in records), writer.finish(CA)]
    return b"".join(pieces)


@cache
def small() -> bytes:
    return written([Record(b"a", b"one"), Record(b"b", b""), Record(b"c/d", b"\0" * 9)])


@cache
def large() -> bytes:
    return written([Record(b"%03d" % each, bytes([each]) * 5000) for each in range(60)])


@settings(deadline=None, max_examples=60)
@given(records=contents, step=st.sampled_from([997, SEALED_CHUNK, 1 << 20]))
def test_what_was_written_is_read_whatever_the_pieces(records: list[Record], step: int) -> None:
    assert read(written(records), step=step) == (HEADER, records)


def test_a_backup_arrives_byte_by_byte() -> None:
    assert read(small(), step=1) == read(small())


def test_the_same_inputs_give_the_same_bytes() -> None:
    assert written([Record(b"a", b"one")]) == written([Record(b"a", b"one")])


@pytest.mark.parametrize("bit", [0, 7])
def test_one_bit_flipped_anywhere_is_refused_with_a_reason(bit: int) -> None:
    for position in range(len(small())):
        broken = bytearray(small())
        broken[position] ^= 1 << bit
        with pytest.raises(MetropolisError) as refusal:
            read(bytes(broken))
        assert refusal.value.remedy, position


def test_a_file_cut_anywhere_is_refused() -> None:
    for length in range(len(small())):
        with pytest.raises(DataLossError):
            read(small()[:length])


def test_a_file_cut_between_chunks_is_refused() -> None:
    beginning = len(encode_header(HEADER)) + 32
    for chunks in range(4):
        with pytest.raises(DataLossError):
            read(large()[: beginning + chunks * SEALED_CHUNK])


def test_swapped_repeated_and_removed_chunks_are_refused() -> None:
    beginning = len(encode_header(HEADER)) + 32
    first, second, third = (
        large()[beginning + at * SEALED_CHUNK : beginning + (at + 1) * SEALED_CHUNK]
        for at in range(3)
    )
    rest = large()[beginning + 3 * SEALED_CHUNK :]
    for order in (
        [second, first, third],
        [first, third, second],
        [first, first, third],
        [first, third],
        [first, second, third, third],
    ):
        with pytest.raises(DataLossError, match="chunk"):
            read(b"".join([large()[:beginning], *order, rest]))


def test_what_follows_the_end_is_refused() -> None:
    with pytest.raises(DataLossError):
        read(small() + b"\0")
    with pytest.raises(DataLossError):
        read(small() + small())


def test_a_chunk_of_another_file_is_refused() -> None:
    beginning = len(encode_header(HEADER)) + 32
    other = bytearray(large())
    writer = BackupWriter(HEADER, public_key=public_key_of(RECOVERY), ephemeral_secret=b"\x05" * 32)
    chunks = b"".join(
        piece
        for each in range(60)
        for piece in writer.record(Record(b"%03d" % each, bytes([each]) * 5000))
    )
    other[beginning : beginning + SEALED_CHUNK] = chunks[:SEALED_CHUNK]
    with pytest.raises(DataLossError, match="chunk 0"):
        read(bytes(other))


def test_chunks_themselves_tell_that_the_last_one_is_missing() -> None:
    key = FileKey(bytes(32))
    opener = Opener(key)
    whole = [*Sealer(key).feed(bytes(3 * CHUNK_BYTES))]
    assert len(whole) == 2
    opened = [piece for chunk in whole for piece in opener.feed(chunk)]
    assert len(opened) == 1
    with pytest.raises(DataLossError):
        opener.finish()


def test_the_key_of_a_file_is_bound_to_its_header() -> None:
    public_key, ephemeral_secret = public_key_of(RECOVERY), b"\x04" * 32
    ephemeral, key = seal_to(public_key, b"one header", ephemeral_secret)
    sealed = key.seal(0, b"content", is_last=True)
    same, other = (
        open_with(RECOVERY, header, ephemeral, sealed_for=fingerprint(public_key))
        for header in (b"one header", b"another header")
    )
    assert same.open(0, sealed, is_last=True) == b"content"
    with pytest.raises(DataLossError):
        other.open(0, sealed, is_last=True)


def test_a_writer_that_miscounts_is_noticed() -> None:
    writer = ArchiveWriter(HEADER)
    pieces = [writer.prologue, writer.record(Record(b"a", b"one"))]
    writer.count += 1
    with pytest.raises(DataLossError, match="1 records, and says that it has 2"):
        read_archive(b"".join((*pieces, writer.finish(CA))))


@settings(deadline=None, max_examples=300)
@given(header=st.binary(max_size=200), rest=st.binary(max_size=200))
def test_whatever_comes_is_refused_with_a_reason(header: bytes, rest: bytes) -> None:
    beginning = MAGIC + b"\1" + len(header).to_bytes(4, "big") + header
    for data in (rest, beginning + rest, small()[:120] + rest):
        with pytest.raises(MetropolisError) as refusal:
            read(data)
        assert refusal.value.remedy


@settings(deadline=None, max_examples=300)
@given(data=st.binary(max_size=300))
def test_whatever_was_encrypted_is_refused_unless_it_is_an_archive(data: bytes) -> None:
    prologue = encode_header(HEADER)
    with pytest.raises(MetropolisError):
        read_archive(prologue + data)
    ephemeral, key = seal_to(public_key_of(RECOVERY), prologue, b"\x04" * 32)
    sealer = Sealer(key)
    with pytest.raises(MetropolisError):
        read(b"".join([prologue, ephemeral, *sealer.feed(data), sealer.finish()]))


def test_another_header_on_the_same_content_is_refused() -> None:
    newer = encode_header(replace(HEADER, generation=8))
    with pytest.raises(DataLossError):
        read(newer + small()[len(encode_header(HEADER)) :])


def test_another_recovery_key_is_told_apart_from_damage() -> None:
    with pytest.raises(FailedPreconditionError, match="recovery key"):
        read(small(), private_key=b"\x06" * 32)


def test_something_else_is_no_backup() -> None:
    for data in (b"\x7fELF\x02\x01\x01", b"METROPOLIS BACKUQ\n", MAGIC[:-1] + b"\r"):
        with pytest.raises(InvalidArgumentError, match="no backup"):
            read(data + bytes(100))


def test_a_version_of_the_future_is_named() -> None:
    newer = MAGIC + b"\x02" + small()[len(MAGIC) + 1 :]
    with pytest.raises(InvalidArgumentError, match="version 2"):
        read(newer)


def test_who_only_knows_the_public_key_cannot_forge_a_backup() -> None:
    forged = written([Record(b"a", b"one")], ca=Ed25519PrivateKey.from_private_bytes(b"\x09" * 32))
    with pytest.raises(DataLossError, match="not signed"):
        read(forged)


def test_every_byte_of_a_plain_archive_counts_too() -> None:
    data = plain([Record(b"a", b"one"), Record(b"b", b"two")])
    header, reader, records = read_archive(data)
    reader.check_signature(CA_PUBLIC)
    assert (header, [each.key for each in records]) == (HEADER, [b"a", b"b"])
    for position in range(len(data)):
        broken = bytearray(data)
        broken[position] ^= 1
        with pytest.raises(MetropolisError):
            read_archive(bytes(broken))[1].check_signature(CA_PUBLIC)
    for length in range(len(data)):
        with pytest.raises(DataLossError):
            read_archive(data[:length])


def test_keys_out_of_order_and_impossible_lengths_are_refused() -> None:
    one, two = (ArchiveWriter(HEADER) for _ in range(2))
    pieces = [one.prologue, one.record(Record(b"b", b"")), two.record(Record(b"a", b""))]
    with pytest.raises(DataLossError, match="order"):
        read_archive(b"".join(pieces))
    huge = (KEY_BYTES_MAX + 1).to_bytes(4, "big") + bytes(4)
    with pytest.raises(DataLossError, match="longer"):
        read_archive(one.prologue + huge)


def test_memory_is_bounded_by_a_chunk_and_a_record() -> None:
    key = FileKey(bytes(32))
    sealer, opener = Sealer(key), Opener(key)
    in_flight = received = 0
    for _ in range(300):
        for sealed in sealer.feed(bytes(10_000)):
            in_flight = max(in_flight, len(sealed))
            for opened in opener.feed(sealed):
                received += len(opened)
                in_flight = max(in_flight, len(opened))
    received += sum(map(len, opener.feed(sealer.finish()))) + len(opener.finish())
    assert received == 300 * 10_000
    assert in_flight <= SEALED_CHUNK


@pytest.mark.parametrize("bad", [b"", bytes(31), bytes(32), b"\1" + bytes(31)])
def test_a_public_key_that_hides_nothing_is_no_recovery_key(bad: bytes) -> None:
    with pytest.raises(InvalidArgumentError):
        check_public_key(bad)


def test_records_do_not_show_their_values() -> None:
    assert "secret" not in repr(Record(b"a", b"secret"))
