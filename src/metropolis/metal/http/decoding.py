# SPDX-License-Identifier: Apache-2.0
"""From the bytes of a request to the types an operation declares, strictly.

What does not fit is refused with the field named. A NUL character is no text that a database
keeps, so it is refused here, once, wherever it stands.
"""

import re
from typing import Any, Final

import msgspec

from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.http.exchange import JSON, Exchange
from metropolis.metal.http.operation import Nothing, Operation, Upload
from metropolis.metal.http.problem import HttpProblem

Pairs = list[tuple[str, str]]
_NUL_ESCAPE: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
BY_HEADER: Final = frozenset({"idempotency-key"})  # parameters that many clients send as a header
_ANY_JSON: Final = ("*/*", "application/*", JSON)


class BodyDecoder:
    """Decodes the body of one operation."""

    def __init__(self, operation: Operation[Any, Any]) -> None:
        self.wanted = operation.body is not Nothing and operation.body is not Upload
        self._decoder = msgspec.json.Decoder(operation.body) if self.wanted else None

    def decode(self, body: bytes) -> Any:  # noqa: ANN401  # of the operation's type
        """Decode a body; an empty one is an empty object.

        Raises:
            InvalidArgumentError: naming the field that does not fit.
        """
        if self._decoder is None:
            return Nothing()
        if _NUL_ESCAPE.search(body) is not None:
            raise InvalidArgumentError("the body holds a NUL character")
        try:
            return self._decoder.decode(body or b"{}")
        except msgspec.ValidationError as error:
            reason = "there is no body" if not body else str(error)
            raise InvalidArgumentError(f"the body does not fit: {reason}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidArgumentError(f"the body is not JSON: {error}") from None
        except RecursionError:
            raise InvalidArgumentError("the body is nested too deeply") from None


class QueryDecoder:
    """Decodes the query parameters of one operation."""

    def __init__(self, operation: Operation[Any, Any], additional: frozenset[str]) -> None:
        self._type = operation.query
        fields = msgspec.structs.fields(operation.query)
        self._known = {each.encode_name for each in fields}
        self._lists = {each.encode_name for each in fields if _is_list(each.type)}
        self._by_header = sorted(self._known & BY_HEADER)
        self._additional = additional
        self._nothing = operation.query() if not self._known else None

    def decode(self, exchange: Exchange) -> tuple[Any, Pairs]:
        """Return the operation's parameters, and those that the application itself takes.

        Raises:
            InvalidArgumentError: naming the parameter that does not fit or is unknown.
        """
        pairs = exchange.query()
        for name in self._by_header:
            sent = exchange.header(name.encode())
            if sent and any(other == name and value != sent for other, value in pairs):
                raise InvalidArgumentError(
                    f"{name}: header and query name different ones", remedy="Send one of them."
                )
            if sent:
                pairs = [*pairs, (name, sent)]
        if not pairs and self._nothing is not None:
            return self._nothing, []
        given: dict[str, Any] = {}
        additional: Pairs = []
        for name, value in pairs:
            if name in self._lists:
                given.setdefault(name, []).append(value)
            elif name in self._known:
                given[name] = value
            elif name in self._additional:
                additional.append((name, value))
            else:
                raise self._unknown(name)
        try:
            return msgspec.convert(given, self._type, strict=False), additional
        except msgspec.ValidationError as error:
            raise InvalidArgumentError(f"the query does not fit: {error}") from None

    def _unknown(self, name: str) -> InvalidArgumentError:
        known = ", ".join(sorted(self._known | self._additional)) or "none"
        return InvalidArgumentError(
            f"there is no query parameter {name[:64]!r} here", remedy=f"Known are: {known}."
        )


def check_content_type(exchange: Exchange, body: bytes) -> None:
    """Refuse a body that says it is not JSON.

    Raises:
        HttpProblem: 415.
    """
    given = exchange.headers.get(b"content-type")
    if given is None or given == b"application/json" or not body:
        return
    media = given.decode("latin-1").partition(";")[0].strip().lower()
    if media not in {JSON, "text/json", "*/*"} and not media.endswith("+json"):
        raise HttpProblem(415, f"the body must be {JSON}, not {media[:64]!r}")


def check_acceptable(exchange: Exchange) -> None:
    """Refuse a client that does not take JSON.

    Raises:
        HttpProblem: 406.
    """
    given = exchange.headers.get(b"accept")
    if not given or given in {b"application/json", b"*/*"}:
        return
    ranges = [each.partition(";")[0].strip() for each in given.decode("latin-1").split(",")]
    if not any(each.lower() in _ANY_JSON for each in ranges):
        raise HttpProblem(406, f"the answer is {JSON}, which the Accept header does not name")


def _is_list(kind: object) -> bool:
    text = str(kind)
    return text.startswith(("list[", "tuple[")) or " list[" in text or " tuple[" in text
