# SPDX-License-Identifier: Apache-2.0
import hashlib
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from cryptography.x509.oid import SignatureAlgorithmOID

from metropolis.pki import certificates
from metropolis.pki.certificates import FOREVER, Authority, Validity

CA_KEY = Ed25519PrivateKey.from_private_bytes(b"C" * 32)
ETCD_CA_KEY = Ed25519PrivateKey.from_private_bytes(b"E" * 32)
LEAF_KEY = Ed25519PrivateKey.from_private_bytes(b"L" * 32)
LEAF_PUBLIC = LEAF_KEY.public_key().public_bytes_raw()
NODE_ID = f"metropolis-{LEAF_PUBLIC[:16].hex()}"
CLUSTER_CA = certificates.issue_cluster_ca(CA_KEY, serial=11)
ETCD_CA = certificates.issue_etcd_ca(ETCD_CA_KEY, serial=12)
NOW = datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)


class FixedEntropy:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def token_bytes(self, count: int) -> bytes:
        assert count == len(self._data)
        return self._data

    def jitter(self) -> random.Random:
        raise AssertionError


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table of templates."""

    der: bytes
    subject: str
    usages: list[x509.ObjectIdentifier]
    key_usage: set[str]
    issuer: Authority | None = None
    dns: list[str] | None = None
    is_ca: bool = False


LEAF_KEY_USAGE = {"digital_signature", "key_encipherment"}
CA_KEY_USAGE = {"key_cert_sign", "crl_sign", "digital_signature"}
CA_USAGES = [Usage.CLIENT_AUTH, Usage.SERVER_AUTH, Usage.OCSP_SIGNING]
ROWS = {
    "cluster CA": Row(
        der=CLUSTER_CA.certificate,
        subject="CN=Metropolis Cluster CA",
        usages=CA_USAGES,
        key_usage=CA_KEY_USAGE,
        is_ca=True,
    ),
    "etcd CA": Row(
        der=ETCD_CA.certificate,
        subject="CN=Metropolis etcd CA Certificate",
        usages=CA_USAGES,
        key_usage=CA_KEY_USAGE,
        is_ca=True,
    ),
    "node": Row(
        der=certificates.issue_node(CLUSTER_CA, LEAF_PUBLIC, serial=21),
        subject=f"CN={NODE_ID}",
        dns=[NODE_ID],
        usages=[Usage.SERVER_AUTH],
        key_usage=LEAF_KEY_USAGE,
        issuer=CLUSTER_CA,
    ),
    "owner": Row(
        der=certificates.issue_user(CLUSTER_CA, LEAF_PUBLIC, identity="owner", serial=22),
        subject="CN=owner",
        usages=[Usage.CLIENT_AUTH],
        key_usage=LEAF_KEY_USAGE,
        issuer=CLUSTER_CA,
    ),
    "etcd peer": Row(
        der=certificates.issue_etcd_peer(ETCD_CA, LEAF_PUBLIC, serial=23),
        subject=f"CN={NODE_ID}",
        dns=[NODE_ID],
        usages=[Usage.CLIENT_AUTH, Usage.SERVER_AUTH],
        key_usage=LEAF_KEY_USAGE,
        issuer=ETCD_CA,
    ),
    "ephemeral": Row(
        der=certificates.issue_ephemeral(LEAF_KEY),
        subject="",
        usages=[Usage.CLIENT_AUTH],
        key_usage=LEAF_KEY_USAGE | {"key_cert_sign"},
    ),
}
# Upstream's tools keep these for years; a change of template must be a decision.
GOLDEN = {
    "cluster CA": "8a7051d427fe18b68007eb2d4352a2c2bc8777d77e4d4326d1d7942405f62f01",
    "etcd CA": "dcd6576234089a981b7801add26e18598ac907069bbeb1333550b4a5ae03de7b",
    "node": "9436f3825351c4fea6166b3e957c797249519dc5c5abcacc62329262699c5438",
    "owner": "ff0a59200da8385a3f9f73e0084b02581d233f27c5c61f4c9478858e97adb108",
    "etcd peer": "5e53f371ad8d56ca5ae8d0caf278f5428cb6bef82d983d0118e9114c2856e406",
    "ephemeral": "65a2be89e7e8e3b0a4b51cce06602c0cb38e8dc53e90d026a3e2096d4067416d",
}

each_row = pytest.mark.parametrize("name", ROWS)


@each_row
def test_every_template_says_exactly_what_its_line_of_the_table_says(name: str) -> None:
    row = ROWS[name]
    certificate = x509.load_der_x509_certificate(row.der)
    extensions = certificate.extensions
    assert certificate.version is x509.Version.v3
    assert certificate.subject.rfc4514_string() == row.subject
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == row.usages
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=row.is_ca, path_length=None)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert {
        name
        for name in (
            *LEAF_KEY_USAGE,
            *CA_KEY_USAGE,
            "content_commitment",
            "data_encipherment",
            "key_agreement",
        )
        if getattr(usage.value, name)
    } == row.key_usage
    expected = 3 + row.is_ca + (row.issuer is not None) + (row.dns is not None)
    assert len(extensions) == expected  # nothing that the table does not name


@each_row
def test_names_and_issuers_are_those_of_the_table(name: str) -> None:
    row = ROWS[name]
    certificate = x509.load_der_x509_certificate(row.der)
    issuer = x509.load_der_x509_certificate(row.issuer.certificate if row.issuer else row.der)
    certificate.verify_directly_issued_by(issuer)  # names and signature
    assert certificate.signature_algorithm_oid == SignatureAlgorithmOID.ED25519
    if row.dns is not None:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        assert names.value == x509.SubjectAlternativeName([x509.DNSName(n) for n in row.dns])
    if row.is_ca:
        identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        assert identifier.value == x509.SubjectKeyIdentifier.from_public_key(
            certificate.public_key()
        )
    if row.issuer is not None:
        authority = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
        issuer_key = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        assert authority.value.key_identifier == issuer_key.value.digest


@each_row
def test_no_clock_ends_what_ends_by_revocation(name: str) -> None:
    certificate = x509.load_der_x509_certificate(ROWS[name].der)
    assert certificate.not_valid_before_utc == datetime(2000, 1, 1, tzinfo=UTC)
    assert certificate.not_valid_after_utc.timestamp() == 253402300799


@each_row
def test_the_same_inputs_give_the_same_bytes_in_every_release(name: str) -> None:
    assert hashlib.sha256(ROWS[name].der).hexdigest() == GOLDEN[name]


def test_serials_are_those_asked_for_and_1_for_ephemeral_certificates() -> None:
    serials = [certificates.serial_number(row.der) for row in ROWS.values()]
    assert serials == [11, 12, 21, 22, 23, 1]


@pytest.mark.parametrize(
    ("drawn", "serial"),
    [(b"\xff" * 16, 2**127 - 1), (bytes(15) + b"\x02", 1), (bytes(16), 1)],
)
def test_serials_are_positive_and_below_2_to_the_127(drawn: bytes, serial: int) -> None:
    assert certificates.new_serial(FixedEntropy(drawn)) == serial


def test_an_ordinary_users_certificate_lives_for_30_days() -> None:
    validity = certificates.user_validity(NOW)
    assert validity.not_before == NOW.replace(microsecond=0)  # as a certificate can say it
    der = certificates.issue_user(
        CLUSTER_CA, LEAF_PUBLIC, identity="joe", serial=5, validity=validity
    )
    certificate = x509.load_der_x509_certificate(der)
    assert certificate.not_valid_before_utc == NOW.replace(microsecond=0)
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == timedelta(days=30)


@pytest.mark.parametrize(
    ("identity", "validity"),
    [("joe", None), ("owner", FOREVER), ("", FOREVER), ("j" * 65, FOREVER)],
)
def test_only_the_owner_has_a_certificate_without_end(
    identity: str, validity: Validity | None
) -> None:
    with pytest.raises(AssertionError):
        certificates.issue_user(
            CLUSTER_CA, LEAF_PUBLIC, identity=identity, serial=5, validity=validity
        )


def test_a_revocation_list_is_signed_sorted_numbered_and_never_expires() -> None:
    der = certificates.build_crl(ETCD_CA, [2**127 - 1, 5, 23, 5], number=4)
    crl = x509.load_der_x509_crl(der)
    assert crl.is_signature_valid(ETCD_CA_KEY.public_key())
    assert [entry.serial_number for entry in crl] == [5, 23, 2**127 - 1]
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 4
    assert crl.next_update_utc == FOREVER.not_after
    assert crl.last_update_utc == FOREVER.not_before
    assert crl.issuer.rfc4514_string() == "CN=Metropolis etcd CA Certificate"
    assert der == certificates.build_crl(ETCD_CA, {23, 2**127 - 1, 5}, number=4)


def test_an_empty_revocation_list_is_a_list() -> None:
    assert not list(x509.load_der_x509_crl(certificates.build_crl(ETCD_CA, [], number=1)))


def test_a_fingerprint_is_the_hash_of_the_der() -> None:
    assert certificates.fingerprint(b"abc") == f"SHA256:{hashlib.sha256(b'abc').hexdigest()}"


def test_pem_and_der_are_two_forms_of_one_certificate() -> None:
    der = ROWS["node"].der
    text = certificates.to_pem(der)
    assert certificates.from_pem(text) == der
    assert text.encode() == x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)


def test_private_keys_never_show_in_a_repr() -> None:
    assert "key" not in repr(CLUSTER_CA).lower().replace("certificate", "")
