# SPDX-License-Identifier: Apache-2.0
"""Timeouts in headers, and what is no gRPC answer."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.base.errors import (
    InvalidArgumentError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
    UnknownError,
)
from metropolis.rpc.grpc.headers import decode_timeout, encode_timeout, response_error


@given(st.floats(min_value=0, max_value=1e6))
def test_a_timeout_survives_and_is_never_cut_short(timeout_s: float) -> None:
    decoded = decode_timeout(encode_timeout(timeout_s))
    assert decoded is not None
    assert timeout_s <= decoded <= timeout_s + (0.0011 if timeout_s < 99_999 else 1.1)


@given(st.floats(min_value=0, allow_nan=False, allow_infinity=False))
def test_every_timeout_has_at_most_eight_digits(timeout_s: float) -> None:
    text = encode_timeout(timeout_s)
    assert len(text) <= 9
    decode_timeout(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1H", 3600), ("2M", 120), ("3S", 3), ("4m", 0.004), ("5u", 5e-6), ("6n", 6e-9), ("0S", 0)],
)
def test_every_unit_is_understood(text: str, seconds: float) -> None:
    assert decode_timeout(text) == pytest.approx(seconds)


def test_no_timeout_and_one_of_years_are_none() -> None:
    assert decode_timeout(None) is None
    assert decode_timeout("99999999H") is None


@given(st.text(max_size=12))
def test_other_texts_are_refused_or_understood(text: str) -> None:
    with suppress(InvalidArgumentError):
        decode_timeout(text)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("401", UnauthenticatedError),
        ("404", UnimplementedError),
        ("503", UnavailableError),
        ("500", UnknownError),
    ],
)
def test_an_http_answer_becomes_the_nearest_error(status: str, kind: type[Exception]) -> None:
    assert type(response_error({":status": status})) is kind


def test_only_grpc_content_is_an_answer() -> None:
    assert response_error({":status": "200", "content-type": "application/grpc+proto"}) is None
    assert isinstance(response_error({":status": "200", "content-type": "text/html"}), UnknownError)
    assert isinstance(response_error({}), UnknownError)
