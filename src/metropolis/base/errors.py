# SPDX-License-Identifier: Apache-2.0
"""Errors an operator can act on.

Two families, never mixed:

* `MetropolisError` is an *operating* error: the world said no. It is expected, handled, shown to
  people, and says what to do next.
* `AssertionError` is a *programmer* error: our own invariant broke. It is never caught below the
  supervision tree, which restarts the runnable and logs the traceback.

There is one class per gRPC status, because that is what a caller can tell apart on the wire.
"""

from collections.abc import Iterator
from typing import ClassVar, cast


class MetropolisError(Exception):
    """Something outside our control failed, or a caller asked for what it may not have.

    Attributes:
        remedy: One imperative sentence telling the operator what to do. Empty only when the
            caller (not the operator) must act, e.g. on a lost race.
        code: Stable identifier for machines: the gRPC status name, lower case with dashes.
        grpc_status: The number of that status (google.rpc.Code).
        retryable: Whether the same call may succeed later with no one intervening.
    """

    code: ClassVar[str] = "internal"
    grpc_status: ClassVar[int] = 13
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class InternalError(MetropolisError):
    """We broke a promise of ours; the report matters more than the retry."""


class CancelledCallError(MetropolisError):
    """The caller went away before the answer was ready."""

    code = "cancelled"
    grpc_status = 1


class UnknownError(MetropolisError):
    """A peer failed without saying how."""

    code = "unknown"
    grpc_status = 2


class InvalidArgumentError(MetropolisError):
    """The request can never succeed as it stands."""

    code = "invalid-argument"
    grpc_status = 3


class DeadlineExceededError(MetropolisError):
    """The answer did not come in time; whether the call took effect is not known."""

    code = "deadline-exceeded"
    grpc_status = 4
    retryable = True


class NotFoundError(MetropolisError):
    """What the request names does not exist."""

    code = "not-found"
    grpc_status = 5


class AlreadyExistsError(MetropolisError):
    """What the request would create exists."""

    code = "already-exists"
    grpc_status = 6


class PermissionDeniedError(MetropolisError):
    """The caller is known, and may not do this."""

    code = "permission-denied"
    grpc_status = 7


class ResourceExhaustedError(MetropolisError):
    """A limit was reached: message size, rate, quota, space."""

    code = "resource-exhausted"
    grpc_status = 8


class FailedPreconditionError(MetropolisError):
    """The system is not in the state that the request needs."""

    code = "failed-precondition"
    grpc_status = 9


class AbortedError(MetropolisError):
    """A concurrent change won; read again and retry."""

    code = "aborted"
    grpc_status = 10
    retryable = True


class OutOfRangeError(MetropolisError):
    """A value is past a limit that other values of its kind respect."""

    code = "out-of-range"
    grpc_status = 11


class UnimplementedError(MetropolisError):
    """This build does not do that; the message says why."""

    code = "unimplemented"
    grpc_status = 12


class UnavailableError(MetropolisError):
    """A peer, a store or a device did not answer; it may later."""

    code = "unavailable"
    grpc_status = 14
    retryable = True


class DataLossError(MetropolisError):
    """Stored data is damaged beyond what we may guess."""

    code = "data-loss"
    grpc_status = 15


class UnauthenticatedError(MetropolisError):
    """The caller did not prove who it is."""

    code = "unauthenticated"
    grpc_status = 16


BY_GRPC_STATUS: dict[int, type[MetropolisError]] = {
    kind.grpc_status: kind
    for kind in (
        CancelledCallError,
        UnknownError,
        InvalidArgumentError,
        DeadlineExceededError,
        NotFoundError,
        AlreadyExistsError,
        PermissionDeniedError,
        ResourceExhaustedError,
        FailedPreconditionError,
        AbortedError,
        OutOfRangeError,
        UnimplementedError,
        InternalError,
        UnavailableError,
        DataLossError,
        UnauthenticatedError,
    )
}


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors inside nested exception groups, or `error` itself."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        for inner in group.exceptions:
            yield from leaves(inner)
    else:
        yield error


def chain(error: BaseException) -> str:
    """Render an error and its explicit causes on one line, outermost first.

    Groups are transparent: "unhandled errors in a TaskGroup" tells an operator nothing.
    """
    return "; ".join(_chain_one(leaf) for leaf in leaves(error))


def _chain_one(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    cause = error.__cause__
    while cause is not None and str(cause) and str(cause) in text:  # it was told already
        cause = cause.__cause__
    return text if cause is None else f"{text}: {chain(cause)}"
