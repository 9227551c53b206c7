# SPDX-License-Identifier: Apache-2.0
"""Errors as people and programs see them."""

import pytest

from metropolis.base import errors
from metropolis.base.errors import BY_GRPC_STATUS, MetropolisError, UnavailableError, chain


def test_the_text_of_an_error_is_its_message_alone() -> None:
    error = UnavailableError("nobody answers", remedy="Switch it on.")
    assert str(error) == "nobody answers"
    assert error.remedy == "Switch it on."


def test_a_chain_names_each_cause_once_and_looks_through_groups() -> None:
    inner = ExceptionGroup("unhandled errors", [OSError("no route"), ValueError("bad port")])
    error = UnavailableError("cannot reach the node")
    error.__cause__ = inner
    assert chain(error) == "cannot reach the node: no route; bad port"


def test_a_cause_that_a_message_tells_already_is_not_told_again() -> None:
    error = UnavailableError("the database cannot be reached: connection refused")
    error.__cause__ = OSError("connection refused")
    error.__cause__.__cause__ = OSError("no server")
    assert chain(error) == "the database cannot be reached: connection refused: no server"


def test_an_error_without_text_is_named_by_its_class() -> None:
    assert chain(TimeoutError()) == "TimeoutError"


def test_every_grpc_status_but_ok_has_exactly_one_class() -> None:
    assert sorted(BY_GRPC_STATUS) == list(range(1, 17))
    codes = [kind.code for kind in BY_GRPC_STATUS.values()]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("kind", BY_GRPC_STATUS.values(), ids=lambda kind: kind.__name__)
def test_every_class_can_be_raised_and_caught_as_one_family(kind: type[MetropolisError]) -> None:
    assert getattr(errors, kind.__name__) is kind
    with pytest.raises(MetropolisError):
        raise kind("text")
