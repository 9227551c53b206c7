# SPDX-License-Identifier: Apache-2.0
"""Signed data as firmware understands it (PKCS#7, RFC 2315), the same bytes for the same input.

One signer, RSA with PKCS#1 v1.5 padding over SHA-256, its certificate included. Libraries write the
current time and choose orders of their own; this writes what it is told.

    SignedData { 1, {sha256}, content, [0] certificate, { SignerInfo } }
    signature over  attributes, if there are any (DER, as a SET)  or  the content itself
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from metropolis.base.errors import DataLossError, InvalidArgumentError
from metropolis.formats import der

Sign = Callable[[bytes], bytes]  # a message -> its RSASSA-PKCS1-v1_5 signature over SHA-256

DATA_TYPE: Final = "1.2.840.113549.1.7.1"
_SIGNED_DATA_TYPE: Final = "1.2.840.113549.1.7.2"
_CONTENT_TYPE: Final = "1.2.840.113549.1.9.3"
_MESSAGE_DIGEST: Final = "1.2.840.113549.1.9.4"
_SIGNING_TIME: Final = "1.2.840.113549.1.9.5"
_SHA256_ALGORITHM: Final = der.sequence(der.object_identifier("2.16.840.1.101.3.4.2.1"), der.null())
_RSA_ALGORITHM: Final = der.sequence(der.object_identifier("1.2.840.113549.1.1.1"), der.null())


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What is signed.

    Attributes:
        type: Dotted object identifier.
        data: DER of the content, one element; empty when it is kept elsewhere ("detached").
    """

    type: str
    data: bytes = b""

    def encode(self) -> bytes:
        """Return it as ContentInfo."""
        kind = der.object_identifier(self.type)
        return der.sequence(kind, der.explicit(0, self.data)) if self.data else der.sequence(kind)


def signed_data(
    content: Content,
    *,
    message: bytes,
    certificate_der: bytes,
    sign: Sign,
    signing_time: datetime | None,
) -> bytes:
    """Return SignedData (DER, without the ContentInfo around it).

    Args:
        message: What is hashed: the content without its outer tag and length, or the detached data.
        certificate_der: X.509 of the signer, with an RSA key.
        sign: Signs a message with that key.
        signing_time: Stated in signed attributes; None for a signature without attributes.

    Raises:
        InvalidArgumentError: the certificate cannot be read or has no RSA key.
    """
    certificate = load_certificate(certificate_der)
    issuer_and_serial = der.sequence(
        certificate.issuer.public_bytes(), der.integer(certificate.serial_number)
    )
    signer = [der.integer(1), issuer_and_serial, _SHA256_ALGORITHM]
    if signing_time is None:
        signature = sign(message)
    else:
        attributes = _attributes(content.type, message, signing_time)
        signature = sign(der.set_of(*attributes))
        signer.append(der.explicit(0, *sorted(attributes)))
    signer += [_RSA_ALGORITHM, der.octets(signature)]
    return der.sequence(
        der.integer(1),
        der.set_of(_SHA256_ALGORITHM),
        content.encode(),
        der.explicit(0, certificate.public_bytes(Encoding.DER)),
        der.set_of(der.sequence(*signer)),
    )


def content_info(signed: bytes) -> bytes:
    """Return SignedData inside of the ContentInfo that says what it is."""
    return der.sequence(der.object_identifier(_SIGNED_DATA_TYPE), der.explicit(0, signed))


def unwrap_content_info(data: bytes) -> bytes:
    """Return the SignedData inside of a ContentInfo.

    Raises:
        DataLossError: it cannot be read, or is of another kind.
    """
    info = der.Reader(data).inside(der.SEQUENCE)
    if info.whole(der.OBJECT_IDENTIFIER) != der.object_identifier(_SIGNED_DATA_TYPE):
        raise der.damaged("it is of another kind")
    return info.inside(0xA0).whole(der.SEQUENCE)


def verify(signed: bytes, *, certificate_der: bytes, message: bytes | None = None) -> Content:
    """Check SignedData against the one certificate that may have made it; return what it holds.

    Args:
        message: The detached data; None when the content is inside, whose first element's content
            octets are then what was signed.

    Raises:
        DataLossError: it cannot be read, or the signature is not this certificate's.
        InvalidArgumentError: the certificate cannot be read or has no RSA key.
    """
    certificate = load_certificate(certificate_der)
    fields = der.Reader(signed).inside(der.SEQUENCE)
    fields.content(der.INTEGER)
    fields.content(der.SET)
    content = _content(fields.inside(der.SEQUENCE))
    while fields.peek() in {0xA0, 0xA1}:
        fields.content(fields.peek())
    signer = fields.inside(der.SET).inside(der.SEQUENCE)
    signer.content(der.INTEGER)
    signer.content(der.SEQUENCE)
    signer.content(der.SEQUENCE)
    if message is None:
        if not content.data:
            raise der.damaged("it holds no content")
        message = der.Reader(content.data).content(content.data[0])
    if signer.peek() == 0xA0:  # noqa: PLR2004 - [0], signed attributes
        attributes = signer.content(0xA0)
        _check_attributes(attributes, content.type, message)
        message = der.element(der.SET, attributes)
    signer.content(der.SEQUENCE)
    signature = signer.content(der.OCTET_STRING)
    try:
        _public_key(certificate).verify(signature, message, padding.PKCS1v15(), SHA256())
    except InvalidSignature as cause:
        raise DataLossError("a signature is not the one of this certificate") from cause
    return content


def load_certificate(certificate_der: bytes) -> x509.Certificate:
    """Read the certificate of a signer.

    Raises:
        InvalidArgumentError: it cannot be read or has no RSA key.
    """
    try:
        certificate = x509.load_der_x509_certificate(certificate_der)
    except ValueError as cause:
        raise InvalidArgumentError("this is no X.509 certificate in DER") from cause
    _public_key(certificate)
    return certificate


def _public_key(certificate: x509.Certificate) -> rsa.RSAPublicKey:
    try:
        key = certificate.public_key()
    except ValueError as cause:
        raise InvalidArgumentError("the key of this certificate cannot be read") from cause
    if not isinstance(key, rsa.RSAPublicKey):
        raise InvalidArgumentError("firmware needs a certificate with an RSA key")
    return key


def _attributes(content_type: str, message: bytes, signing_time: datetime) -> list[bytes]:
    values = {
        _CONTENT_TYPE: der.object_identifier(content_type),
        _SIGNING_TIME: der.utc_time(signing_time),
        _MESSAGE_DIGEST: der.octets(hashlib.sha256(message).digest()),
    }
    return [
        der.sequence(der.object_identifier(kind), der.set_of(value))
        for kind, value in values.items()
    ]


def _content(info: der.Reader) -> Content:
    kind = _dotted(info.content(der.OBJECT_IDENTIFIER))
    if info.is_at_end:
        return Content(type=kind)
    explicit = info.inside(0xA0)
    return Content(type=kind, data=explicit.whole(explicit.peek()))


def _check_attributes(attributes: bytes, content_type: str, message: bytes) -> None:
    reader = der.Reader(attributes)
    found: dict[bytes, bytes] = {}
    while not reader.is_at_end:
        attribute = reader.inside(der.SEQUENCE)
        kind = attribute.whole(der.OBJECT_IDENTIFIER)
        if kind in found:
            raise der.damaged("an attribute comes twice")
        found[kind] = attribute.content(der.SET)
    digest = der.octets(hashlib.sha256(message).digest())
    stated = found.get(der.object_identifier(_MESSAGE_DIGEST), b"")
    if not hmac.compare_digest(stated, digest):
        raise DataLossError("a signature was made for other content")
    if found.get(der.object_identifier(_CONTENT_TYPE)) != der.object_identifier(content_type):
        raise der.damaged("it says that it signs another kind of content")


def _dotted(content: bytes) -> str:
    numbers: list[int] = []
    number = 0
    for byte in content:
        number = number << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(number)
            number = 0
    if not numbers:
        raise der.damaged("an object identifier is empty")
    first = min(numbers[0] // 40, 2)
    return ".".join(str(part) for part in (first, numbers[0] - 40 * first, *numbers[1:]))
