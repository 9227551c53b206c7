# SPDX-License-Identifier: Apache-2.0
"""Calls of the Metal API: HTTP on one kept connection, JSON, signatures.

Every way in which the server can say no becomes one of our errors, with what it said.
"""

import contextlib
import hashlib
import hmac
import http.client
import itertools
import json
import os
import re
import secrets
import select
import socket
import ssl
import string
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, cast

from metropolis.base.errors import (
    AbortedError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    MetropolisError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
)

DEFAULT_TIMEOUT_S: Final = 30.0
SALT_LENGTH: Final = 24
MESSAGE_LENGTH_MAX: Final = 2000
_BLOCK_BYTES: Final = 1 << 20
_SCHEMES: Final = ("http", "https")
_SAID: Final = re.compile(r"(.*?[^.])\. ([A-Z].*\.)", re.DOTALL)
_ERRORS: Final[Mapping[int, tuple[type[MetropolisError], str]]] = {
    400: (InvalidArgumentError, "Correct what the message names, then try again."),
    401: (PermissionDeniedError, "Log in with `metalctl login`, or name a key with --hmac-file."),
    403: (PermissionDeniedError, "Log in with `metalctl login`, or ask for a greater role."),
    404: (NotFoundError, "List what there is, and compare the spelling."),
    409: (AbortedError, "Read it again, then repeat the change."),
    412: (AbortedError, "Somebody else changed it: read it again, then repeat the change."),
    413: (InvalidArgumentError, "Send less at once."),
    422: (FailedPreconditionError, "Put right what the message names, then try again."),
    503: (UnavailableError, "Try again in a moment."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where the API is and who calls.

    Attributes:
        url: With the base path, `https://api.example.com/metal`.
        token: A bearer token; empty for none. It goes before the key.
        hmac_key: A shared key; empty for none.
        hmac_type: Whose key that is: `Metal-View`, `Metal-Edit` or `Metal-Admin`.
        authority: PEM certificates to trust instead of the system's; empty for the system's.
    """

    url: str
    token: str = field(default="", repr=False)
    hmac_key: str = field(default="", repr=False)
    hmac_type: str = "Metal-Admin"
    authority: str = ""
    timeout_s: float = DEFAULT_TIMEOUT_S


def signature_headers(
    key: str, hmac_type: str, method: str, *, now: datetime, salt: str
) -> dict[str, str]:
    """Sign a call with a shared key, over its date, method and salt as the interface wants it."""
    date = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    signed = f"{date}{method}{salt}".encode()
    digest = hmac.new(key.encode(), signed, hashlib.sha256).hexdigest()
    return {"X-Date": date, "X-Data-Salt": salt, "Authorization": f"{hmac_type} {digest}"}


class Client:
    """A connection to one Metal API; use it in a `with` block."""

    def __init__(
        self, access: Access, *, trace: Callable[[str], None] = lambda _line: None
    ) -> None:
        """Parse the URL; nothing is dialled yet.

        Args:
            trace: Told about every call, without secrets.

        Raises:
            InvalidArgumentError: the URL is none.
        """
        parts = urllib.parse.urlsplit(access.url)
        if parts.scheme not in _SCHEMES or not parts.hostname:
            raise InvalidArgumentError(
                f"{access.url!r} is not the URL of a Metal API",
                remedy="Give --api-url, METALCTL_API_URL or a context, e.g. http://127.0.0.1:8080.",
            )
        self._access = access
        self._trace = trace
        self._base = parts.path.rstrip("/")
        self._connection = _connection(parts, access)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.close()

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str] | None = None,
        accepts_failure: bool = False,
    ) -> Any:  # noqa: ANN401  # JSON
        """Call an operation and return the JSON of its answer.

        Args:
            path: Below the base path, with its parameters already quoted (see `quoted`).
            accepts_failure: An answer of 500 is one that the caller understands.

        Raises:
            MetropolisError: the server cannot be reached or says no.
        """
        target = f"{self._base}{path}"
        if query:
            target += "?" + urllib.parse.urlencode(query)
        data = None if body is None else json.dumps(body).encode()
        headers = {"Accept": "application/json", **self._authorization(method)}
        if data is not None:
            headers["Content-Type"] = "application/json"
        self._trace(f"{method} {target}")
        status, answer = self._exchange(method, target, data, headers)
        self._trace(f"{status} {len(answer)} bytes")
        is_expected = accepts_failure and status == http.client.INTERNAL_SERVER_ERROR
        if status >= http.client.BAD_REQUEST and not is_expected:
            raise _error(status, answer)
        return _parsed(answer) if answer else None

    def upload(self, path: str, file: Path) -> None:
        """Send a file as the part `file` of a form, without reading all of it at once.

        Raises:
            MetropolisError: it cannot be read, or the server says no.
        """
        boundary = secrets.token_hex(16)
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="firmware"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        target = f"{self._base}{path}"
        try:
            with file.open("rb") as content:
                size = os.fstat(content.fileno()).st_size
                headers = {
                    "Content-Type": f"multipart/form-data; boundary={boundary}",
                    "Content-Length": str(len(head) + size + len(tail)),
                    **self._authorization("PUT"),
                }
                self._trace(f"PUT {target}")
                blocks = itertools.chain(
                    [head], iter(lambda: content.read(_BLOCK_BYTES), b""), [tail]
                )
                status, answer = self._exchange("PUT", target, blocks, headers)
        except FileNotFoundError:
            raise NotFoundError(f"there is no file {file}", remedy="Correct its path.") from None
        if status >= http.client.BAD_REQUEST:
            raise _error(status, answer)

    def _authorization(self, method: str) -> dict[str, str]:
        access = self._access
        if access.token:
            return {"Authorization": f"Bearer {access.token}"}
        if access.hmac_key:
            salt = "".join(secrets.choice(string.ascii_letters) for _ in range(SALT_LENGTH))
            now = datetime.now(UTC)  # noqa: TID251  # of the person who calls
            return signature_headers(access.hmac_key, access.hmac_type, method, now=now, salt=salt)
        return {}

    def _exchange(
        self,
        method: str,
        target: str,
        data: bytes | Iterable[bytes] | None,
        headers: Mapping[str, str],
    ) -> tuple[int, bytes]:
        connection = self._connection
        is_kept = connection.sock is not None
        if is_kept and _is_stale(connection.sock):
            connection.close()  # the server ended it while we waited; the next call dials
        try:
            try:
                return self._exchange_once(method, target, data, headers)
            except http.client.RemoteDisconnected:
                if not is_kept or method != "GET":  # only what changes nothing is sent twice
                    raise
                connection.close()
                return self._exchange_once(method, target, data, headers)
        except ssl.SSLCertVerificationError as cause:
            raise UnavailableError(
                f"{self._access.url}: its certificate is not trusted: {cause.verify_message}",
                remedy="Set certificate_authority_data of the context.",
            ) from cause
        except (OSError, http.client.HTTPException) as cause:
            connection.close()
            raise UnavailableError(
                f"{self._access.url} cannot be reached: {_reason(cause)}",
                remedy="Check the URL and that the control plane runs (`make metal`).",
            ) from cause

    def _exchange_once(
        self,
        method: str,
        target: str,
        data: bytes | Iterable[bytes] | None,
        headers: Mapping[str, str],
    ) -> tuple[int, bytes]:
        with contextlib.suppress(BrokenPipeError):  # who refuses early has answered already
            self._connection.request(method, target, body=data, headers=dict(headers))
        response = self._connection.getresponse()
        return response.status, response.read()


def _parsed(answer: bytes) -> Any:  # noqa: ANN401  # JSON
    try:
        return json.loads(answer)
    except ValueError:
        raise UnavailableError(
            "what answered does not speak JSON, so it is no Metal API",
            remedy="Check the URL, above all its path.",
        ) from None


def quoted(text: str) -> str:
    """Return a text as one segment of a path."""
    return urllib.parse.quote(text, safe="")


def _connection(parts: urllib.parse.SplitResult, access: Access) -> http.client.HTTPConnection:
    assert parts.hostname
    if parts.scheme == "http":
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=access.timeout_s)
    context = ssl.create_default_context(cadata=access.authority or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return http.client.HTTPSConnection(
        parts.hostname, parts.port, timeout=access.timeout_s, context=context
    )


def _is_stale(sock: socket.socket) -> bool:
    """Whether something is to be read although nothing was asked: an end, or nonsense."""
    return bool(select.select([sock], [], [], 0)[0])


def _error(status: int, answer: bytes) -> MetropolisError:
    message = ""
    try:
        document: object = json.loads(answer)
        if isinstance(document, dict):
            message = str(cast("dict[str, object]", document).get("message", ""))
    except ValueError:
        message = answer[:MESSAGE_LENGTH_MAX].decode(errors="replace")
    kind, remedy = _ERRORS.get(
        status, (InternalError, "Look for the request in the log of the control plane.")
    )
    said = _SAID.fullmatch(message[:MESSAGE_LENGTH_MAX])
    if said is not None:  # our control plane ends a message with what to do
        return kind(said[1], remedy=said[2])
    return kind(message[:MESSAGE_LENGTH_MAX] or f"the server answered {status}", remedy=remedy)


def _reason(cause: Exception) -> str:
    if isinstance(cause, socket.gaierror):
        return "its name does not resolve"
    if isinstance(cause, TimeoutError):
        return "it did not answer in time"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__
