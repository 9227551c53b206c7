# SPDX-License-Identifier: Apache-2.0
"""How errors look on the wire: one body for all of them, and a status that says what kind."""

from collections.abc import Mapping
from typing import Final

import msgspec

from metropolis.base.errors import (
    AbortedError,
    AlreadyExistsError,
    InternalError,
    InvalidArgumentError,
    MetropolisError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)

_STATUS: Final[tuple[tuple[type[MetropolisError], int], ...]] = (
    (InvalidArgumentError, 400),
    (UnauthenticatedError, 403),
    (PermissionDeniedError, 403),
    (NotFoundError, 404),
    (AlreadyExistsError, 409),
    (AbortedError, 409),
    (UnavailableError, 503),
    (InternalError, 500),
)
_OTHERWISE: Final = 422


class HttpErrorResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every answer that is not a success."""

    statuscode: int
    message: str


class HttpProblem(Exception):  # noqa: N818  # it is what a router answers, seldom an error of ours
    """An answer that only HTTP knows: no such path, method, type, or too long."""

    def __init__(
        self, status: int, message: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


def status_of(error: MetropolisError) -> int:
    """Return the HTTP status of an operating error.

    An error class may name its own with `http_status`, where the interface documents another than
    its kind would give.
    """
    own = getattr(error, "http_status", None)
    if isinstance(own, int):
        return own
    return next((status for kind, status in _STATUS if isinstance(error, kind)), _OTHERWISE)


def message_of(error: MetropolisError) -> str:
    """Return what happened and, after it, what to do."""
    text = str(error) or error.code
    return f"{text}. {error.remedy}" if error.remedy else text


def problem_body(status: int, message: str) -> bytes:
    """Return the body of an error."""
    return msgspec.json.encode(HttpErrorResponse(statuscode=status, message=message))
