# SPDX-License-Identifier: Apache-2.0
"""Read certificates that strangers sent. Whatever the bytes are, one kind of error comes out.

Of an Ed25519-signed certificate only the canonical encoding is read: two of them are the same
exactly when their bytes are, and what is judged is what was signed.
"""

import warnings
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, SignatureAlgorithmOID

from metropolis.base.errors import InvalidArgumentError

_E = TypeVar("_E", bound=x509.ExtensionType)

CERTIFICATE_BYTES_MAX: Final = 16 << 10  # ours have about 400 bytes

# AlgorithmIdentifier{Ed25519, no parameters}, then a BIT STRING of 64 bytes and no unused bits:
# the parser tolerates a wrong count of unused bits, so one signature could be spelled twice.
_ED25519_SIGNATURE: Final = bytes.fromhex("300506032b6570 034100")


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFacts:
    """What a certificate says about itself. Nothing here is proven.

    Attributes:
        public_key: Raw Ed25519 key; None when it is of any other kind.
        signature: None when it is not an Ed25519 signature.
        is_ca: BasicConstraints says so; False when there are none.
        signs_certificates: KeyUsage says so.
    """

    der: bytes
    public_key: bytes | None
    signature: bytes | None
    signed_bytes: bytes
    serial: int
    common_names: tuple[str, ...]
    dns_names: tuple[str, ...]
    is_server: bool
    is_client: bool
    is_ca: bool
    signs_certificates: bool
    not_before: datetime
    not_after: datetime

    def is_signed_with(self, public_key: bytes) -> bool:
        """Tell whether the signature verifies with a raw Ed25519 public key."""
        if self.signature is None:
            return False
        try:
            Ed25519PublicKey.from_public_bytes(public_key).verify(self.signature, self.signed_bytes)
        except (InvalidSignature, ValueError):
            return False
        return True


def read_certificate(der: bytes) -> CertificateFacts:
    """Read a certificate (DER).

    Raises:
        InvalidArgumentError: not one certificate in canonical encoding, or above 16 KiB.
    """
    if len(der) > CERTIFICATE_BYTES_MAX:
        raise InvalidArgumentError(
            f"a certificate of {len(der)} bytes is longer than {CERTIFICATE_BYTES_MAX}",
            remedy="Present a certificate issued by this cluster; those are far smaller.",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what the library deprecates, it would only tolerate
            return _read(der)
    except Exception as cause:
        # The parser documents no closed set of exceptions, and these bytes are hostile.
        raise InvalidArgumentError(
            "not a valid X.509 certificate in DER form",
            remedy="Present a certificate issued by this cluster, unchanged.",
        ) from cause


def _read(der: bytes) -> CertificateFacts:
    certificate = x509.load_der_x509_certificate(der)
    is_ed25519_signed = certificate.signature_algorithm_oid == SignatureAlgorithmOID.ED25519
    signed_bytes = certificate.tbs_certificate_bytes  # encoded again by the library
    if is_ed25519_signed and not der.endswith(
        signed_bytes + _ED25519_SIGNATURE + certificate.signature
    ):
        raise ValueError("the encoding is not canonical")
    common_names: list[str] = []
    for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        if not isinstance(attribute.value, str):
            raise TypeError("a common name is not text")
        common_names.append(attribute.value)
    key = certificate.public_key()
    extensions = certificate.extensions
    constraints = _extension(extensions, x509.BasicConstraints)
    key_usage = _extension(extensions, x509.KeyUsage)
    usages = _extension(extensions, x509.ExtendedKeyUsage) or ()
    names = _extension(extensions, x509.SubjectAlternativeName)
    return CertificateFacts(
        der=der,
        public_key=key.public_bytes_raw() if isinstance(key, Ed25519PublicKey) else None,
        signature=certificate.signature if is_ed25519_signed else None,
        signed_bytes=signed_bytes,
        serial=certificate.serial_number,
        common_names=tuple(common_names),
        dns_names=tuple(names.get_values_for_type(x509.DNSName)) if names is not None else (),
        is_server=ExtendedKeyUsageOID.SERVER_AUTH in usages,
        is_client=ExtendedKeyUsageOID.CLIENT_AUTH in usages,
        is_ca=constraints is not None and constraints.ca,
        signs_certificates=key_usage is not None and key_usage.key_cert_sign,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def _extension(extensions: x509.Extensions, kind: type[_E]) -> _E | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
