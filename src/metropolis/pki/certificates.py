# SPDX-License-Identifier: Apache-2.0
"""Templates: what each kind of certificate of a cluster says. Pure and deterministic.

Ed25519 signatures are deterministic, so the same inputs give the same bytes: a step of an
enrolment can be repeated after a lost reply.

    cluster CA --+-- node        CN = DNS = node id     serverAuth
                 +-- user        CN = identity          clientAuth
    etcd CA -----+-- etcd peer   CN = DNS = node id     clientAuth, serverAuth
    (itself) ------- ephemeral   empty subject          clientAuth     proves a key, nothing else

All but ordinary users' are valid from 2000 to 9999: they end by revocation, and a cluster whose
clocks are wrong must still come up. AuthorityKeyId is the issuer's SubjectKeyId, which only CAs
carry; what signs itself carries none.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from cryptography.x509.oid import NameOID

from metropolis.base.ids import node_id_from_public_key
from metropolis.host import Entropy
from metropolis.pki import pem

OWNER: Final = "owner"  # the user that takes ownership of a cluster
CLUSTER_CA_NAME: Final = "Metropolis Cluster CA"
ETCD_CA_NAME: Final = "Metropolis etcd CA Certificate"
USER_VALIDITY: Final = timedelta(days=30)  # of every user but the owner
COMMON_NAME_CHARS_MAX: Final = 64  # ub-common-name, RFC 5280

_SERIAL_BYTES: Final = 16
_EPHEMERAL_SERIAL: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """From when to when, both included, whole seconds in UTC."""

    not_before: datetime
    not_after: datetime


FOREVER: Final = Validity(
    not_before=datetime(2000, 1, 1, tzinfo=UTC),
    not_after=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A CA: its certificate (DER) and the key that signs. The key never shows in a repr."""

    certificate: bytes
    key: Ed25519PrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Template:
    common_name: str | None
    usages: tuple[x509.ObjectIdentifier, ...]
    dns_name: str | None = None
    is_ca: bool = False
    encipherment: bool = True  # KeyUsage keyEncipherment
    signs_certificates: bool = False
    signs_crls: bool = False


_CA_USAGES: Final = (Usage.CLIENT_AUTH, Usage.SERVER_AUTH, Usage.OCSP_SIGNING)


def new_serial(entropy: Entropy) -> int:
    """Draw a serial number, uniformly below 2^127 and positive."""
    drawn = int.from_bytes(entropy.token_bytes(_SERIAL_BYTES), "big") >> 1
    return drawn or 1  # RFC 5280 wants positive ones


def user_validity(now: datetime) -> Validity:
    """Return the validity of an ordinary user's certificate issued at `now`."""
    start = now.replace(microsecond=0)
    return Validity(not_before=start, not_after=start + USER_VALIDITY)


def issue_cluster_ca(key: Ed25519PrivateKey, *, serial: int) -> Authority:
    """Make the cluster's own CA, which every node and user certificate is signed by."""
    return _issue_ca(key, CLUSTER_CA_NAME, serial=serial)


def issue_etcd_ca(key: Ed25519PrivateKey, *, serial: int) -> Authority:
    """Make the CA of the consensus members: being a node does not make one a member."""
    return _issue_ca(key, ETCD_CA_NAME, serial=serial)


def issue_node(authority: Authority, public_key: bytes, *, serial: int) -> bytes:
    """Certify a node (DER). Its id follows from its raw 32-byte public key."""
    name = node_id_from_public_key(public_key)
    template = _Template(common_name=name, dns_name=name, usages=(Usage.SERVER_AUTH,))
    return _issue(template, public_key, authority, serial=serial)


def issue_user(
    authority: Authority,
    public_key: bytes,
    *,
    identity: str,
    serial: int,
    validity: Validity | None = None,
) -> bytes:
    """Certify a user (DER).

    Args:
        identity: 1 to 64 characters, `owner` for the owner.
        validity: `user_validity(now)`; None for the owner, whose certificate does not end.
    """
    assert 0 < len(identity) <= COMMON_NAME_CHARS_MAX, "the caller checks identities"
    assert (validity is None) == (identity == OWNER), "all users but the owner have an end"
    template = _Template(common_name=identity, usages=(Usage.CLIENT_AUTH,))
    return _issue(template, public_key, authority, serial=serial, validity=validity or FOREVER)


def issue_etcd_peer(authority: Authority, public_key: bytes, *, serial: int) -> bytes:
    """Certify a consensus member (DER), server and client of its peers."""
    name = node_id_from_public_key(public_key)
    usages = (Usage.CLIENT_AUTH, Usage.SERVER_AUTH)
    template = _Template(common_name=name, dns_name=name, usages=usages)
    return _issue(template, public_key, authority, serial=serial)


def issue_ephemeral(key: Ed25519PrivateKey) -> bytes:
    """Make a self-signed certificate (DER): a way to prove a key inside TLS, nothing more."""
    template = _Template(common_name=None, usages=(Usage.CLIENT_AUTH,), signs_certificates=True)
    return _sign_itself(template, key, serial=_EPHEMERAL_SERIAL)


def build_crl(authority: Authority, revoked_serials: Iterable[int], *, number: int) -> bytes:
    """List revoked certificates (DER). Never expires; `number` must grow with every list."""
    issuer = x509.load_der_x509_certificate(authority.certificate)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(FOREVER.not_before)
        .next_update(FOREVER.not_after)
        .add_extension(_authority_key_identifier(issuer), critical=False)
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    for serial in sorted(set(revoked_serials)):
        entry = x509.RevokedCertificateBuilder(
            serial_number=serial, revocation_date=FOREVER.not_before
        )
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(authority.key, None).public_bytes(Encoding.DER)


def serial_number(certificate: bytes) -> int:
    """Return the serial number of a certificate of ours (DER), as a CRL names it."""
    return x509.load_der_x509_certificate(certificate).serial_number


def fingerprint(certificate: bytes) -> str:
    """Return what people compare: `SHA256:` and the hexadecimal SHA-256 of the DER."""
    return f"SHA256:{hashlib.sha256(certificate).hexdigest()}"


def to_pem(certificate: bytes) -> str:
    """Armour a certificate (DER)."""
    return pem.encode(pem.CERTIFICATE, certificate)


def from_pem(text: str | bytes) -> bytes:
    """Return the DER of the one certificate in `text`, not looked into.

    Raises:
        InvalidArgumentError: not exactly one PEM certificate.
    """
    return pem.decode(pem.CERTIFICATE, text)


def _issue_ca(key: Ed25519PrivateKey, name: str, *, serial: int) -> Authority:
    template = _Template(
        common_name=name,
        usages=_CA_USAGES,
        is_ca=True,
        encipherment=False,
        signs_certificates=True,
        signs_crls=True,
    )
    return Authority(certificate=_sign_itself(template, key, serial=serial), key=key)


def _sign_itself(template: _Template, key: Ed25519PrivateKey, *, serial: int) -> bytes:
    return _sign(
        template,
        public_key=key.public_key(),
        issuer=_subject(template),
        key=key,
        authority_key_identifier=None,
        serial=serial,
        validity=FOREVER,
    )


def _issue(
    template: _Template,
    public_key: bytes,
    authority: Authority,
    *,
    serial: int,
    validity: Validity = FOREVER,
) -> bytes:
    issuer = x509.load_der_x509_certificate(authority.certificate)
    return _sign(
        template,
        public_key=Ed25519PublicKey.from_public_bytes(public_key),
        issuer=issuer.subject,
        key=authority.key,
        authority_key_identifier=_authority_key_identifier(issuer),
        serial=serial,
        validity=validity,
    )


def _sign(
    template: _Template,
    *,
    public_key: Ed25519PublicKey,
    issuer: x509.Name,
    key: Ed25519PrivateKey,
    authority_key_identifier: x509.AuthorityKeyIdentifier | None,
    serial: int,
    validity: Validity,
) -> bytes:
    builder = (
        x509.CertificateBuilder()
        .subject_name(_subject(template))
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(validity.not_before)
        .not_valid_after(validity.not_after)
        .add_extension(_key_usage(template), critical=True)
        .add_extension(x509.ExtendedKeyUsage(template.usages), critical=False)
        .add_extension(x509.BasicConstraints(ca=template.is_ca, path_length=None), critical=True)
    )
    if template.is_ca:
        identifier = x509.SubjectKeyIdentifier.from_public_key(public_key)
        builder = builder.add_extension(identifier, critical=False)
    if authority_key_identifier is not None:
        builder = builder.add_extension(authority_key_identifier, critical=False)
    if template.dns_name is not None:
        names = x509.SubjectAlternativeName([x509.DNSName(template.dns_name)])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(key, None).public_bytes(Encoding.DER)


def _subject(template: _Template) -> x509.Name:
    if template.common_name is None:
        return x509.Name([])
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, template.common_name)])


def _key_usage(template: _Template) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=template.encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=template.signs_certificates,
        crl_sign=template.signs_crls,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_key_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
