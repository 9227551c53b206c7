# SPDX-License-Identifier: Apache-2.0
"""Errors on the wire: a `MetropolisError` as gRPC trailers, and back.

    grpc-status           number of the class
    grpc-message          "<text>. <remedy>", percent-encoded UTF-8: what foreign clients print
    metropolis-code       stable identifier of the error
    metropolis-remedy     the remedy alone, so that our client can take the two apart
    metropolis-leader-id, metropolis-leader-host    of a `NotLeaderError`

Errors that programs must tell from others of their status keep their class: `NotLeaderError`,
`NodeDeletedError`, `NodeRetiredError`, `ThrottledError`.

Errors of foreign servers (etcd) carry only the first two. What is not a `MetropolisError` never
reaches a peer: it gets a fixed sentence with an id, and our log the traceback under the same id.
"""

import itertools
import logging
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, unquote

from metropolis.base.errors import (
    BY_GRPC_STATUS,
    InternalError,
    MetropolisError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    UnknownError,
    leaves,
)

log: Final = logging.getLogger("metropolis.rpc")

GRPC_OK: Final = 0
TEXT_CHARACTERS_MAX: Final = 1024  # a character may take 12 bytes percent-encoded, clients
REMEDY_CHARACTERS_MAX: Final = 256  # accept 64 KiB of headers
_PRINTABLE: Final = "".join(chr(i) for i in range(0x20, 0x7F) if chr(i) != "%")
_CODE: Final = "metropolis-code"
_REMEDY: Final = "metropolis-remedy"
_LEADER_ID: Final = "metropolis-leader-id"
_LEADER_HOST: Final = "metropolis-leader-host"
_error_numbers: Final = itertools.count(1)


class NotLeaderError(UnavailableError):
    """This node does not lead the cluster; nothing was done. Ask the leader, if one is named.

    Attributes:
        leader_id: Node id of the leader, empty when none is known.
        leader_host: Literal IP address of the leader, empty when not known.
    """

    code = "not-leader"

    def __init__(
        self, message: str = "", *, remedy: str = "", leader_id: str = "", leader_host: str = ""
    ) -> None:
        if not message:
            message = "this node is not the leader of the cluster"
            message += f"; {leader_id} leads" if leader_id else " and knows none"
        if not remedy:
            at = f" at {leader_host}" if leader_host else ""
            remedy = (
                f"Send the request to {leader_id}{at}."
                if leader_id
                else "Try again once a leader is elected, within seconds."
            )
        super().__init__(message, remedy=remedy)
        self.leader_id = leader_id
        self.leader_host = leader_host


class NodeDeletedError(UnauthenticatedError):
    """The caller is a node that its cluster has forgotten; its certificate is worth nothing."""

    code = "node-deleted"


class NodeRetiredError(NodeDeletedError):
    """The caller is a node that was taken out of service for good: it is to wipe itself."""

    code = "node-retired"


class ThrottledError(ResourceExhaustedError):
    """The caller asks too often. Nothing was done; the remedy says when to ask again."""

    code = "throttled"
    retryable = True


class NotReachedError(UnavailableError):
    """No server has seen the request: it never left, or the server said it dropped it unread."""


def sentence(error: MetropolisError) -> str:
    """Join text and remedy for people: `"<text>. <remedy>"`, without doubled punctuation."""
    text = str(error).rstrip()
    if not error.remedy:
        return text
    return f"{text}{' ' if text.endswith(('.', '!', '?', ':')) else '. '}{error.remedy}"


def to_answer(error: Exception, path: str) -> MetropolisError:
    """Choose what the caller of `path` is told after its handler raised `error`.

    Groups of nothing but operating errors are answered with the first of them.
    """
    inner = list(leaves(error))
    if all(isinstance(leaf, MetropolisError) for leaf in inner):
        assert isinstance(inner[0], MetropolisError)
        return inner[0]
    number = next(_error_numbers)
    log.error("%s failed, error %d", path, number, exc_info=error)
    return InternalError(
        f"the server failed to handle the request (error {number} in its log)",
        remedy="Report this together with the log of the node.",
    )


def to_trailers(error: MetropolisError) -> list[tuple[str, str]]:
    """Encode an error; every value is printable ASCII of bounded length."""
    text = str(error)[:TEXT_CHARACTERS_MAX]
    remedy = error.remedy[:REMEDY_CHARACTERS_MAX]
    short = MetropolisError(text, remedy=remedy)
    trailers = [
        ("grpc-status", str(error.grpc_status)),
        ("grpc-message", _encode(sentence(short))),
        (_CODE, error.code),
    ]
    if remedy:
        trailers.append((_REMEDY, _encode(remedy)))
    if isinstance(error, NotLeaderError):
        trailers.append((_LEADER_ID, _encode(error.leader_id)))
        trailers.append((_LEADER_HOST, _encode(error.leader_host)))
    return trailers


def from_trailers(trailers: Mapping[str, str]) -> MetropolisError | None:
    """Rebuild the error from trailers; None means success.

    Whatever the peer sent makes an error, never an exception.
    """
    status_text = trailers.get("grpc-status")
    if status_text is None:
        return UnknownError(
            "the server ended the call without a status",
            remedy="Check that the address belongs to a Metropolis node.",
        )
    status = int(status_text) if status_text.isascii() and status_text.isdecimal() else -1
    if status == GRPC_OK:
        return None
    kind = BY_GRPC_STATUS.get(status, UnknownError)
    message = _decode(trailers.get("grpc-message", ""))
    remedy = _decode(trailers.get(_REMEDY, ""))
    text = (
        _without_remedy(message, remedy)
        or f"the server answered with gRPC status {status_text[:20]}"
    )
    if kind is UnavailableError and trailers.get(_CODE) == NotLeaderError.code:
        return NotLeaderError(
            text,
            remedy=remedy,
            leader_id=_decode(trailers.get(_LEADER_ID, "")),
            leader_host=_decode(trailers.get(_LEADER_HOST, "")),
        )
    if kind is UnauthenticatedError:
        for deleted in (NodeDeletedError, NodeRetiredError):
            if trailers.get(_CODE) == deleted.code:
                return deleted(text, remedy=remedy)
    if kind is ResourceExhaustedError and trailers.get(_CODE) == ThrottledError.code:
        return ThrottledError(text, remedy=remedy)
    return kind(text, remedy=remedy)


def _without_remedy(message: str, remedy: str) -> str:
    if not remedy or not message.endswith(remedy):
        return message
    return message[: -len(remedy)].rstrip().removesuffix(".")


def _encode(text: str) -> str:
    """Percent-encode as gRPC does for grpc-message. Lone surrogates become question marks.

    Spaces at either end are encoded, too: HTTP/2 forbids them there, and peers hang up.
    """
    encoded = quote(text.encode("utf-8", "replace"), safe=_PRINTABLE)
    inner = encoded.strip(" ")
    before = len(encoded) - len(encoded.lstrip(" "))
    return "%20" * before + inner + "%20" * (len(encoded) - before - len(inner))


def _decode(text: str) -> str:
    return unquote(text, encoding="utf-8", errors="replace")
