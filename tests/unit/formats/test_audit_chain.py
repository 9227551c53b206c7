# SPDX-License-Identifier: Apache-2.0
"""No change to a chain of records goes unnoticed: of one bit, of one record, of their order."""

from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from metropolis.api.audit_pb2 import OUTCOME_DONE, Actor, Head, Record
from metropolis.base.errors import DataLossError, InvalidArgumentError
from metropolis.cluster.planner.audit import excess, grow
from metropolis.formats.audit.chain import (
    GENESIS,
    RECORD_BYTES_MAX,
    decode,
    encode,
    extend,
    hash_of,
    head_text,
    parse_head,
    shortened,
)
from metropolis.formats.audit.verification import Break, Stored, verify

texts = st.text(max_size=40)
records = st.builds(
    lambda sentence, who, method: Record(
        actor=Actor(kind=Actor.KIND_USER, identity=who),
        method=method,
        outcome=OUTCOME_DONE,
        sentence=sentence,
    ),
    texts,
    texts,
    texts,
)


def chain_of(written: Sequence[Record]) -> tuple[list[Stored], Head]:
    head, stored = Head(), []
    for record in written:
        head, data = extend(head, record)
        stored.append((head.sequence, data))
    return stored, head


chains = st.lists(records, min_size=1, max_size=8).map(chain_of)


def broken(stored: Sequence[Stored], end: Head) -> Break | None:
    return verify(stored, end=end).broken


@given(chains)
def test_what_was_written_verifies(chain: tuple[list[Stored], Head]) -> None:
    stored, head = chain
    verdict = verify(stored, end=head)
    assert verdict.broken is None
    assert (verdict.records, verdict.first, verdict.last) == (len(stored), 1, len(stored))
    for position, data in stored:
        assert encode(decode(data)) == data
        noted = Head(sequence=position, hash=hash_of(data))
        assert verify(stored, [noted, Head(hash=GENESIS)], end=head).broken is None


@given(chains, st.data())
def test_every_bit_counts_and_the_record_is_named(
    chain: tuple[list[Stored], Head], data: st.DataObject
) -> None:
    stored, head = chain
    index = data.draw(st.integers(0, len(stored) - 1))
    position, before = stored[index]
    bit = data.draw(st.integers(0, len(before) * 8 - 1))
    changed = bytearray(before)
    changed[bit // 8] ^= 1 << bit % 8
    stored[index] = (position, bytes(changed))
    found = broken(stored, head)
    assert found is not None
    assert found.position == position


@given(chains, st.data())
def test_a_record_cannot_be_removed(chain: tuple[list[Stored], Head], data: st.DataObject) -> None:
    stored, head = chain
    index = data.draw(st.integers(0, len(stored) - 1))
    gone, _ = stored.pop(index)
    found = broken(stored, head)
    assert found is not None
    assert gone in {found.position, found.position - 1}


@given(chains, records, st.data())
def test_a_record_cannot_be_inserted(
    chain: tuple[list[Stored], Head], record: Record, data: st.DataObject
) -> None:
    stored, head = chain
    index = data.draw(st.integers(0, len(stored)))
    before = Head() if index == 0 else Head(sequence=index, hash=hash_of(stored[index - 1][1]))
    end, forged = extend(before, record)
    moved = [(position + 1, data) for position, data in stored[index:]]
    found = broken([*stored[:index], (end.sequence, forged), *moved], head)
    assert found is not None


@given(chains, st.data())
def test_records_cannot_change_places(
    chain: tuple[list[Stored], Head], data: st.DataObject
) -> None:
    stored, head = chain
    order = data.draw(st.permutations(range(len(stored))))
    assume(list(order) != sorted(order))
    under_keys = [
        (position, stored[other][1]) for (position, _), other in zip(stored, order, strict=True)
    ]
    assert broken(under_keys, head) is not None
    assert broken([stored[other] for other in order], head) is not None


@given(chains, chains)
def test_a_chain_written_anew_is_noticed_by_a_head_kept_elsewhere(
    chain: tuple[list[Stored], Head], other: tuple[list[Stored], Head]
) -> None:
    kept, (forged, forged_head) = chain[1], other
    assume(chain[0] != forged[: len(chain[0])])
    assert broken(forged, forged_head) is None  # whoever writes the whole store can do that
    assert verify(forged, [kept], end=forged_head).broken is not None


@given(st.integers(1, 200), st.integers(8, 70))
def test_dropping_the_oldest_leaves_a_chain_that_verifies(count: int, kept_max: int) -> None:
    head = Head()
    stored: dict[int, bytes] = {}
    for number in range(count):
        dropped = excess(head, new=1, records_max=kept_max)
        last = stored.get(dropped[-1]) if dropped else None
        growth = grow(head, [Record(sentence=str(number))], dropped, last)
        for sequence in growth.dropped:
            del stored[sequence]
        stored.update(growth.added)
        head = growth.head
        assert len(stored) <= max(kept_max, 2)
        assert sorted(stored) == list(range(head.first, head.sequence + 1))
    kept = sorted(stored.items())
    assert broken(kept, head) is None
    if len(kept) > 1:
        assert broken(kept[1:], head) is not None  # one more than the checkpoint says
    if head.first > 1:
        long_gone = Head(sequence=head.first - 2, hash=bytes(32))
        if long_gone.sequence:
            found = verify(kept, [long_gone], end=head).broken
            assert found is not None
            assert "it was dropped, so nothing can be said about it" in found.reason


def test_the_reasons_are_sentences() -> None:
    stored, head = chain_of([Record(sentence=str(number)) for number in range(5)])

    def reason(changed: Sequence[Stored], end: Head = head) -> tuple[int, str]:
        found = broken(changed, end)
        assert found is not None
        return found.position, found.reason

    assert reason(stored[:3]) == (5, "it is missing: the chain ends at record 3")
    assert reason([]) == (5, "it is missing: the chain ends at record 0")
    assert reason([*stored[:1], *stored[3:]]) == (4, "records are missing before it: 2 to 3")
    assert reason([*stored[:1], *stored[2:]]) == (3, "records are missing before it: 2")
    assert reason(stored[1:]) == (
        2,
        "older records are missing, and no checkpoint says that they were dropped",
    )
    swapped = [stored[0], (2, stored[2][1]), (3, stored[1][1]), *stored[3:]]
    assert reason(swapped) == (2, "it says that it is record 3")
    forged = Record(sequence=3, previous=hash_of(stored[1][1]), sentence="forged")
    assert reason([*stored[:2], (3, encode(forged)), *stored[3:]]) == (
        3,
        "it was changed: record 4 names another hash for it",
    )
    assert reason([*stored[:2], (3, b"\xff\xff"), *stored[3:]]) == (3, "it cannot be read")
    assert reason([*stored[:2], (3, stored[2][1] + b"\xa2\x06\x00"), *stored[3:]])[0] == 3
    last = Record(sequence=5, previous=hash_of(stored[3][1]), sentence="forged")
    assert reason([*stored[:4], (5, encode(last))]) == (
        5,
        "its hash is another than the one that was noted for it",
    )
    more = extend(head, Record(sentence="more"))[1]
    assert reason([*stored, (6, more)]) == (6, "it comes after the end of the log, record 5")


def test_a_record_has_a_largest_size() -> None:
    record = Record(
        sequence=1 << 63,
        previous=bytes(32),
        actor=Actor(kind=Actor.KIND_USER, identity="u" * 64, address="f" * 45),
        object="ö" * 200,
        method="m" * 200,
        sentence="ä" * 5000,
    )
    record.actor.key_fingerprint = bytes(32)
    stored = encode(record)
    assert len(stored) <= RECORD_BYTES_MAX
    assert decode(stored).sentence.endswith("…")
    assert decode(stored).object == "ö" * 200


@given(st.binary(max_size=64))
def test_bytes_from_anywhere_are_records_or_refused(data: bytes) -> None:
    with suppress(DataLossError):
        assert encode(decode(data)) == data


@given(st.integers(0, (1 << 64) - 1), st.binary(min_size=32, max_size=32))
def test_a_head_survives_paper(sequence: int, hash_: bytes) -> None:
    head = Head(sequence=sequence, hash=hash_)
    assert parse_head(f" {head_text(head).upper()}\n") == head


@pytest.mark.parametrize("text", ["", "1", ":" + "0" * 64, "1:00", f"{1 << 64}:" + "0" * 64])
def test_what_is_no_head_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="is no head of the audit log"):
        parse_head(text)


def test_a_checkpoint_vouches_for_one_record_only() -> None:
    head = Head()
    stored: dict[int, bytes] = {}
    for number in range(9):
        growth = grow(head, [Record(sentence=str(number))], (), None)
        stored.update(growth.added)
        head = growth.head
    for vouched in (None, stored[2]):  # where it should be the third
        growth = grow(head, [Record(sentence="more")], range(1, 4), vouched)
        kept = {**stored, **dict(growth.added)}
        found = broken(sorted(kept.items())[3:], growth.head)
        assert found == Break(
            position=4, reason="the record before it is not the one that was dropped last"
        )


def test_a_record_has_one_form_only() -> None:
    with pytest.raises(DataLossError, match="not in the form in which records are written"):
        decode(b"\x4a\x01a" + b"\x08\x01")  # its fields in another order


def test_what_the_format_promises_is_written_here_once_more() -> None:
    assert bytes(32) == GENESIS
    assert RECORD_BYTES_MAX == 1024
    assert parse_head(f"{(1 << 64) - 1}:" + "0" * 64).sequence == (1 << 64) - 1


@pytest.mark.parametrize("length", range(700, 900))
def test_no_more_is_cut_than_does_not_fit(length: int) -> None:
    record = Record(sequence=1, previous=bytes(32), object="o" * 150, sentence="s" * length)
    whole = record.SerializeToString(deterministic=True)
    stored = encode(record)
    assert len(stored) <= RECORD_BYTES_MAX
    assert (stored == whole) == (len(whole) <= RECORD_BYTES_MAX)
    assert decode(stored).object == record.object
    assert len(stored) >= min(len(whole), RECORD_BYTES_MAX - 3)


def test_a_text_is_shortened_to_eight_bytes_at_least() -> None:
    assert shortened("x" * 20, 5) == "x" * 12 + "…"
    assert shortened("x" * 20, 500) == "x" * 8 + "…"
    assert shortened("x" * 8, 500) == "x" * 8
    assert shortened("äöü" * 5, 1) == "äöü" * 4 + "ä…"
