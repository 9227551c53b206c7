# SPDX-License-Identifier: Apache-2.0
"""The signed form in which a firmware takes PK, KEK, db and dbx: a ".auth" file.

    EFI_VARIABLE_AUTHENTICATION_2 { time, WIN_CERTIFICATE_UEFI_GUID { PKCS#7 } } │ new value

The signature is detached, without signed attributes, over name, vendor, attributes, time and value
(UEFI 2.10, 8.2.2). The PKCS#7 is bare SignedData, without ContentInfo: older firmware takes only
that. A firmware refuses a time that is not later than the one of the value it has, unless it is in
Setup Mode or the write appends; so the time is the version of a value, and an argument here.
"""

import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from metropolis.base.errors import DataLossError
from metropolis.formats import pkcs7
from metropolis.formats.efi.variables import AUTHENTICATED, Attributes, VariableName

_TIME: Final = struct.Struct("<HBBBBBBIhBB")
_CERTIFICATE: Final = struct.Struct("<IHH16s")
_REVISION: Final = 0x0200
_UEFI_GUID_CERTIFICATE: Final = 0x0EF1
_PKCS7: Final = UUID("4aafd29d-68df-49ee-8aa9-347d375665a7")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticatedValue:
    """A ".auth" file in parts.

    Attributes:
        time: In UTC, whole seconds.
        signed: PKCS#7 SignedData (DER).
        value: What the variable is to hold, or what is to be appended.
    """

    time: datetime
    signed: bytes
    value: bytes


def authenticate(
    name: VariableName,
    value: bytes,
    *,
    time: datetime,
    certificate_der: bytes,
    sign: pkcs7.Sign,
    attributes: Attributes = AUTHENTICATED,
) -> bytes:
    """Return the bytes that write `value` to a variable: what follows the attributes in efivarfs.

    Args:
        time: Whole seconds, UTC.
        certificate_der: X.509 of the signer: for PK and KEK the owner of the PK, for db and dbx
            the owner of a KEK.
        sign: Signs a message, RSASSA-PKCS1-v1_5 over SHA-256.
        attributes: Those it will be written with, the flag for appending included.

    Raises:
        InvalidArgumentError: the certificate cannot be read or has no RSA key.
    """
    signed = pkcs7.signed_data(
        pkcs7.Content(type=pkcs7.DATA_TYPE),
        message=_message(name, attributes, time, value),
        certificate_der=certificate_der,
        sign=sign,
        signing_time=None,
    )
    certificate = _CERTIFICATE.pack(
        _CERTIFICATE.size + len(signed), _REVISION, _UEFI_GUID_CERTIFICATE, _PKCS7.bytes_le
    )
    return _encode_time(time) + certificate + signed + value


def decode(content: bytes) -> AuthenticatedValue:
    """Take a ".auth" file apart. Believe nothing of it before `verify`.

    Raises:
        DataLossError: it is cut or damaged.
    """
    if len(content) < _TIME.size + _CERTIFICATE.size:
        raise _damaged("it is cut")
    year, month, day, hour, minute, second, *rest = _TIME.unpack_from(content)
    length, revision, kind, guid = _CERTIFICATE.unpack_from(content, _TIME.size)
    end = _TIME.size + length
    if (revision, kind, guid) != (_REVISION, _UEFI_GUID_CERTIFICATE, _PKCS7.bytes_le):
        raise _damaged("its signature is of an unknown kind")
    if not _TIME.size + _CERTIFICATE.size < end <= len(content):
        raise _damaged("its signature has an impossible length")
    try:
        time = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as cause:
        raise _damaged("its time is impossible") from cause
    if any(rest):
        raise _damaged("its time has parts that must be zero")
    return AuthenticatedValue(
        time=time,
        signed=content[_TIME.size + _CERTIFICATE.size : end],
        value=content[end:],
    )


def verify(
    name: VariableName,
    content: bytes,
    *,
    certificate_der: bytes,
    attributes: Attributes = AUTHENTICATED,
) -> AuthenticatedValue:
    """Check a ".auth" file against the certificate that must have signed it, as the firmware does.

    Raises:
        DataLossError: it is damaged, or signed for another variable or by another key.
    """
    parts = decode(content)
    signed = parts.signed
    if signed[4:6] == b"\x06\x09":  # an object identifier: others write the ContentInfo, too
        signed = pkcs7.unwrap_content_info(signed)
    message = _message(name, attributes, parts.time, parts.value)
    pkcs7.verify(signed, certificate_der=certificate_der, message=message)
    return parts


def _message(name: VariableName, attributes: Attributes, time: datetime, value: bytes) -> bytes:
    head = name.name.encode("utf-16-le") + name.vendor.bytes_le + struct.pack("<I", attributes)
    return head + _encode_time(time) + value


def _encode_time(time: datetime) -> bytes:
    assert time.tzinfo is not None
    time = time.astimezone(UTC)
    return _TIME.pack(
        *(time.year, time.month, time.day, time.hour, time.minute, time.second),
        *(0, 0, 0, 0, 0),
    )


def _damaged(reason: str) -> DataLossError:
    return DataLossError(
        f"a signed value for a firmware variable cannot be read: {reason}",
        remedy="Build the enrolment files again.",
    )
