# SPDX-License-Identifier: Apache-2.0
"""Signatures with a shared key, by the vectors of the interface."""

from datetime import UTC, datetime, timedelta

import pytest

from metropolis.base.errors import UnauthenticatedError
from metropolis.metal.access.hmac import HmacKeys, Proof, signature, users, verify
from metropolis.metal.access.role import Role

DATE = "2026-01-02T03:04:05Z"
SIGNED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SALT = "abcdefghijklmnopqrstuvwx"
KEYS = HmacKeys(keys={Role.ADMIN: b"metal-admin", Role.VIEW: b"k"})


def judged(
    *,
    kind: str = "Metal-Admin",
    hexadecimal: str = "",
    date: str = DATE,
    salt: str = SALT,
    method: str = "POST",
    now: datetime = SIGNED,
) -> Proof:
    key = b"metal-admin" if kind == "Metal-Admin" else b"k"
    given = hexadecimal or signature(key, date=DATE, method="POST", salt=salt)
    return verify(
        KEYS,
        users("metal-stack"),
        authorization=f"{kind} {given}",
        date=date,
        salt=salt,
        method=method,
        now=now,
    )


def test_the_first_vector_of_the_interface_holds() -> None:
    assert (
        signature(b"k", date=DATE, method="GET", salt="a" * 24)
        == "acda713acc433a08c891c7fb79cfabca7dfb0a3d0271b9c1d42aa72a7790f1f1"
    )


def test_the_second_vector_of_the_interface_holds() -> None:
    assert (
        signature(b"metal-admin", date=DATE, method="POST", salt=SALT)
        == "9d02121681f8ed232b1b46b4981d7d38db370a5aba6861fba208d617da0f8443"
    )


def test_a_good_signature_gives_the_user_of_its_key() -> None:
    caller = judged().caller
    assert (caller.email, caller.name) == ("metal-admin@metal-stack.io", "Metal-Admin")
    assert (caller.role, caller.tenant) == (Role.ADMIN, "metal-stack")


def test_the_date_may_be_written_in_any_zone() -> None:
    assert judged(date="2026-01-02T05:04:05+02:00").caller.role is Role.ADMIN


@pytest.mark.parametrize("sign", [1, -1], ids=["too old", "in the future"])
def test_a_date_is_judged_both_ways(sign: int) -> None:
    assert judged(now=SIGNED + sign * timedelta(seconds=90)).caller.role is Role.ADMIN
    with pytest.raises(UnauthenticatedError, match="timestamp in your header"):
        judged(now=SIGNED + sign * timedelta(seconds=90.001))


def test_viewers_have_less_time_than_administrators() -> None:
    assert judged(kind="Metal-View", now=SIGNED + timedelta(seconds=30)).caller.role is Role.VIEW
    with pytest.raises(UnauthenticatedError, match="too old"):
        judged(kind="Metal-View", now=SIGNED + timedelta(seconds=31))


def test_a_signature_of_another_method_salt_or_key_is_refused() -> None:
    with pytest.raises(UnauthenticatedError, match="Wrong HMAC found"):
        judged(method="GET")
    for hexadecimal in (
        signature(b"k", date=DATE, method="POST", salt=SALT),
        signature(b"metal-admin", date=DATE, method="POST", salt="x" * 24),
        "0" * 64,
        "\u00e4",
    ):
        with pytest.raises(UnauthenticatedError, match="Wrong HMAC found"):
            judged(hexadecimal=hexadecimal)


@pytest.mark.parametrize("date", ["", "yesterday", "2026-01-02T03:04:05", "9" * 40])
def test_a_date_that_is_none_is_refused_with_its_text(date: str) -> None:
    with pytest.raises(UnauthenticatedError, match="X-Date"):
        judged(date=date)


@pytest.mark.parametrize("salt", ["", "s" * 257])
def test_a_salt_must_be_there_and_short(salt: str) -> None:
    with pytest.raises(UnauthenticatedError, match="X-Data-Salt"):
        judged(salt=salt)


def test_a_role_without_a_key_cannot_be_used() -> None:
    with pytest.raises(UnauthenticatedError, match="no key for Metal-Edit"):
        judged(kind="Metal-Edit")


def test_the_same_signature_has_the_same_digest_and_another_salt_another() -> None:
    assert judged().digest == judged().digest
    assert judged().digest != judged(salt="y" * 24).digest
    assert judged().expires == SIGNED + timedelta(seconds=90)
