# SPDX-License-Identifier: Apache-2.0
"""Errors survive the wire: whatever their text, and whatever a peer sends instead of one."""

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.base.errors import (
    BY_GRPC_STATUS,
    InternalError,
    InvalidArgumentError,
    MetropolisError,
    NotFoundError,
    UnavailableError,
    UnknownError,
)
from metropolis.rpc.status import (
    NodeDeletedError,
    NotLeaderError,
    from_trailers,
    sentence,
    to_answer,
    to_trailers,
)


@pytest.mark.parametrize("kind", BY_GRPC_STATUS.values())
def test_every_class_comes_back_with_its_text_and_remedy(kind: type[MetropolisError]) -> None:
    error = from_trailers(dict(to_trailers(kind("no node „x“", remedy="Try 100 % harder."))))
    assert type(error) is kind
    assert str(error) == "no node „x“"
    assert error is not None
    assert error.remedy == "Try 100 % harder."


@pytest.mark.parametrize(
    ("text", "remedy", "shown"),
    [
        ("it failed", "Retry.", "it failed. Retry."),
        ("it failed.", "Retry.", "it failed. Retry."),
        ("really?", "Yes.", "really? Yes."),
        ("it failed", "", "it failed"),
    ],
)
def test_text_and_remedy_make_one_sentence_each(text: str, remedy: str, shown: str) -> None:
    assert sentence(MetropolisError(text, remedy=remedy)) == shown


def test_the_leader_travels_with_the_error() -> None:
    error = from_trailers(
        dict(to_trailers(NotLeaderError(leader_id="metropolis-1", leader_host="fd00::1")))
    )
    assert isinstance(error, NotLeaderError)
    assert (error.leader_id, error.leader_host) == ("metropolis-1", "fd00::1")
    assert str(error) == "this node is not the leader of the cluster; metropolis-1 leads"
    assert error.remedy == "Send the request to metropolis-1 at fd00::1."


def test_a_deletion_is_told_apart_from_other_refusals() -> None:
    error = from_trailers(dict(to_trailers(NodeDeletedError("forgotten", remedy="Wipe it."))))
    assert type(error) is NodeDeletedError
    assert (str(error), error.remedy, error.grpc_status) == ("forgotten", "Wipe it.", 16)


@given(text=st.text(st.characters(), max_size=3000), remedy=st.text(st.characters(), max_size=700))
def test_every_text_makes_bounded_printable_trailers_that_can_be_read(
    text: str, remedy: str
) -> None:
    trailers = to_trailers(NotFoundError(text, remedy=remedy))
    for _, value in trailers:
        assert value.isascii()
        assert not value or value.isprintable()
        assert value == value.strip()
    assert sum(len(value) for _, value in trailers) < 32 << 10
    assert isinstance(from_trailers(dict(trailers)), NotFoundError)


@given(
    st.dictionaries(
        st.sampled_from(
            ["grpc-status", "grpc-message", "metropolis-code", "metropolis-remedy", "x"]
        ),
        st.text(max_size=30),
    )
)
def test_whatever_a_peer_sends_makes_an_error_or_success(trailers: dict[str, str]) -> None:
    error = from_trailers(trailers)
    assert error is None or isinstance(error, MetropolisError)


@pytest.mark.parametrize(
    ("trailers", "kind", "text"),
    [
        ({}, UnknownError, "without a status"),
        ({"grpc-status": "99"}, UnknownError, "gRPC status 99"),
        ({"grpc-status": "-1"}, UnknownError, "gRPC status -1"),
        ({"grpc-status": "x"}, UnknownError, "gRPC status x"),
        ({"grpc-status": "14"}, UnavailableError, "gRPC status 14"),
        ({"grpc-status": "3", "grpc-message": "b%C3%B6se %zz%"}, InvalidArgumentError, "böse %zz%"),
        ({"grpc-status": "3", "grpc-message": "%ff"}, InvalidArgumentError, "\ufffd"),
    ],
)
def test_foreign_trailers_are_understood(
    trailers: dict[str, str], kind: type[MetropolisError], text: str
) -> None:
    error = from_trailers(trailers)
    assert type(error) is kind
    assert text in str(error)


def test_success_is_no_error() -> None:
    assert from_trailers({"grpc-status": "0", "grpc-message": "x"}) is None


def test_a_bug_is_answered_with_a_number_that_the_log_has(caplog: Any) -> None:
    with caplog.at_level(logging.ERROR, "metropolis.rpc"):
        answer = to_answer(ValueError("a secret"), "/a.B/C")
    assert type(answer) is InternalError
    number = str(answer).partition("(error ")[2].partition(" ")[0]
    assert number.isdigit()
    assert f"/a.B/C failed, error {number}" in caplog.text
    assert "ValueError: a secret" in caplog.text
    assert "secret" not in str(answer)


def test_a_group_of_operating_errors_is_answered_with_the_first() -> None:
    first = NotFoundError("one")
    group = ExceptionGroup("several", [ExceptionGroup("x", [first]), UnavailableError("two")])
    assert to_answer(group, "/a.B/C") is first
    mixed = ExceptionGroup("several", [first, KeyError("x")])
    assert type(to_answer(mixed, "/a.B/C")) is InternalError
