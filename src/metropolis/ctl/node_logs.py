# SPDX-License-Identifier: Apache-2.0
"""Reading the log of a node: what to ask for, and how entries look."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from metropolis.api import logtree_pb2
from metropolis.api.management_pb2 import LogsRequest, LogsResponse
from metropolis.api.rpc_management import NodeManagement
from metropolis.base.errors import InvalidArgumentError
from metropolis.ctl.suggestions import did_you_mean
from metropolis.rpc.channel import Channel

SEVERITIES: Final = {
    "info": logtree_pb2.LEVELED_LOG_SEVERITY_INFO,
    "warning": logtree_pb2.LEVELED_LOG_SEVERITY_WARNING,
    "error": logtree_pb2.LEVELED_LOG_SEVERITY_ERROR,
    "fatal": logtree_pb2.LEVELED_LOG_SEVERITY_FATAL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What to read.

    Attributes:
        dn: Of the runnable; empty: the root of the tree.
        is_exact: Only that runnable, not those below it.
        backlog: Number of entries; 0: none, below 0: all.
        follow: Whether to go on with new entries.
        severity: Least severity, one of `SEVERITIES`; empty: any. Drops raw entries.
    """

    dn: str = ""
    is_exact: bool = False
    backlog: int = -1
    follow: bool = False
    severity: str = ""
    only_raw: bool = False
    only_leveled: bool = False


def request_of(query: Query) -> LogsRequest:
    """Build the request. Pure.

    Raises:
        InvalidArgumentError: the query contradicts itself.
    """
    if query.only_raw and (query.only_leveled or query.severity):
        raise InvalidArgumentError(
            "--raw excludes --leveled and --severity: raw lines have no severity",
            remedy="Leave out one of them.",
        )
    request = LogsRequest(dn=query.dn, stream_mode=LogsRequest.STREAM_MODE_DISABLE)
    if query.follow:
        request.stream_mode = LogsRequest.STREAM_MODE_UNBUFFERED
    if query.backlog > 0:
        request.backlog_mode = LogsRequest.BACKLOG_MODE_COUNT
        request.backlog_count = query.backlog
    elif query.backlog == 0:
        request.backlog_mode = LogsRequest.BACKLOG_MODE_DISABLE
    else:
        request.backlog_mode = LogsRequest.BACKLOG_MODE_ALL
    if not query.is_exact:
        request.filters.add().with_children.SetInParent()
    if query.only_raw:
        request.filters.add().only_raw.SetInParent()
    if query.only_leveled:
        request.filters.add().only_leveled.SetInParent()
    if query.severity:
        minimum = request.filters.add().leveled_with_minimum_severity
        minimum.minimum = SEVERITIES[parse_severity(query.severity)]
    return request


def parse_severity(text: str) -> str:
    """Return the name of a severity given in full, or by its first letter.

    Raises:
        InvalidArgumentError: there is no such severity.
    """
    lowered = text.lower()
    found = next((name for name in SEVERITIES if lowered in (name, name[0])), None)
    if found is None:
        raise InvalidArgumentError(
            f"there is no severity {text[:64]!r}",
            remedy=did_you_mean(text, SEVERITIES) or f"The severities are {', '.join(SEVERITIES)}.",
        )
    return found


async def read(
    channel: Channel, request: LogsRequest, show: Callable[[logtree_pb2.LogEntry], None]
) -> None:
    """Show entry after entry until there are no more, or until cancelled when following.

    Raises:
        MetropolisError: the node refused or is gone.
    """
    async with channel.open(NodeManagement.LOGS) as stream:
        await stream.send(request)
        await stream.end()
        response: LogsResponse | None
        while (response := await stream.receive()) is not None:
            for entry in (*response.backlog_entries, *response.stream_entries):
                show(entry)
