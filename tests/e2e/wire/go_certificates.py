# SPDX-License-Identifier: Apache-2.0
"""Certificates as upstream's Go clients make and judge them. Knows nothing of our own PKI."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

NEVER: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
CA_NAME: Final = "Metropolis Cluster CA"
SERVER_AUTH: Final = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT_AUTH: Final = ExtendedKeyUsageOID.CLIENT_AUTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a client shows: its key, and one certificate for it."""

    key: Ed25519PrivateKey
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...] = ()  # sent after it; no sane client does

    @property
    def raw_key(self) -> bytes:
        return raw_public_key(self.certificate)

    def with_certificate(self, der: bytes) -> "Identity":
        return replace(self, certificate=x509.load_der_x509_certificate(der))


def new_ephemeral(
    key: Ed25519PrivateKey | None = None, *, not_before: datetime | None = None
) -> Identity:
    """Mint the certificate with which Go clients prove a key and nothing else."""
    key = key or Ed25519PrivateKey.generate()
    nobody = x509.Name([])
    usage = x509.KeyUsage(
        digital_signature=True, key_encipherment=True, key_cert_sign=True, crl_sign=False,
        content_commitment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        x509.CertificateBuilder()
        .subject_name(nobody)
        .issuer_name(nobody)
        .serial_number(1)
        .public_key(key.public_key())
        .not_valid_before(not_before or datetime.now(UTC).replace(microsecond=0))
        .not_valid_after(NEVER)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([CLIENT_AUTH]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, None)
    )
    return Identity(key=key, certificate=certificate)


def of_another_cluster() -> Identity:
    """An owner, of a cluster whose CA has the same name: they all have."""
    authority, key = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "owner")]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, CA_NAME)]))
        .serial_number(2)
        .public_key(key.public_key())
        .not_valid_before(datetime(2025, 1, 1, tzinfo=UTC))
        .not_valid_after(NEVER)
        .add_extension(x509.ExtendedKeyUsage([CLIENT_AUTH]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(authority, None)
    )
    return Identity(key=key, certificate=certificate)


def raw_public_key(certificate: x509.Certificate) -> bytes:
    """The 32 bytes of an Ed25519 key; no other kind exists here."""
    key = certificate.public_key()
    assert isinstance(key, Ed25519PublicKey)
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def node_id_of(raw_key: bytes) -> str:
    """The id that follows from a node's key."""
    return "metropolis-" + raw_key[:16].hex()


def check_ca(ca: x509.Certificate) -> None:
    """Check a cluster's CA as Go does before it trusts it."""
    assert common_name(ca) == CA_NAME
    assert basic_constraints(ca).ca
    usage = key_usage(ca)
    assert usage.key_cert_sign
    assert usage.crl_sign
    assert usage.digital_signature
    assert ca.not_valid_after_utc == NEVER
    ca.verify_directly_issued_by(ca)


def check_node(certificate: x509.Certificate, ca: x509.Certificate) -> str:
    """Check a node's certificate as upstream's clients do in the handshake; return its id."""
    _check_leaf(certificate, ca)
    node_id = node_id_of(raw_public_key(certificate))
    assert SERVER_AUTH in extended_usages(certificate)
    assert common_name(certificate) == node_id
    assert dns_names(certificate) == [node_id]
    return node_id


def check_user(certificate: x509.Certificate, ca: x509.Certificate) -> str:
    """Check a user's certificate; return the identity."""
    _check_leaf(certificate, ca)
    assert extended_usages(certificate) == [CLIENT_AUTH]
    return common_name(certificate)


def _check_leaf(certificate: x509.Certificate, ca: x509.Certificate) -> None:
    certificate.verify_directly_issued_by(ca)
    assert not basic_constraints(certificate).ca
    assert len(raw_public_key(certificate)) == 32


def basic_constraints(certificate: x509.Certificate) -> x509.BasicConstraints:
    return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value


def key_usage(certificate: x509.Certificate) -> x509.KeyUsage:
    return certificate.extensions.get_extension_for_class(x509.KeyUsage).value


def extended_usages(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def common_name(certificate: x509.Certificate) -> str:
    (attribute,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(attribute.value)


def dns_names(certificate: x509.Certificate) -> list[str]:
    """The alternative names, which must all be DNS names."""
    try:
        extension = certificate.extensions.get_extension_for_oid(
            ExtensionOID.SUBJECT_ALTERNATIVE_NAME
        )
    except x509.ExtensionNotFound:
        return []
    names = extension.value
    assert isinstance(names, x509.SubjectAlternativeName)
    assert all(isinstance(name, x509.DNSName) for name in names)
    return [str(name.value) for name in names]
