# SPDX-License-Identifier: Apache-2.0
"""The builder's keys: made once, kept outside of every checkout and image.

    PK   the platform's owner: may exchange KEK
    KEK  may change which keys sign boot images
    db   signs boot images
    pcr  signs the predicted PCR 11, so that sealed secrets survive an update of the image

Each is an RSA-2048 key with a self-signed certificate: firmware knows no other kind everywhere.
Whoever has `db` and `pcr` can make an image that opens every node's disk in place.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.x509.oid import NameOID

from metropolis.base.errors import DataLossError, FailedPreconditionError
from metropolis.host.linux.programs import locked

KEY_NAMES: Final = ("PK", "KEK", "db", "pcr")
_PURPOSES: Final = {
    "PK": "platform key",
    "KEK": "key exchange key",
    "db": "boot image key",
    "pcr": "measurement key",
}
_RSA_BITS: Final = 2048
_EXPONENT: Final = 65537
_VALID_FROM: Final = datetime(2000, 1, 1, tzinfo=UTC)
_VALID_UNTIL: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
_OTHERS: Final = 0o077


@dataclass(frozen=True, slots=True, kw_only=True)
class BuilderKey:
    """A private key with its certificate."""

    private: RSAPrivateKey
    certificate: x509.Certificate

    @property
    def certificate_der(self) -> bytes:
        """The certificate as firmware reads it."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def public_pem(self) -> bytes:
        """The public key as PEM (SubjectPublicKeyInfo)."""
        return self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def public_der(self) -> bytes:
        """The public key as DER (SubjectPublicKeyInfo)."""
        return self.private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, in hexadecimal."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def sign(self, message: bytes) -> bytes:
        """RSASSA-PKCS1-v1_5 over SHA-256: the same signature every time."""
        return self.private.sign(message, padding.PKCS1v15(), hashes.SHA256())


def default_key_directory(environment: Mapping[str, str]) -> Path:
    """Where keys are kept unless somebody says otherwise."""
    home = Path(environment.get("HOME", "/root"))
    configuration = environment.get("XDG_CONFIG_HOME", "")
    base = Path(configuration) if configuration else home / ".config"
    return base / "metropolis" / "builder"


def open_keys(directory: Path, *, checkout: Path) -> Mapping[str, BuilderKey]:
    """Read the builder's keys, made first if there are none.

    Raises:
        FailedPreconditionError: the directory is inside of the checkout, or others can read it.
        DataLossError: some keys are there and others are not, or one cannot be read.
    """
    if directory.resolve().is_relative_to(checkout.resolve()):
        raise FailedPreconditionError(
            f"builder keys may not be kept in the checkout: {directory}",
            remedy="Give --keys a directory outside of it.",
        )
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    if directory.stat().st_mode & _OTHERS:
        raise FailedPreconditionError(
            f"others can read the builder keys in {directory}",
            remedy=f"Run `chmod 700 {directory}`.",
        )
    with locked(directory / ".lock"):
        there = [name for name in KEY_NAMES if (directory / f"{name}.key").exists()]
        if not there:
            for name in KEY_NAMES:
                _make(directory, name)
        elif len(there) != len(KEY_NAMES):
            missing = ", ".join(sorted(set(KEY_NAMES) - set(there)))
            raise DataLossError(
                f"{directory} has builder keys, but not {missing}",
                remedy="Restore them from your backup; new keys need new enrolment everywhere.",
            )
        return {name: _read(directory, name) for name in KEY_NAMES}


def _make(directory: Path, name: str) -> None:
    private = generate_private_key(public_exponent=_EXPONENT, key_size=_RSA_BITS)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Metropolis builder"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Metropolis {_PURPOSES[name]}"),
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_VALID_FROM)
        .not_valid_after(_VALID_UNTIL)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, hashes.SHA256())
    )
    # The key last: its presence says that both are there.
    _write(directory / f"{name}.crt", certificate.public_bytes(serialization.Encoding.PEM))
    _write(
        directory / f"{name}.key",
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def _write(path: Path, content: bytes) -> None:
    """Write a secret: nobody else could ever read it, and it is whole or absent."""
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as output:
        output.write(content)
        output.flush()
        os.fsync(output.fileno())
    temporary.rename(path)


def _read(directory: Path, name: str) -> BuilderKey:
    try:
        private = serialization.load_pem_private_key(
            (directory / f"{name}.key").read_bytes(), password=None
        )
        certificate = x509.load_pem_x509_certificate((directory / f"{name}.crt").read_bytes())
    except (OSError, ValueError) as cause:
        raise DataLossError(
            f"the builder key {name} in {directory} cannot be read",
            remedy="Restore it from your backup; a new key needs new enrolment everywhere.",
        ) from cause
    if not isinstance(private, RSAPrivateKey) or private.public_key() != certificate.public_key():
        raise DataLossError(
            f"the builder key {name} in {directory} does not belong to its certificate",
            remedy="Restore both from your backup.",
        )
    return BuilderKey(private=private, certificate=certificate)
