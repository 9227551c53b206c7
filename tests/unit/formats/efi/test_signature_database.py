# SPDX-License-Identifier: Apache-2.0
"""The content of db is what sbsiglist writes, and every damage of it is refused."""

import hashlib
import subprocess
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kits.signer import signer
from metropolis.base.errors import DataLossError
from metropolis.formats.efi.signature_database import SHA256, X509, EfiSignature, decode, encode

OWNER = UUID("11111111-2222-3333-4444-123456789abc")


def _certificate(name: str = "db") -> EfiSignature:
    return EfiSignature(kind=X509, owner=OWNER, data=signer(name).certificate_der)


def _digest(data: bytes) -> EfiSignature:
    return EfiSignature(kind=SHA256, owner=OWNER, data=hashlib.sha256(data).digest())


@pytest.mark.parametrize(("kind", "name"), [(X509, "x509"), (SHA256, "sha256")])
def test_a_list_is_the_one_that_sbsiglist_writes(tmp_path: Path, kind: UUID, name: str) -> None:
    signature = _certificate() if kind == X509 else _digest(b"image")
    (tmp_path / "data").write_bytes(signature.data)
    subprocess.run(
        [
            *("sbsiglist", "--owner", str(OWNER), "--type", name),
            *("--output", tmp_path / "list", tmp_path / "data"),
        ],
        check=True,
    )
    assert encode([signature]) == (tmp_path / "list").read_bytes()


def test_signatures_come_back_in_their_order() -> None:
    signatures = (_certificate(), _digest(b"1"), _digest(b"2"), _certificate("KEK"))
    assert decode(encode(signatures)) == signatures
    assert decode(b"") == ()


def test_digests_share_a_list() -> None:
    assert len(encode([_digest(b"1"), _digest(b"2")])) == 28 + 2 * 48


@given(at=st.integers(0, 150), value=st.binary(min_size=1, max_size=8))
def test_damage_never_breaks_the_reader(at: int, value: bytes) -> None:
    content = bytearray(encode([_digest(b"1"), _digest(b"2"), _certificate()]))
    content[at : at + len(value)] = value
    for damaged in (bytes(content), bytes(content[:at])):
        try:
            decode(damaged)
        except DataLossError as refused:
            assert refused.remedy  # noqa: PT017
