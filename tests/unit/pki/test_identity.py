# SPDX-License-Identifier: Apache-2.0
"""Every rule by which a certificate proves a node or a user, broken one at a time."""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from cryptography.x509.oid import NameOID

import metropolis.pki
import metropolis.rpc.authentication
from metropolis.base.errors import InvalidArgumentError, MetropolisError, UnauthenticatedError
from metropolis.base.ids import NodeId, node_id_from_public_key
from metropolis.pki import certificates, identity
from metropolis.pki.certificates import FOREVER, Validity

CA_KEY: Final = Ed25519PrivateKey.from_private_bytes(b"C" * 32)
OTHER_KEY: Final = Ed25519PrivateKey.from_private_bytes(b"O" * 32)
KEY: Final = Ed25519PrivateKey.from_private_bytes(b"L" * 32)
P256_KEY: Final = ec.derive_private_key(7, ec.SECP256R1())
ED448_KEY: Final = ed448.Ed448PrivateKey.from_private_bytes(b"4" * 57)
PUBLIC: Final = KEY.public_key().public_bytes_raw()
NODE_ID: Final = node_id_from_public_key(PUBLIC)
OTHER_ID: Final = node_id_from_public_key(OTHER_KEY.public_key().public_bytes_raw())
CA: Final = certificates.issue_cluster_ca(CA_KEY, serial=11)
OTHER_CA: Final = certificates.issue_cluster_ca(OTHER_KEY, serial=12)
NODE: Final = certificates.issue_node(CA, PUBLIC, serial=21)
OWNER: Final = certificates.issue_user(CA, PUBLIC, identity="owner", serial=22)
NOW: Final = datetime(2031, 1, 1, tzinfo=UTC)

AnyKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey | ed448.Ed448PrivateKey


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A certificate to bake, right or wrong."""

    common_names: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()
    usages: tuple[x509.ObjectIdentifier, ...] = ()
    constraints: bool | None = False  # None: no such extension
    signs: bool = False
    key: AnyKey = KEY
    issuer_key: AnyKey = CA_KEY
    validity: Validity = FOREVER

    def bake(self) -> bytes:
        name = [x509.NameAttribute(NameOID.COMMON_NAME, text) for text in self.common_names]
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(name))
            .issuer_name(
                x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Metropolis Cluster CA")])
            )
            .public_key(self.key.public_key())
            .serial_number(99)
            .not_valid_before(self.validity.not_before)
            .not_valid_after(self.validity.not_after)
            .add_extension(key_usage(signs=self.signs), critical=True)
        )
        if self.constraints is not None:
            constraints = x509.BasicConstraints(ca=self.constraints, path_length=None)
            builder = builder.add_extension(constraints, critical=True)
        if self.usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(self.usages), critical=False)
        if self.dns_names:
            names = x509.SubjectAlternativeName([x509.DNSName(n) for n in self.dns_names])
            builder = builder.add_extension(names, critical=False)
        digest = (
            hashes.SHA256() if isinstance(self.issuer_key, ec.EllipticCurvePrivateKey) else None
        )
        return builder.sign(self.issuer_key, digest).public_bytes(Encoding.DER)


def key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=True,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


GOOD_NODE: Final = Recipe(
    common_names=(NODE_ID,), dns_names=(NODE_ID,), usages=(Usage.SERVER_AUTH,)
)
GOOD_USER: Final = Recipe(common_names=("joe",), usages=(Usage.CLIENT_AUTH,))
GOOD_CA: Final = Recipe(
    common_names=("Metropolis Cluster CA",), key=CA_KEY, constraints=True, signs=True
)

NEITHER: Final = {
    "signed by another CA": (Recipe(issuer_key=OTHER_KEY), "not signed by cluster CA"),
    "signed by itself": (Recipe(issuer_key=KEY), "not signed by cluster CA"),
    "signed with ECDSA": (Recipe(issuer_key=P256_KEY), "not signed by cluster CA"),
    "a P-256 key": (Recipe(key=P256_KEY), "key is not Ed25519"),
    "an Ed448 key": (Recipe(key=ED448_KEY), "key is not Ed25519"),
    "a CA": (Recipe(constraints=True), "CA certificate identifies nobody"),
}
NO_NODES: Final = {
    "only clientAuth": (replace(GOOD_NODE, usages=(Usage.CLIENT_AUTH,)), "lacks serverAuth"),
    "no usage": (replace(GOOD_NODE, usages=()), "lacks serverAuth"),
    "any usage": (replace(GOOD_NODE, usages=(Usage.ANY_EXTENDED_KEY_USAGE,)), "lacks serverAuth"),
    "another's name": (replace(GOOD_NODE, common_names=(OTHER_ID,)), "common name is not"),
    "upper case": (replace(GOOD_NODE, common_names=(NODE_ID.upper(),)), "common name is not"),
    "no name": (replace(GOOD_NODE, common_names=()), "common name is not"),
    "two names": (replace(GOOD_NODE, common_names=(NODE_ID, "b")), "common name is not"),
    "another's DNS name": (replace(GOOD_NODE, dns_names=(OTHER_ID,)), "DNS names lack"),
    "no DNS name": (replace(GOOD_NODE, dns_names=()), "DNS names lack"),
    "a wildcard": (replace(GOOD_NODE, dns_names=("*",)), "DNS names lack"),
    "a user": (GOOD_USER, "lacks serverAuth"),
}
NO_USERS: Final = {
    "only serverAuth": (replace(GOOD_USER, usages=(Usage.SERVER_AUTH,)), "lacks clientAuth"),
    "no usage": (replace(GOOD_USER, usages=()), "lacks clientAuth"),
    "no name": (replace(GOOD_USER, common_names=()), "exactly one common name"),
    "two names": (replace(GOOD_USER, common_names=("joe", "owner")), "exactly one common name"),
    "a node": (GOOD_NODE, "lacks clientAuth"),
}


def for_node(der: bytes) -> object:
    return identity.node_identity(der, CA.certificate)


def for_user(der: bytes) -> object:
    return identity.user_identity(der, CA.certificate, now=NOW)


def for_server(der: bytes) -> object:
    identity.server_verifier(CA.certificate)(der)
    return NODE_ID


def broken(
    judge: Callable[[bytes], object], good: Recipe, cases: dict[str, tuple[Recipe, str]]
) -> Iterator[object]:
    for name, (recipe, message) in cases.items():
        bad = recipe
        if cases is NEITHER:  # the one mistake, in an otherwise good certificate
            bad = replace(
                good,
                key=recipe.key,
                issuer_key=recipe.issuer_key,
                constraints=recipe.constraints,
            )
        yield pytest.param(judge, bad, message, id=f"{judge.__name__}: {name}")


@pytest.mark.parametrize(
    ("judge", "recipe", "message"),
    [
        *broken(for_node, GOOD_NODE, NEITHER),
        *broken(for_node, GOOD_NODE, NO_NODES),
        *broken(for_server, GOOD_NODE, NEITHER),
        *broken(for_server, GOOD_NODE, NO_NODES),
        *broken(for_user, GOOD_USER, NEITHER),
        *broken(for_user, GOOD_USER, NO_USERS),
    ],
)
def test_each_broken_rule_is_named(
    judge: Callable[[bytes], object], recipe: Recipe, message: str
) -> None:
    with pytest.raises(UnauthenticatedError, match=message) as caught:
        judge(recipe.bake())
    assert caught.value.remedy


def test_good_certificates_prove_what_they_say() -> None:
    for node in (NODE, GOOD_NODE.bake(), replace(GOOD_NODE, constraints=None).bake()):
        assert for_node(node) == NODE_ID
        assert for_server(node) == NODE_ID
    assert for_user(GOOD_USER.bake()) == "joe"
    assert for_user(OWNER) == "owner"


def test_other_usages_and_dns_names_beside_the_right_ones_do_no_harm() -> None:
    both = (Usage.CLIENT_AUTH, Usage.SERVER_AUTH)
    more = replace(GOOD_NODE, usages=both, dns_names=("a.example", NODE_ID)).bake()
    assert for_node(more) == NODE_ID


def test_a_certificate_of_another_cluster_with_the_same_names_proves_nothing() -> None:
    foreign = certificates.issue_node(OTHER_CA, PUBLIC, serial=21)
    with pytest.raises(UnauthenticatedError, match="not signed by cluster CA"):
        for_node(foreign)
    assert identity.node_identity(foreign, OTHER_CA.certificate) == NODE_ID


NO_CAS: Final = {
    "a P-256 key": (replace(GOOD_CA, key=P256_KEY, issuer_key=P256_KEY), "not Ed25519"),
    "no constraints": (replace(GOOD_CA, constraints=None), "basic constraints"),
    "a leaf": (replace(GOOD_CA, constraints=False), "basic constraints"),
    "may not sign": (replace(GOOD_CA, signs=False), "key usage"),
    "signed by another": (replace(GOOD_CA, issuer_key=OTHER_KEY), "own key"),
}


@pytest.mark.parametrize("name", NO_CAS)
def test_what_cannot_be_a_ca_is_never_trusted(name: str) -> None:
    recipe, message = NO_CAS[name]
    ca = recipe.bake()
    for use in (
        lambda: identity.verify_ca(ca),
        lambda: identity.verify_signed_by(NODE, ca),
        lambda: identity.node_identity(NODE, ca),
        lambda: identity.server_verifier(ca),
    ):
        with pytest.raises(InvalidArgumentError, match=message) as caught:
            use()
        assert caught.value.remedy


def test_a_plausible_ca_is_one() -> None:
    assert identity.verify_ca(CA.certificate).public_key == CA_KEY.public_key().public_bytes_raw()
    identity.verify_ca(GOOD_CA.bake())


@pytest.mark.parametrize("ca", [b"", b"garbage", CA.certificate[:-1], NODE])
def test_garbage_is_no_ca(ca: bytes) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        identity.verify_ca(ca)
    assert caught.value.remedy


JOES_MONTH: Final = Validity(not_before=NOW, not_after=NOW + timedelta(days=30))
JOE: Final = replace(GOOD_USER, validity=JOES_MONTH).bake()


@pytest.mark.parametrize("offset_days", [0, 15, 30])
def test_a_users_certificate_is_good_on_each_of_its_days(offset_days: int) -> None:
    now = NOW + timedelta(days=offset_days)
    assert identity.user_identity(JOE, CA.certificate, now=now) == "joe"


@pytest.mark.parametrize(
    ("now", "message"),
    [
        (NOW - timedelta(seconds=1), "'joe' is not valid before 2031-01-01 00:00:00 UTC"),
        (NOW + timedelta(days=30, seconds=1), "'joe' expired on 2031-01-31 00:00:00 UTC"),
        (datetime(1970, 1, 1, tzinfo=UTC), "here it is 1970-01-01"),
    ],
)
def test_outside_its_days_a_users_certificate_is_refused_and_says_how_to_renew(
    now: datetime, message: str
) -> None:
    with pytest.raises(UnauthenticatedError, match=message) as caught:
        identity.user_identity(JOE, CA.certificate, now=now)
    assert "Renew" in caught.value.remedy


@pytest.mark.parametrize("year", [1970, 2021, 2041, 9999])
def test_a_clock_ten_years_wrong_locks_neither_nodes_nor_the_owner_out(year: int) -> None:
    now = datetime(year, 6, 1, tzinfo=UTC)
    owner = replace(GOOD_USER, common_names=("owner",), validity=JOES_MONTH).bake()
    assert identity.user_identity(owner, CA.certificate, now=now) == "owner"
    expired_node = replace(GOOD_NODE, validity=JOES_MONTH).bake()
    assert for_node(expired_node) == NODE_ID  # no clock is even asked


def test_a_self_signed_certificate_proves_its_key_whatever_it_says() -> None:
    assert identity.self_signed_key(certificates.issue_ephemeral(KEY)) == PUBLIC
    odd = replace(GOOD_NODE, common_names=(OTHER_ID,), issuer_key=KEY, validity=JOES_MONTH)
    assert identity.self_signed_key(odd.bake()) == PUBLIC


@pytest.mark.parametrize(
    "certificate",
    [
        None,
        b"",
        NODE,
        OWNER,
        Recipe(key=P256_KEY, issuer_key=P256_KEY).bake(),
        Recipe(key=ED448_KEY, issuer_key=ED448_KEY).bake(),
        Recipe(key=KEY, issuer_key=P256_KEY).bake(),
    ],
    ids=["none", "empty", "node", "owner", "P-256", "Ed448", "signed with another kind"],
)
def test_everything_else_is_no_key(certificate: bytes | None) -> None:
    assert identity.self_signed_key(certificate) is None


def test_a_client_that_wants_one_node_refuses_the_others() -> None:
    identity.server_verifier(CA.certificate, NODE_ID)(NODE)
    with pytest.raises(
        UnauthenticatedError, match=f"is node {NODE_ID}, not metropolis-0"
    ) as caught:
        identity.server_verifier(CA.certificate, NodeId("metropolis-" + "0" * 32))(NODE)
    assert caught.value.remedy


def test_trust_on_first_use_accepts_and_records_only_what_looks_like_a_node() -> None:
    verifier = identity.insecure_verifier()
    for odd in (OWNER, CA.certificate, b"garbage", certificates.issue_ephemeral(KEY)):
        with pytest.raises(UnauthenticatedError) as caught:
            verifier(odd)
        assert caught.value.remedy
    assert verifier.certificate is None
    foreign = certificates.issue_node(OTHER_CA, PUBLIC, serial=3)
    verifier(foreign)
    assert verifier.certificate == foreign


def test_a_pinned_key_is_all_that_counts() -> None:
    verify = identity.pinned_key_verifier(PUBLIC)
    for der in (NODE, certificates.issue_ephemeral(KEY)):
        verify(der)
    others = (certificates.issue_ephemeral(OTHER_KEY), Recipe(key=P256_KEY).bake(), b"garbage")
    for der in others:
        with pytest.raises(UnauthenticatedError) as caught:
            verify(der)
        assert caught.value.remedy


def sources() -> list[Path]:
    rooms = Path(str(metropolis.pki.__file__)).parent.glob("*.py")
    return [*sorted(rooms), Path(str(metropolis.rpc.authentication.__file__))]


@pytest.mark.parametrize("source", sources(), ids=lambda path: path.name)
def test_every_error_of_the_room_has_a_remedy(source: Path) -> None:
    names = {kind.__name__ for kind in MetropolisError.__subclasses__()}
    for call in ast.walk(ast.parse(source.read_text())):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in names:
            remedy = next((word.value for word in call.keywords if word.arg == "remedy"), None)
            assert remedy is not None, f"{source.name}:{call.lineno}"
            assert not (isinstance(remedy, ast.Constant) and not remedy.value)
