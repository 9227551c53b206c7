# SPDX-License-Identifier: Apache-2.0
"""Signatures of masterdata's clients."""

from datetime import UTC, datetime

import pytest

from metropolis.api.rpc_metal_masterdata import VersionService
from metropolis.base.errors import UnauthenticatedError
from metropolis.host.sim.entropy import SimEntropy
from metropolis.metal.masterdata.signing import SignatureAuthenticator, Signer, signature
from metropolis.rpc.peer import Peer, PeerKind
from unit.metal.kit import StillClock

KEY = b"change-me"
PEER = Peer(kind=PeerKind.USER, identity="client")


def judge(metadata: dict[str, str], now: datetime) -> None:
    authenticator = SignatureAuthenticator(key=KEY, clock=StillClock(now))
    authenticator.judge_metadata(VersionService.GET, metadata, PEER)


def test_the_signature_is_the_mac_of_date_method_and_salt() -> None:
    # printf %s 2026-01-02T03:04:05ZGRPCabcdefghijklmnopqrstuvwx |
    # openssl dgst -sha256 -hmac change-me
    expected = "c6e49d21dbaa11ca716751dd32002f1824250b80613fa55ee31118b5aa27dc38"
    assert signature(KEY, date="2026-01-02T03:04:05Z", salt="abcdefghijklmnopqrstuvwx") == expected


def test_a_date_may_name_another_zone() -> None:
    signed = signature(KEY, date="2026-01-02T03:04:05Z", salt="salt")
    metadata = {
        "x-date": "2026-01-02T04:04:05+01:00",
        "x-data-salt": "salt",
        "authorization": f"tmdm {signed}",
    }
    judge(metadata, datetime(2026, 1, 2, 3, 4, 20, tzinfo=UTC))
    with pytest.raises(UnauthenticatedError, match="too old"):
        judge(metadata, datetime(2026, 1, 2, 3, 4, 21, tzinfo=UTC))
    for date in ("2026-01-02T03:04:05", "", "9999-99-99T00:00:00Z", "0001-01-01T00:00:00+23:00"):
        with pytest.raises(UnauthenticatedError, match="x-date"):
            judge({**metadata, "x-date": date}, datetime(2026, 1, 2, tzinfo=UTC))


def test_every_call_is_salted_anew() -> None:
    signer = Signer(key=KEY, clock=StillClock(), entropy=SimEntropy(1))
    salts = {signer.metadata()["x-data-salt"] for _ in range(20)}
    assert len(salts) == 20
    assert all(len(salt) == 24 and salt.isalpha() and salt.isascii() for salt in salts)
    assert KEY.decode() not in repr(signer)
