# SPDX-License-Identifier: Apache-2.0
"""Contents under a key that a TPM keeps, and the files they lie in."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.api.enrolment_pb2 import SealedContent, SealedKey
from metropolis.base.errors import DataLossError, FailedPreconditionError, MetropolisError
from metropolis.host.sim.entropy import SimEntropy
from metropolis.node.sealing.builder import parse_builder
from metropolis.node.sealing.envelope import Envelope, Kind, decode, encode
from metropolis.node.sealing.keeper import MemoryKeeper
from metropolis.node.sealing.sealer import Sealer

PATH = "esp/metropolis/some.pb"


def sealer(keeper: MemoryKeeper, seed: int = 1) -> Sealer:
    return Sealer(keeper, SimEntropy(seed))


def test_what_was_sealed_opens_after_a_start_and_nowhere_else() -> None:
    async def scenario() -> None:
        keeper = MemoryKeeper(b"one")
        sealed = await sealer(keeper).seal(PATH, b"content")
        assert b"content" not in sealed
        assert await sealer(keeper, 2).open(PATH, sealed) == b"content"
        with pytest.raises(DataLossError, match="is damaged"):
            await sealer(keeper, 2).open("esp/metropolis/other.pb", sealed)
        with pytest.raises(FailedPreconditionError, match="sealed by another TPM"):
            await sealer(MemoryKeeper(b"two")).open(PATH, sealed)

    asyncio.run(scenario())


def test_after_the_lock_only_who_has_opened_it_opens_it_again() -> None:
    async def scenario() -> None:
        keeper = MemoryKeeper(b"one")
        sealed = await sealer(keeper).seal(PATH, b"content")
        ours = sealer(keeper, 2)
        await ours.open(PATH, sealed)
        await ours.lock()
        assert await ours.open(PATH, sealed) == b"content"
        assert await ours.open(PATH, await ours.seal(PATH, b"newer")) == b"newer"
        with pytest.raises(MetropolisError, match="PCR 11"):
            await sealer(keeper, 3).open(PATH, sealed)

    asyncio.run(scenario())


def test_one_key_is_asked_of_the_tpm_however_often_something_is_sealed() -> None:
    async def scenario() -> None:
        ours = sealer(MemoryKeeper(b"one"))
        sealed = [SealedContent.FromString(await ours.seal(PATH, b"x")) for _ in range(3)]
        assert sealed[0].keys == sealed[1].keys == sealed[2].keys
        assert len({each.nonce for each in sealed}) == 3

    asyncio.run(scenario())


def test_either_of_two_keys_opens_a_file_and_the_last_problem_is_told_when_none_does() -> None:
    async def scenario() -> None:
        keeper = MemoryKeeper(b"one")
        sealed = SealedContent.FromString(await sealer(keeper).seal(PATH, b"content"))
        key = await keeper.unseal(sealed.keys[0])
        sealed.keys.append(await keeper.seal(key, secure_boot_register=b"\1" * 32))
        text = sealed.SerializeToString()
        for register in (bytes(32), b"\1" * 32):
            keeper.situation = replace(keeper.situation, secure_boot_register=register)
            assert await sealer(keeper, 2).open(PATH, text) == b"content"
        keeper.situation = replace(keeper.situation, secure_boot_register=b"\2" * 32)
        with pytest.raises(FailedPreconditionError, match=r"PCR 7 .* is 0202020202020202, and was"):
            await sealer(keeper, 3).open(PATH, text)

    asyncio.run(scenario())


@given(st.integers(0, 400), st.integers(1, 255))
def test_a_sealed_file_with_any_changed_byte_does_not_open(at: int, change: int) -> None:
    async def scenario() -> None:
        keeper = MemoryKeeper(b"one")
        sealed = bytearray(await sealer(keeper).seal(PATH, b"content"))
        position = at % len(sealed)
        sealed[position] ^= change
        try:
            opened = await sealer(keeper, 2).open(PATH, bytes(sealed))
        except MetropolisError:
            return
        assert opened == b"content"  # what was changed says only what the machine was

    asyncio.run(scenario())


def test_a_file_without_keys_is_damaged() -> None:
    async def scenario() -> None:
        for text in (b"", b"\xff\xff", SealedContent(keys=[SealedKey()]).SerializeToString()):
            with pytest.raises(MetropolisError):
                await sealer(MemoryKeeper(b"one")).open(PATH, text)

    asyncio.run(scenario())


@given(st.binary(max_size=200), st.sampled_from(list(Kind)))
def test_an_envelope_is_read_as_it_was_written(body: bytes, kind: Kind) -> None:
    assert decode(PATH, encode(PATH, Envelope(kind, body))) == Envelope(kind, body)


@given(st.integers(0, 60), st.integers(1, 255))
def test_an_envelope_with_any_changed_byte_is_damaged(at: int, change: int) -> None:
    text = bytearray(encode(PATH, Envelope(Kind.PLAIN, b"twenty bytes of text")))
    text[at % len(text)] ^= change
    with pytest.raises(DataLossError):
        decode(PATH, bytes(text))


@pytest.mark.parametrize("text", [b"", b"MTPF", b"\x0a\x03abc", bytes(100)])
def test_what_is_no_envelope_is_damaged(text: bytes) -> None:
    with pytest.raises(DataLossError):
        decode(PATH, text)


def test_an_envelope_is_whole_in_its_own_place_only() -> None:
    text = encode(PATH, Envelope(Kind.PLAIN, b"x"))
    with pytest.raises(DataLossError):
        decode("esp/metropolis/other.pb", text)


def test_the_envelope_of_a_newer_system_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metropolis.node.sealing.envelope.VERSION", 2)
    text = encode(PATH, Envelope(Kind.PLAIN, b"x"))
    monkeypatch.undo()
    with pytest.raises(FailedPreconditionError) as caught:
        decode(PATH, text)
    assert "newer system" in caught.value.remedy


@pytest.mark.parametrize("key", [b"", b"-----BEGIN PUBLIC KEY-----\n"])
def test_a_builder_without_a_key_is_refused(key: bytes) -> None:
    with pytest.raises(DataLossError, match="the image's key is none"):
        parse_builder(key, b"{}")
