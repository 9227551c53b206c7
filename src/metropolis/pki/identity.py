# SPDX-License-Identifier: Apache-2.0
"""What a certificate proves: a node or a user of this cluster, or merely a key.

Trust comes from keys. Dates are judged for ordinary users only; those of the owner, of nodes and
of self-signed certificates never are, so a clock ten years wrong locks nobody out.

Possession of the key is proven by TLS, not here.
"""

import hmac
from collections.abc import Callable
from datetime import datetime
from typing import Final

from metropolis.base.errors import InvalidArgumentError, UnauthenticatedError
from metropolis.base.ids import PUBLIC_KEY_BYTES, NodeId, node_id_from_public_key
from metropolis.pki.certificates import COMMON_NAME_CHARS_MAX, OWNER, fingerprint
from metropolis.pki.reading import CertificateFacts, read_certificate

_ASK_FOR_CERTIFICATE: Final = (
    "Present a certificate of this cluster: `metroctl takeownership` gets the owner's."
)
_CHECK_ENDPOINT: Final = (
    "Check that the address belongs to a node of this cluster, and that the CA certificate "
    "(`ca.pem`) is this cluster's."
)


def verify_ca(ca: bytes) -> CertificateFacts:
    """Check that `ca` (DER) can be a cluster's CA: Ed25519, self-signed, allowed to sign.

    Raises:
        InvalidArgumentError: it cannot.
    """
    facts = read_certificate(ca)
    if facts.public_key is None:
        problem = "its key is not Ed25519"
    elif not facts.is_ca:
        problem = "its basic constraints do not say that it is a CA"
    elif not facts.signs_certificates:
        problem = "its key usage does not allow to sign certificates"
    elif not facts.is_signed_with(facts.public_key):
        problem = "its signature does not verify with its own key"
    else:
        return facts
    raise InvalidArgumentError(
        f"not a cluster CA certificate: {problem}",
        remedy="Give the cluster's CA certificate, as `metroctl takeownership` stored it.",
    )


def verify_signed_by(certificate: bytes, ca: bytes) -> CertificateFacts:
    """Check that a certificate (DER) is a leaf which the cluster's CA (DER) signed.

    Raises:
        UnauthenticatedError: it is not.
        InvalidArgumentError: `ca` cannot be a CA.
    """
    return verify_leaf(_read_peer(certificate), verify_ca(ca))


def verify_leaf(facts: CertificateFacts, authority: CertificateFacts) -> CertificateFacts:
    """As `verify_signed_by`, of a certificate that has been read and a CA that was verified.

    Raises:
        UnauthenticatedError: not a leaf which that CA signed.
    """
    assert authority.public_key is not None, "verify_ca checked it"
    if facts.public_key is None:
        raise UnauthenticatedError(
            "the certificate's key is not Ed25519", remedy=_ASK_FOR_CERTIFICATE
        )
    if not facts.is_signed_with(authority.public_key):
        raise UnauthenticatedError(
            "certificate not signed by cluster CA: its signature does not verify with "
            f"{fingerprint(authority.der)}",
            remedy=f"{_ASK_FOR_CERTIFICATE} {_CHECK_ENDPOINT}",
        )
    if facts.is_ca:
        raise UnauthenticatedError(
            "a CA certificate identifies nobody", remedy=_ASK_FOR_CERTIFICATE
        )
    return facts


def node_identity(certificate: bytes, ca: bytes) -> NodeId:
    """Return the node that holds a certificate (DER).

    Raises:
        UnauthenticatedError: it is not a node's certificate of the cluster with this CA.
        InvalidArgumentError: `ca` cannot be a CA.
    """
    return node_of(verify_signed_by(certificate, ca))


def user_identity(certificate: bytes, ca: bytes, *, now: datetime) -> str:
    """Return the name of the user that holds a certificate (DER).

    Raises:
        UnauthenticatedError: it is not a user's certificate of the cluster with this CA, or it
            is not valid at `now`.
        InvalidArgumentError: `ca` cannot be a CA.
    """
    facts = verify_signed_by(certificate, ca)
    name = user_of(facts)
    judge_dates(name, facts, now=now)
    return name


def node_of(facts: CertificateFacts) -> NodeId:
    """Return the node named by a certificate that `verify_signed_by` returned.

    Raises:
        UnauthenticatedError: it is not a node's.
    """
    problem = _node_problem(facts)
    if problem is not None:
        raise UnauthenticatedError(
            f"not a node certificate: {problem}", remedy=_ASK_FOR_CERTIFICATE
        )
    assert facts.public_key is not None, "a node's is"
    return node_id_from_public_key(facts.public_key)


def user_of(facts: CertificateFacts) -> str:
    """Return the user named by a certificate that `verify_signed_by` returned, dates unjudged.

    Raises:
        UnauthenticatedError: it is not a user's.
    """
    problem = _user_problem(facts)
    if problem is not None:
        raise UnauthenticatedError(
            f"not a user certificate: {problem}", remedy=_ASK_FOR_CERTIFICATE
        )
    return facts.common_names[0]


def judge_dates(name: str, facts: CertificateFacts, *, now: datetime) -> None:
    """Refuse a user's certificate that is not valid at `now`; the owner's always is.

    Raises:
        UnauthenticatedError: expired or not yet valid.
    """
    if name == OWNER or facts.not_before <= now <= facts.not_after:
        return
    if now > facts.not_after:
        what = f"expired on {facts.not_after:%Y-%m-%d %H:%M:%S} UTC"
    else:
        what = f"is not valid before {facts.not_before:%Y-%m-%d %H:%M:%S} UTC"
    raise UnauthenticatedError(
        f"the certificate of user {name!r} {what}; here it is {now:%Y-%m-%d %H:%M:%S} UTC",
        remedy=f"Renew it: get a one-time password and run `metroctl user login {name}`. "
        "If that date is wrong, set the clock of the node first.",
    )


def self_signed_key(certificate: bytes | None) -> bytes | None:
    """Return the raw Ed25519 key of a self-signed certificate (DER), or None.

    None for everything else: no certificate, garbage, another kind of key, another's signature.
    Names, usages and dates are never looked at: they prove nothing.
    """
    if certificate is None:
        return None
    try:
        facts = read_certificate(certificate)
    except InvalidArgumentError:
        return None
    return key_if_self_signed(facts)


def key_if_self_signed(facts: CertificateFacts) -> bytes | None:
    """As `self_signed_key`, of a certificate that has been read."""
    key = facts.public_key
    return key if key is not None and facts.is_signed_with(key) else None


def server_verifier(ca: bytes, node_id: NodeId | None = None) -> Callable[[bytes], None]:
    """Return what a client judges a server's certificate with: a node of this cluster.

    Args:
        ca: DER of the pinned CA; any node of its cluster will do unless `node_id` is given.

    Raises:
        InvalidArgumentError: `ca` cannot be a CA.
    """
    authority = verify_ca(ca)

    def verify(certificate: bytes) -> None:
        found = _served_node(verify_leaf(_read_peer(certificate), authority))
        if node_id is not None and found != node_id:
            raise UnauthenticatedError(
                f"the server is node {found}, not {node_id}", remedy=_CHECK_ENDPOINT
            )

    return verify


class RecordingVerifier:
    """Accepts whatever looks like a node, and remembers it: trust on first use.

    The shape (key, names, usage) is checked, the signature cannot be: nobody is authenticated
    until the recorded certificate was verified under a CA that a person confirmed.
    """

    def __init__(self) -> None:
        self.certificate: bytes | None = None  # DER of the last one accepted

    def __call__(self, certificate: bytes) -> None:
        """Judge one certificate (DER).

        Raises:
            UnauthenticatedError: no node ever presents this.
        """
        _served_node(_read_peer(certificate))
        self.certificate = certificate


def insecure_verifier() -> RecordingVerifier:
    """Return what a client judges a server with before it knows the cluster's CA."""
    return RecordingVerifier()


def pinned_key_verifier(public_key: bytes) -> Callable[[bytes], None]:
    """Return what a client judges a server with whose raw Ed25519 key it knows.

    Who signed the certificate does not matter: holding the key is what counts.
    """
    assert len(public_key) == PUBLIC_KEY_BYTES, "raw Ed25519 public keys have 32 bytes"

    def verify(certificate: bytes) -> None:
        found = _read_peer(certificate).public_key
        if found is None or not hmac.compare_digest(found, public_key):
            raise UnauthenticatedError(
                "the server holds another key than the expected one", remedy=_CHECK_ENDPOINT
            )

    return verify


def _read_peer(certificate: bytes) -> CertificateFacts:
    try:
        return read_certificate(certificate)
    except InvalidArgumentError as error:
        raise UnauthenticatedError(str(error), remedy=error.remedy) from error.__cause__


def _served_node(facts: CertificateFacts) -> NodeId:
    problem = _node_problem(facts)
    if problem is not None:
        raise UnauthenticatedError(
            f"the server's is not a node certificate: {problem}", remedy=_CHECK_ENDPOINT
        )
    assert facts.public_key is not None, "a node's is"
    return node_id_from_public_key(facts.public_key)


def _node_problem(facts: CertificateFacts) -> str | None:
    if facts.public_key is None:
        return "its key is not Ed25519"
    node_id = node_id_from_public_key(facts.public_key)
    if facts.is_ca:
        return "it is a CA"
    if not facts.is_server:
        return "its extended key usage lacks serverAuth"
    if facts.common_names != (node_id,):
        return f"its common name is not {node_id}, which follows from its key"
    if node_id not in facts.dns_names:
        return f"its DNS names lack {node_id}"
    return None


def _user_problem(facts: CertificateFacts) -> str | None:
    if facts.is_ca:
        return "it is a CA"
    if not facts.is_client:
        return "its extended key usage lacks clientAuth"
    if len(facts.common_names) != 1 or not facts.common_names[0]:
        return "it does not have exactly one common name"
    if len(facts.common_names[0]) > COMMON_NAME_CHARS_MAX:
        return f"its common name is longer than {COMMON_NAME_CHARS_MAX} characters"
    return None
