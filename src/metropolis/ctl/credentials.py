# SPDX-License-Identifier: Apache-2.0
"""The owner's key and certificate and the trusted CA, in the files of a context."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from metropolis.base.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    MetropolisError,
    UnauthenticatedError,
)
from metropolis.ctl import files
from metropolis.ctl.contexts import Context
from metropolis.host import Entropy
from metropolis.pki import certificates, keys
from metropolis.pki.credentials import Credentials
from metropolis.pki.identity import verify_ca, verify_signed_by


def create_owner_key(context: Context, entropy: Entropy) -> Ed25519PrivateKey:
    """Return the owner's key; make one first if the context has none.

    Raises:
        FailedPreconditionError: it cannot be written.
        InvalidArgumentError: the file is something else.
    """
    files.make_directory(context.directory)
    if not context.owner_key_path.exists():
        # Somebody else may be faster: what counts is what is in the file.
        files.create(context.owner_key_path, keys.to_owner_pem(keys.generate_key(entropy)))
    return read_owner_key(context)


def read_owner_key(context: Context) -> Ed25519PrivateKey:
    """Read the owner's key.

    Raises:
        FailedPreconditionError: there is none.
        InvalidArgumentError: the file is something else.
    """
    text = files.read(context.owner_key_path)
    if text is None:
        raise FailedPreconditionError(
            f"there is no owner key at {context.owner_key_path}",
            remedy="Name the context (--context) or the directory (--config) that holds the key "
            "with which the cluster was bootstrapped.",
        )
    try:
        return keys.from_owner_pem(text)
    except InvalidArgumentError as cause:
        raise InvalidArgumentError(
            f"{context.owner_key_path}: {cause}", remedy=cause.remedy
        ) from None


def read_certificate(context: Context) -> bytes | None:
    """Read the owner's certificate (DER); None before ownership was taken.

    Raises:
        InvalidArgumentError: the file is something else.
    """
    return _read_pem(context.owner_certificate_path, files.read(context.owner_certificate_path))


def read_ca(context: Context) -> bytes | None:
    """Read the trusted CA (DER); None while there is none.

    Raises:
        InvalidArgumentError: the file is something else.
    """
    ca = _read_pem(context.ca_path, files.read(context.ca_path))
    if ca is not None:
        verify_ca(ca)
    return ca


def owner_credentials(context: Context) -> Credentials:
    """Return what the owner shows.

    Raises:
        FailedPreconditionError: ownership was not taken.
        InvalidArgumentError: a file is something else.
    """
    certificate = read_certificate(context)
    if certificate is None:
        raise not_owner(context)
    return Credentials(certificate=certificate, key=read_owner_key(context))


def ephemeral_credentials(context: Context) -> Credentials:
    """Return what proves the owner's key and nothing else.

    Raises:
        FailedPreconditionError: there is no key.
    """
    key = read_owner_key(context)
    return Credentials(certificate=certificates.issue_ephemeral(key), key=key)


def store_ca(context: Context, ca: bytes) -> None:
    """Trust a CA (DER) from now on."""
    files.make_directory(context.directory)
    files.replace(context.ca_path, certificates.to_pem(ca))


def store_certificate(context: Context, certificate: bytes) -> None:
    """Keep the owner's certificate (DER)."""
    files.replace(
        context.owner_certificate_path, certificates.to_pem(certificate), mode=files.PUBLIC
    )


def check_issued(certificate: bytes, *, ca: bytes, key: Ed25519PrivateKey) -> None:
    """Check that a certificate (DER) is the owner's: signed by the CA (DER), for this key.

    Raises:
        UnauthenticatedError: it is not.
    """
    facts = verify_signed_by(certificate, ca)
    if facts.public_key != keys.raw_public_key(key) or facts.common_names != (certificates.OWNER,):
        raise UnauthenticatedError(
            "the cluster returned a certificate for another key or name",
            remedy="Check that the address belongs to your cluster; do not trust that node.",
        )


def not_owner(context: Context) -> MetropolisError:
    """Explain that ownership was not taken."""
    if not context.owner_key_path.exists():
        return FailedPreconditionError(
            f"no cluster is known here: neither {context.owner_key_path} nor an owner's "
            "certificate exists",
            remedy="Name a context (--context) or a directory with keys (--config), or start a "
            "cluster on this computer with `metropolis launch`.",
        )
    where = f"--context {context.name} " if context.name else ""
    return FailedPreconditionError(
        f"you have to take ownership of the cluster first: {context.owner_certificate_path} "
        "does not exist",
        remedy=f"Run `metroctl {where}takeownership ADDRESS`.",
    )


def _read_pem(path: object, text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        return certificates.from_pem(text)
    except InvalidArgumentError as cause:
        raise InvalidArgumentError(f"{path}: {cause}", remedy=cause.remedy) from None
