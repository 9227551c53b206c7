# SPDX-License-Identifier: Apache-2.0
"""The vocabulary of the REST API: an operation, and a call of it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Generic, TypeVar

import msgspec

from metropolis.metal.access.caller import Caller
from metropolis.metal.site import Site

BodyT = TypeVar("BodyT")
QueryT = TypeVar("QueryT")


class Role(IntEnum):
    """Who may call; whoever has a greater role may, too."""

    NONE = 0  # everybody
    ANY = 1  # whoever belongs to the provider tenant
    VIEW = 2
    EDIT = 3
    ADMIN = 4


class Nothing(msgspec.Struct, frozen=True):
    """No body, or no query parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[BodyT, QueryT]):
    """One call of an operation, judged and decoded.

    Attributes:
        path: The parameters in the path by name, percent-decoded.
        request_id: As the client named it, or a new UUIDv7.
    """

    site: Site
    caller: Caller
    body: BodyT
    query: QueryT
    path: Mapping[str, str]
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(Generic[BodyT, QueryT]):
    """One line of the REST API.

    Attributes:
        id: The operationId, unique.
        path: Below the base path, `/v1/machine/{id}`.
        body: Type of the JSON body, also of a GET where the interface has one.
        query: Struct of the query parameters.
        answer: Type of what `handle` returns: a struct, a list of them, or raw JSON
            (`msgspec.Raw` of `answer_schema`).
        status: Of a successful answer.
        audited: None: whatever changes something is, whatever only reads is not.
        errors: Documented statuses beside those that every operation has.
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
    tag: str = ""
