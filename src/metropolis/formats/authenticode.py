# SPDX-License-Identifier: Apache-2.0
"""Secure Boot's signature of a PE image: Microsoft Authenticode, the same bytes for the same key.

    attach(image, …) -> image      put one signature behind it
    strip(image) -> image          take every signature away
    verify(image, certificate)     check it against the one certificate that may have signed it

A signature is PKCS#7 signed data of an SpcIndirectDataContent, which holds the image's digest, in a
WIN_CERTIFICATE. Its time is an argument: two builds of one image are one image. The firmware does
not look at that time.
"""

import hmac
import struct
from datetime import datetime
from typing import Final

from metropolis.base.errors import DataLossError
from metropolis.formats import der, pe, pkcs7

_CERTIFICATE: Final = struct.Struct("<IHH")
_REVISION_2: Final = 0x0200
_PKCS_SIGNED_DATA: Final = 0x0002
_INDIRECT_DATA: Final = "1.3.6.1.4.1.311.2.1.4"
_PE_IMAGE_DATA: Final = "1.3.6.1.4.1.311.2.1.15"
_SHA256: Final = der.sequence(der.object_identifier("2.16.840.1.101.3.4.2.1"), der.null())
_OBSOLETE: Final = "<<<Obsolete>>>".encode("utf-16-be")  # what the file name has to be


def attach(
    image: bytes, *, certificate_der: bytes, sign: pkcs7.Sign, signing_time: datetime
) -> bytes:
    """Return an image with this one signature; one that is there is replaced.

    Args:
        certificate_der: X.509 with an RSA key.
        sign: Signs a message with that key, RSASSA-PKCS1-v1_5 over SHA-256.
        signing_time: Whole seconds of a year before 2050.

    Raises:
        InvalidArgumentError: this is no PE image, or no such certificate.
    """
    unsigned = strip(image)
    unsigned += bytes(-len(unsigned) % 8)
    content = _indirect_data(pe.authenticode_digest(unsigned))
    signed = pkcs7.signed_data(
        pkcs7.Content(type=_INDIRECT_DATA, data=content),
        message=der.Reader(content).content(der.SEQUENCE),
        certificate_der=certificate_der,
        sign=sign,
        signing_time=signing_time,
    )
    signature = pkcs7.content_info(signed)
    certificate = _CERTIFICATE.pack(
        _CERTIFICATE.size + len(signature), _REVISION_2, _PKCS_SIGNED_DATA
    )
    table = certificate + signature
    table += bytes(-len(table) % 8)
    head = pe.headers(unsigned)
    complete = bytearray(unsigned + table)
    struct.pack_into("<II", complete, head.certificates_offset, len(unsigned), len(table))
    return bytes(pe.with_checksum(complete, head))


def strip(image: bytes) -> bytes:
    """Return an image without its signatures; one without any comes back as it is.

    Raises:
        InvalidArgumentError: this is no PE image, or something stands behind its signatures.
    """
    head = pe.headers(image)
    offset, size = head.certificates
    if not size:
        return image
    if offset + size != len(image):
        raise pe.refused("something stands behind its signatures")
    unsigned = bytearray(image[:offset])
    struct.pack_into("<II", unsigned, head.certificates_offset, 0, 0)
    return bytes(pe.with_checksum(unsigned, head))


def verify(image: bytes, certificate_der: bytes) -> None:
    """Check that the owner of a certificate has signed an image.

    Raises:
        DataLossError: it is not signed, signed by another, changed since, or cannot be read.
        InvalidArgumentError: this is no PE image, or no certificate with an RSA key.
    """
    signature = _signature(image)
    content = pkcs7.verify(pkcs7.unwrap_content_info(signature), certificate_der=certificate_der)
    if content.type != _INDIRECT_DATA:
        raise der.damaged("it is not of an image")
    fields = der.Reader(content.data).inside(der.SEQUENCE)
    fields.content(der.SEQUENCE)
    info = fields.inside(der.SEQUENCE)
    if info.whole(der.SEQUENCE) != _SHA256:
        raise der.damaged("it is over another hash than SHA-256")
    digest = info.content(der.OCTET_STRING)
    if not hmac.compare_digest(digest, pe.authenticode_digest(image)):
        raise DataLossError(
            "an image was changed after it was signed", remedy="Fetch or build the image again."
        )


def _signature(image: bytes) -> bytes:
    offset, size = pe.headers(image).certificates
    if size < _CERTIFICATE.size:
        raise DataLossError("an image is not signed", remedy="Sign it by the builder's db key.")
    length, revision, kind = _CERTIFICATE.unpack_from(image, offset)
    if (revision, kind) != (_REVISION_2, _PKCS_SIGNED_DATA):
        raise der.damaged("it is of another kind than PKCS#7")
    if not _CERTIFICATE.size < length <= size:
        raise der.damaged("its length is impossible")
    if length + -length % 8 != size or offset + size != len(image):
        raise der.damaged("there is more than one, or something behind it")
    return image[offset + _CERTIFICATE.size : offset + length]


def _indirect_data(digest: bytes) -> bytes:
    """SpcIndirectDataContent of a PE image: the form every signer writes, and firmware expects."""
    no_flags = der.element(der.BIT_STRING, b"\0")
    file_name = der.explicit(0, der.explicit(2, der.element(0x80, _OBSOLETE)))
    image_data = der.sequence(no_flags, file_name)
    kind = der.sequence(der.object_identifier(_PE_IMAGE_DATA), image_data)
    return der.sequence(kind, der.sequence(_SHA256, der.octets(digest)))
