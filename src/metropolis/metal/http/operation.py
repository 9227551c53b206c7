# SPDX-License-Identifier: Apache-2.0
"""The vocabulary of the REST API: an operation, and a call of it."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Generic, TypeVar

import msgspec

from metropolis.metal.access.caller import Caller
from metropolis.metal.access.role import Role
from metropolis.metal.site import Site
from metropolis.metal.store import Kind

__all__ = ["Call", "Nothing", "Operation", "Reply", "Role", "Upload"]

BodyT = TypeVar("BodyT")
QueryT = TypeVar("QueryT")


class Nothing(msgspec.Struct, frozen=True):
    """No body, or no query parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """The body of an operation that takes a file: part `file` of a multipart form.

    Attributes:
        file: At its beginning; kept in memory or in an unnamed temporary file, gone after the call.
    """

    file: BinaryIO
    size_bytes: int
    content_type: str = "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer with a status or headers of its own, for a handler that needs them.

    Attributes:
        value: As a handler returns it otherwise.
    """

    value: Any
    status: int
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, kw_only=True)  # no slots: `Call[…](…)` sets an attribute
class Call(Generic[BodyT, QueryT]):
    """One call of an operation, judged and decoded.

    Attributes:
        path: The parameters in the path by name, percent-decoded.
        request_id: As the client named it, or a new UUIDv7.
        operation_ids: Of all operations of the interface.
    """

    site: Site
    caller: Caller
    body: BodyT
    query: QueryT
    path: Mapping[str, str]
    request_id: str
    operation_ids: Collection[str] = ()


@dataclass(frozen=True, kw_only=True)  # no slots: `Operation[…](…)` sets an attribute
class Operation(Generic[BodyT, QueryT]):
    """One line of the REST API.

    Attributes:
        id: The operationId, unique.
        path: Below the base path, `/v1/machine/{id}`.
        body: Type of the JSON body, also of a GET where the interface has one.
        query: Struct of the query parameters.
        answer: Type of what `handle` returns: a struct, a list of them, or raw JSON
            (`msgspec.Raw` of `answer_schema`). `Nothing` for an empty answer, where `handle`
            returns None.
        body: `Upload` for a file.
        status: Of a successful answer.
        audited: None: whatever changes something is, whatever only reads is not.
        errors: Documented statuses beside those that every operation has; one below 400 is a second
            success, with the same answer.
        depends_on: The kinds whose entities alone decide the answer (beside who asks what), so
            that it may be kept until one of these changes. Empty: it is made anew every time.
        depends_on_id: Kinds of which only the entity counts that `{id}` in the path names.
    """

    id: str
    method: str
    path: str
    role: Role
    summary: str
    handle: Callable[[Call[BodyT, QueryT]], Awaitable[Any]]
    answer: Any
    body: type[BodyT] | type[Nothing] = Nothing
    query: type[QueryT] | type[Nothing] = Nothing
    status: int = 200
    audited: bool | None = None
    errors: tuple[int, ...] = ()
    depends_on: tuple[Kind[Any], ...] = ()
    depends_on_id: tuple[Kind[Any], ...] = ()
    tag: str = ""
