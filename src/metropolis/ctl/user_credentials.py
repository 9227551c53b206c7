# SPDX-License-Identifier: Apache-2.0
"""The key and certificate of a user who is not the owner, in the files of a context.

A context is somebody's: the owner's or one user's. Where both have files, the user's count.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from metropolis.base.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    MetropolisError,
    UnauthenticatedError,
)
from metropolis.ctl import credentials as owner
from metropolis.ctl import files
from metropolis.ctl.contexts import Context
from metropolis.host import Entropy
from metropolis.pki import certificates, keys
from metropolis.pki.credentials import Credentials
from metropolis.pki.identity import user_of, verify_signed_by
from metropolis.pki.reading import read_certificate

RENEWED_BEFORE_END: Final = timedelta(days=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserCertificate:
    """A user's certificate (DER), and what it says."""

    name: str
    der: bytes
    not_after: datetime


def shown_credentials(context: Context) -> Credentials:
    """Return what the owner or user of a context shows.

    Raises:
        FailedPreconditionError: there is no certificate.
        InvalidArgumentError: a file is something else.
    """
    certificate = user_certificate(context)
    if certificate is None:
        return owner.owner_credentials(context)
    return Credentials(certificate=certificate.der, key=read_user_key(context))


def proven_key(context: Context) -> Credentials:
    """Return what proves the key of a context and nothing else.

    Raises:
        FailedPreconditionError: there is no key.
    """
    if not context.user_key_path.exists():
        return owner.ephemeral_credentials(context)
    key = read_user_key(context)
    return Credentials(certificate=certificates.issue_ephemeral(key), key=key)


def user_certificate(context: Context) -> UserCertificate | None:
    """Read the user's certificate; None before anybody logged in.

    Raises:
        InvalidArgumentError: the file is something else.
    """
    text = files.read(context.user_certificate_path)
    if text is None:
        return None
    try:
        facts = read_certificate(certificates.from_pem(text))
        return UserCertificate(name=user_of(facts), der=facts.der, not_after=facts.not_after)
    except MetropolisError as cause:
        raise InvalidArgumentError(
            f"{context.user_certificate_path}: {cause}",
            remedy="Delete that file and run `metroctl user login NAME`.",
        ) from None


def create_user_key(context: Context, entropy: Entropy) -> Ed25519PrivateKey:
    """Return the user's key; make one first if the context has none."""
    files.make_directory(context.directory)
    if not context.user_key_path.exists():
        files.create(context.user_key_path, keys.to_pkcs8_pem(keys.generate_key(entropy)))
    return read_user_key(context)


def read_user_key(context: Context) -> Ed25519PrivateKey:
    """Read the user's key.

    Raises:
        FailedPreconditionError: there is none.
        InvalidArgumentError: the file is something else.
    """
    text = files.read(context.user_key_path)
    if text is None:
        raise FailedPreconditionError(
            f"there is no key at {context.user_key_path}",
            remedy="Run `metroctl user login NAME` with a new password.",
        )
    try:
        return keys.from_pkcs8_pem(text)
    except InvalidArgumentError as cause:
        raise InvalidArgumentError(
            f"{context.user_key_path}: {cause}", remedy=cause.remedy
        ) from None


def store_user_certificate(
    context: Context, certificate: bytes, *, name: str, ca: bytes, key: Ed25519PrivateKey
) -> None:
    """Keep a certificate (DER) that the cluster issued for a user's key.

    Raises:
        UnauthenticatedError: it is for another key or name, or another cluster's.
    """
    facts = verify_signed_by(certificate, ca)
    if facts.public_key != keys.raw_public_key(key) or user_of(facts) != name:
        raise UnauthenticatedError(
            "the cluster returned a certificate for another key or name",
            remedy="Check that the address belongs to your cluster; do not trust that node.",
        )
    files.replace(
        context.user_certificate_path, certificates.to_pem(certificate), mode=files.PUBLIC
    )


def is_renewal_due(context: Context, now: datetime) -> bool:
    """Tell whether a user's certificate ends soon, but has not ended."""
    certificate = user_certificate(context)
    return certificate is not None and (
        certificate.not_after - RENEWED_BEFORE_END <= now < certificate.not_after
    )
