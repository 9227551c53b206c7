# SPDX-License-Identifier: Apache-2.0
"""A signed value is what other tools sign and accept, for one variable only."""

import struct
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kits.signer import signer
from metropolis.base.errors import DataLossError
from metropolis.formats import pkcs7
from metropolis.formats.efi.authentication import authenticate, decode, verify
from metropolis.formats.efi.variables import (
    ALLOWED,
    AUTHENTICATED,
    KEY_EXCHANGE_KEYS,
    PLATFORM_KEY,
    Attributes,
    VariableName,
)

WHEN = datetime(2020, 2, 3, 4, 5, 6, tzinfo=UTC)
VALUE = bytes(range(200))
APPEND = AUTHENTICATED | Attributes.APPEND_WRITE


def _auth(name: VariableName = ALLOWED, attributes: Attributes = AUTHENTICATED) -> bytes:
    return authenticate(
        name,
        VALUE,
        time=WHEN,
        certificate_der=signer("KEK").certificate_der,
        sign=signer("KEK").sign,
        attributes=attributes,
    )


def test_the_time_and_the_certificate_have_the_form_of_the_specification() -> None:
    content = _auth()
    assert content[:16] == struct.pack("<HBBBBB", 2020, 2, 3, 4, 5, 6).ljust(16, b"\0")
    length, revision, kind = struct.unpack_from("<IHH", content, 16)
    assert (revision, kind) == (0x0200, 0x0EF1)
    assert content[16 + length :] == VALUE
    # Firmware looks for the digest's name at a fixed place of bare SignedData.
    signed = decode(content).signed
    assert signed[:2] == b"\x30\x82"
    assert signed[13:22].hex() == "608648016503040201"


def test_openssl_accepts_the_signature_over_what_the_specification_says(tmp_path: Path) -> None:
    parts = decode(_auth())
    message = "db".encode("utf-16-le") + ALLOWED.vendor.bytes_le + struct.pack("<I", 0x27)
    message += _auth()[:16] + VALUE
    (tmp_path / "signature").write_bytes(pkcs7.content_info(parts.signed))
    (tmp_path / "message").write_bytes(message)
    (tmp_path / "certificate").write_bytes(signer("KEK").certificate_pem)
    subprocess.run(
        [
            *("openssl", "smime", "-verify", "-binary", "-inform", "DER", "-noverify"),
            *("-in", tmp_path / "signature", "-content", tmp_path / "message"),
            *("-certfile", tmp_path / "certificate", "-nointern", "-out", "/dev/null"),
        ],
        check=True,
        capture_output=True,
    )


@pytest.mark.parametrize(("name", "text"), [(PLATFORM_KEY, "PK"), (KEY_EXCHANGE_KEYS, "KEK")])
def test_we_accept_what_sbvarsign_signs(tmp_path: Path, name: VariableName, text: str) -> None:
    (tmp_path / "value").write_bytes(VALUE)
    (tmp_path / "key").write_bytes(signer("PK").key_pem)
    (tmp_path / "certificate").write_bytes(signer("PK").certificate_pem)
    subprocess.run(
        [
            *("sbvarsign", "--key", tmp_path / "key", "--cert", tmp_path / "certificate"),
            *("--attr", "NON_VOLATILE,BOOTSERVICE_ACCESS,RUNTIME_ACCESS"),  # and time based
            *("--output", tmp_path / "auth", text, tmp_path / "value"),
        ],
        check=True,
    )
    content = (tmp_path / "auth").read_bytes()
    assert verify(name, content, certificate_der=signer("PK").certificate_der).value == VALUE


def test_a_value_is_accepted_for_its_variable_its_key_and_its_manner_only() -> None:
    certificate = signer("KEK").certificate_der
    assert verify(ALLOWED, _auth(), certificate_der=certificate).time == WHEN
    appended = _auth(attributes=APPEND)
    verify(ALLOWED, appended, certificate_der=certificate, attributes=APPEND)
    for name, content, by in (
        (KEY_EXCHANGE_KEYS, _auth(), "KEK"),
        (ALLOWED, _auth(), "foreign"),
        (ALLOWED, appended, "KEK"),
        (ALLOWED, _auth() + b"x", "KEK"),
    ):
        with pytest.raises(DataLossError, match="not the one of this certificate"):
            verify(name, content, certificate_der=signer(by).certificate_der)


def test_the_same_value_is_signed_the_same_way() -> None:
    assert _auth() == _auth()


@given(at=st.integers(0, 300), value=st.binary(min_size=1, max_size=8))
def test_damage_never_breaks_the_reader(at: int, value: bytes) -> None:
    content = bytearray(_auth())
    content[at : at + len(value)] = value
    for damaged in (bytes(content), bytes(content[:at])):
        try:
            verify(ALLOWED, damaged, certificate_der=signer("KEK").certificate_der)
        except DataLossError as refused:
            assert str(refused)  # noqa: PT017
