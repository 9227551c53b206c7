# SPDX-License-Identifier: Apache-2.0
"""Hostile bytes: one kind of error, and never acceptance of what was changed."""

from datetime import UTC, datetime
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from metropolis.base.errors import InvalidArgumentError, UnauthenticatedError
from metropolis.pki import certificates, identity
from metropolis.pki.reading import CERTIFICATE_BYTES_MAX, read_certificate

KEY: Final = Ed25519PrivateKey.from_private_bytes(b"L" * 32)
PUBLIC: Final = KEY.public_key().public_bytes_raw()
CA: Final = certificates.issue_cluster_ca(
    Ed25519PrivateKey.from_private_bytes(b"C" * 32), serial=11
)
NODE: Final = certificates.issue_node(CA, PUBLIC, serial=21)
OWNER: Final = certificates.issue_user(CA, PUBLIC, identity="owner", serial=22)
EPHEMERAL: Final = certificates.issue_ephemeral(KEY)
NOW: Final = datetime(2031, 1, 1, tzinfo=UTC)

VERIFY_NODE: Final = identity.server_verifier(CA.certificate)


def assert_refused(der: bytes) -> None:
    """Nothing accepts these bytes, and nothing but our errors comes out."""
    with pytest.raises(UnauthenticatedError) as no_server:
        VERIFY_NODE(der)
    with pytest.raises(UnauthenticatedError) as no_user:
        identity.user_identity(der, CA.certificate, now=NOW)
    assert no_server.value.remedy
    assert no_user.value.remedy
    assert identity.self_signed_key(der) is None


@pytest.mark.parametrize("der", [NODE, OWNER, EPHEMERAL], ids=["node", "owner", "ephemeral"])
def test_every_flipped_bit_is_noticed(der: bytes) -> None:
    for bit in range(len(der) * 8):
        changed = bytearray(der)
        changed[bit // 8] ^= 1 << bit % 8
        assert_refused(bytes(changed))


@pytest.mark.parametrize("der", [NODE, OWNER, EPHEMERAL], ids=["node", "owner", "ephemeral"])
def test_every_truncation_and_addition_is_noticed(der: bytes) -> None:
    for length in range(len(der)):
        assert_refused(der[:length])
    for tail in (b"\x00", b"\x05\x00", der):
        assert_refused(der + tail)


@given(st.binary(max_size=600))
def test_random_bytes_are_refused(der: bytes) -> None:
    assert_refused(der)


@given(
    st.sampled_from([NODE, OWNER, EPHEMERAL, CA.certificate]),
    st.lists(
        st.tuples(st.integers(0, 400), st.integers(0, 8), st.binary(max_size=8)),
        min_size=1,
        max_size=4,
    ),
)
def test_spliced_certificates_are_refused(der: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    changed = der
    for at, removed, inserted in edits:
        changed = changed[:at] + inserted + changed[at + removed :]
    if changed != der:
        assert_refused(changed)


@pytest.mark.parametrize("length", [CERTIFICATE_BYTES_MAX + 1, 4 << 20])
def test_oversized_certificates_are_not_even_parsed(length: int) -> None:
    with pytest.raises(InvalidArgumentError, match="longer than 16384"):
        read_certificate(NODE + bytes(length - len(NODE)))


def self_signed_with(
    extension: x509.ExtensionType | None, *, name: x509.Name, serial: int
) -> bytes:
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(serial)
        .not_valid_before(NOW)
        .not_valid_after(NOW)
    )
    if extension is not None:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(KEY, None).public_bytes(Encoding.DER)


JUDGED_EXTENSIONS: Final = (
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    ExtensionOID.NAME_CONSTRAINTS,
    ExtensionOID.CERTIFICATE_POLICIES,
    ExtensionOID.PRECERT_SIGNED_CERTIFICATE_TIMESTAMPS,
)


@given(st.sampled_from(JUDGED_EXTENSIONS), st.binary(max_size=60))
def test_garbage_in_a_well_signed_extension_gives_a_key_or_none(
    oid: x509.ObjectIdentifier, value: bytes
) -> None:
    der = self_signed_with(x509.UnrecognizedExtension(oid, value), name=x509.Name([]), serial=1)
    assert identity.self_signed_key(der) in (PUBLIC, None)
    with pytest.raises(UnauthenticatedError):
        VERIFY_NODE(der)


@given(st.text(min_size=1, max_size=64).filter(lambda text: len(text.encode()) <= 64))
def test_odd_names_of_self_signed_certificates_do_not_matter(text: str) -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
    assert identity.self_signed_key(self_signed_with(None, name=name, serial=1)) == PUBLIC


def test_a_certificate_without_extensions_is_read() -> None:
    facts = read_certificate(self_signed_with(None, name=x509.Name([]), serial=1))
    said = (facts.is_ca, facts.is_server, facts.is_client, facts.signs_certificates)
    assert not any(said)
    assert facts.dns_names == ()
    assert facts.common_names == ()


def test_what_the_library_would_only_tolerate_is_refused() -> None:
    # Serial number 0 costs the library a deprecation warning, and us the certificate.
    der = self_signed_with(None, name=x509.Name([]), serial=1)
    at = der.index(b"\x02\x01\x01\x30\x05\x06\x03\x2b\x65\x70")  # serial, then Ed25519
    zero = der[: at + 2] + b"\x00" + der[at + 3 :]
    with pytest.raises(InvalidArgumentError):
        read_certificate(zero)


def test_a_node_certificate_is_read_as_it_was_written() -> None:
    facts = read_certificate(NODE)
    assert facts.public_key == PUBLIC
    assert facts.serial == 21
    assert facts.is_server
    assert not facts.is_client
    assert facts.common_names == facts.dns_names
    assert facts.signed_bytes in NODE
    assert (facts.not_before, facts.not_after) == (
        certificates.FOREVER.not_before,
        certificates.FOREVER.not_after,
    )
