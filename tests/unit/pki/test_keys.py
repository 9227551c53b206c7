# SPDX-License-Identifier: Apache-2.0
import random
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from metropolis.base.errors import InvalidArgumentError, MetropolisError, chain
from metropolis.pki import keys, pem

SEEDS = st.binary(min_size=32, max_size=32)


class SeededEntropy:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def token_bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def jitter(self) -> random.Random:
        return self._random


def test_a_key_is_made_of_32_bytes_of_the_entropy_given() -> None:
    key = keys.generate_key(SeededEntropy(1))
    assert key.private_bytes_raw() == SeededEntropy(1).token_bytes(32)
    assert keys.raw_public_key(key) != keys.raw_public_key(keys.generate_key(SeededEntropy(2)))


def test_the_go_form_is_the_seed_and_the_public_key() -> None:
    # RFC 8032, section 7.1, test 1
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    public = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    key = Ed25519PrivateKey.from_private_bytes(seed)
    assert keys.to_go_form(key) == seed + public
    assert keys.raw_public_key(keys.from_go_form(seed + public)) == public


@given(SEEDS)
def test_every_form_comes_back(seed: bytes) -> None:
    key = Ed25519PrivateKey.from_private_bytes(seed)
    for again in (
        keys.from_go_form(keys.to_go_form(key)),
        keys.from_pkcs8_pem(keys.to_pkcs8_pem(key)),
        keys.from_owner_pem(keys.to_owner_pem(key)),
        keys.from_owner_pem(keys.to_owner_pem(key).encode()),
    ):
        assert again.private_bytes_raw() == seed


def test_the_owner_key_has_upstreams_label_and_64_bytes() -> None:
    text = keys.to_owner_pem(keys.generate_key(SeededEntropy(3)))
    assert text.startswith("-----BEGIN METROPOLIS INITIAL OWNER PRIVATE KEY-----\n")
    assert len(pem.decode("METROPOLIS INITIAL OWNER PRIVATE KEY", text)) == 64


@pytest.mark.parametrize("length", [0, 32, 63, 65])
def test_a_go_form_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(InvalidArgumentError, match="64 bytes"):
        keys.from_go_form(bytes(length))


def test_halves_of_different_keys_are_refused() -> None:
    one = keys.to_go_form(keys.generate_key(SeededEntropy(1)))
    two = keys.to_go_form(keys.generate_key(SeededEntropy(2)))
    with pytest.raises(InvalidArgumentError, match="do not belong together"):
        keys.from_go_form(one[:32] + two[32:])


def foreign_pems() -> list[str]:
    ed25519 = Ed25519PrivateKey.from_private_bytes(bytes(32))
    p256 = ec.generate_private_key(ec.SECP256R1())
    encrypted = BestAvailableEncryption(b"secret")
    return [
        p256.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        p256.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode(),
        ed25519.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encrypted).decode(),
        pem.encode("PRIVATE KEY", b"no key"),
        keys.to_owner_pem(ed25519),
        "",
    ]


@pytest.mark.parametrize("index", range(6))
def test_other_private_keys_are_refused(index: int) -> None:
    with pytest.raises(InvalidArgumentError, match="PEM"):
        keys.from_pkcs8_pem(foreign_pems()[index])


@given(SEEDS, st.integers(0, 200), st.characters(codec="ascii"))
def test_a_damaged_key_never_shows_in_the_error(seed: bytes, at: int, replacement: str) -> None:
    key = Ed25519PrivateKey.from_private_bytes(seed)
    for write, read in (
        (keys.to_pkcs8_pem, keys.from_pkcs8_pem),
        (keys.to_owner_pem, keys.from_owner_pem),
    ):
        text = write(key)
        at %= len(text)
        body = text.splitlines()[1]
        said = complaint(read, text[:at] + replacement + text[at + 1 :])
        for part in (body[:12], body[-12:], seed.hex()[:12]):
            assert part not in said


def complaint(read: Callable[[str], object], text: str) -> str:
    try:
        read(text)
    except MetropolisError as error:
        return f"{chain(error)} {error.remedy}"
    return ""
