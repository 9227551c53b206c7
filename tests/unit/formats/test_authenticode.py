# SPDX-License-Identifier: Apache-2.0
"""A signed image is accepted by the tools of firmware people, and by nobody after a change."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kits.portable_executable import stub
from kits.signer import Signer, signer
from metropolis.base.errors import DataLossError, InvalidArgumentError
from metropolis.formats import authenticode, pe

WHEN = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)
IMAGE = pe.add_sections(stub(), [(".linux", b"kernel" * 700), (".cmdline", b"quiet")])


def _signed(image: bytes = IMAGE, by: Signer | None = None) -> bytes:
    who = by or signer()
    return authenticode.attach(
        image, certificate_der=who.certificate_der, sign=who.sign, signing_time=WHEN
    )


def _sbverify(directory: Path, image: bytes, by: Signer) -> subprocess.CompletedProcess[str]:
    (directory / "image.efi").write_bytes(image)
    (directory / "certificate.pem").write_bytes(by.certificate_pem)
    return subprocess.run(
        ["sbverify", "--cert", directory / "certificate.pem", directory / "image.efi"],
        check=False,
        capture_output=True,
        text=True,
    )


def test_sbverify_accepts_our_signature_and_no_other_certificate(tmp_path: Path) -> None:
    accepted = _sbverify(tmp_path, _signed(), signer())
    assert (accepted.returncode, accepted.stdout.strip()) == (0, "Signature verification OK")
    assert "warning" not in accepted.stderr
    assert _sbverify(tmp_path, _signed(), signer("foreign")).returncode == 1


def test_we_accept_what_sbsign_signs(tmp_path: Path) -> None:
    (tmp_path / "image.efi").write_bytes(IMAGE)
    (tmp_path / "key.pem").write_bytes(signer().key_pem)
    (tmp_path / "certificate.pem").write_bytes(signer().certificate_pem)
    subprocess.run(
        [
            *("sbsign", "--key", tmp_path / "key.pem", "--cert", tmp_path / "certificate.pem"),
            *("--output", tmp_path / "signed.efi", tmp_path / "image.efi"),
        ],
        check=True,
        capture_output=True,
    )
    signed = (tmp_path / "signed.efi").read_bytes()
    authenticode.verify(signed, signer().certificate_der)
    with pytest.raises(DataLossError):
        authenticode.verify(signed, signer("foreign").certificate_der)


def test_the_same_image_signed_twice_is_the_same_file() -> None:
    assert _signed() == _signed()
    assert _signed(_signed()) == _signed()


def test_a_signature_that_is_taken_away_leaves_the_image_as_it_was() -> None:
    assert authenticode.strip(_signed()) == IMAGE
    assert authenticode.strip(IMAGE) == IMAGE
    assert pe.authenticode_digest(_signed()) == pe.authenticode_digest(IMAGE)


def test_an_image_of_odd_length_can_be_signed(tmp_path: Path) -> None:
    signed = _signed(IMAGE + b"odd")
    authenticode.verify(signed, signer().certificate_der)
    assert _sbverify(tmp_path, signed, signer()).returncode == 0


def test_a_changed_image_is_refused(tmp_path: Path) -> None:
    changed = bytearray(_signed())
    changed[2100] ^= 1
    with pytest.raises(DataLossError, match="changed after it was signed"):
        authenticode.verify(bytes(changed), signer().certificate_der)
    assert _sbverify(tmp_path, bytes(changed), signer()).returncode == 1


def test_an_unsigned_image_and_a_foreign_signature_are_told_apart() -> None:
    with pytest.raises(DataLossError, match="is not signed"):
        authenticode.verify(IMAGE, signer().certificate_der)
    with pytest.raises(DataLossError, match="not the one of this certificate"):
        authenticode.verify(_signed(by=signer("foreign")), signer().certificate_der)


def test_bytes_behind_the_signature_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="behind its signatures"):
        authenticode.strip(_signed() + bytes(8))
    with pytest.raises(DataLossError, match="behind it"):
        authenticode.verify(_signed() + bytes(8), signer().certificate_der)


def test_a_signed_image_takes_no_more_sections() -> None:
    with pytest.raises(InvalidArgumentError, match="it is signed"):
        pe.add_sections(_signed(), [(".osrel", b"")])


@given(data=st.data())
def test_damage_of_a_signature_never_breaks_the_reader(data: st.DataObject) -> None:
    signed = bytearray(_signed())
    start = len(IMAGE)
    at = data.draw(st.integers(start, len(signed) - 1))
    value = data.draw(st.integers(0, 255))
    was = signed[at]
    signed[at] = value
    try:
        authenticode.verify(bytes(signed), signer().certificate_der)
    except DataLossError as refused:
        assert was != value, refused  # noqa: PT017
