# SPDX-License-Identifier: Apache-2.0
"""Request and response headers of gRPC over HTTP/2."""

import re
from collections.abc import Mapping
from typing import Final, cast

from hpack import NeverIndexedHeaderTuple

from metropolis.base.errors import (
    InvalidArgumentError,
    MetropolisError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
    UnknownError,
)
from metropolis.rpc.grpc.h2_connection import CONTENT_TYPE, Headers

_UNIT_S: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_TIMEOUT: Final = re.compile(r"([0-9]{1,8})([HMSmun])")
_FOREVER_S: Final = 1e7  # four months; longer deadlines are none
_METADATA_NAME: Final = re.compile(r"[0-9a-z_.\-]+")
_BY_HTTP_STATUS: Final[Mapping[str, type[MetropolisError]]] = {
    "401": UnauthenticatedError,
    "403": PermissionDeniedError,
    "404": UnimplementedError,
    "429": UnavailableError,
    "502": UnavailableError,
    "503": UnavailableError,
    "504": UnavailableError,
}


def request(
    path: str,
    *,
    scheme: str,
    authority: str,
    timeout_s: float | None,
    metadata: Mapping[str, str] | None,
) -> Headers:
    """Build the headers of a call."""
    headers: Headers = [
        (":method", "POST"),
        (":scheme", scheme),
        (":path", path),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", CONTENT_TYPE),
        ("user-agent", "metropolis"),
    ]
    if timeout_s is not None:
        timeout = NeverIndexedHeaderTuple("grpc-timeout", encode_timeout(timeout_s))
        headers.append(cast("tuple[str, str]", timeout))  # it varies; h2 tells it by its type
    for name, value in (metadata or {}).items():
        assert _METADATA_NAME.fullmatch(name), f"{name!r} cannot be the name of metadata"
        assert value.isascii(), f"metadata {name!r} must be printable ASCII"
        assert value.isprintable(), f"metadata {name!r} must be printable ASCII"
        headers.append((name, value))
    return headers


def encode_timeout(timeout_s: float) -> str:
    """Encode a duration in at most eight digits, rounded up; four months stand for longer ones."""
    timeout_s = min(timeout_s, _FOREVER_S)
    milliseconds = int(timeout_s * 1000) + 1
    return f"{milliseconds}m" if milliseconds < 10**8 else f"{int(timeout_s) + 1}S"


def decode_timeout(text: str | None) -> float | None:
    """Decode `grpc-timeout` into seconds.

    Raises:
        InvalidArgumentError: not a timeout.
    """
    if text is None:
        return None
    match = _TIMEOUT.fullmatch(text)
    if match is None:
        raise InvalidArgumentError(
            "the header grpc-timeout is malformed",
            remedy="Send at most eight digits and one of the units H, M, S, m, u, n.",
        )
    timeout_s = int(match[1]) * _UNIT_S[match[2]]
    return timeout_s if timeout_s < _FOREVER_S else None


def response_error(headers: Mapping[str, str]) -> MetropolisError | None:
    """Judge the headers of a response: an error if this is no gRPC server."""
    status = headers.get(":status", "")
    if status != "200":
        kind = _BY_HTTP_STATUS.get(status, UnknownError)
        return kind(
            f"the server answered with HTTP status {status}",
            remedy="Check that the address belongs to a Metropolis node.",
        )
    if not headers.get("content-type", "").startswith(CONTENT_TYPE):
        return UnknownError(
            "the server's answer is not gRPC",
            remedy="Check that the address belongs to a Metropolis node.",
        )
    return None
