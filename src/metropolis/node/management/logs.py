# SPDX-License-Identifier: Apache-2.0
"""NodeManagement.Logs: backlog, then the stream, through the same filters.

A client that cannot keep up loses entries and is told how many, as a WARNING entry of DN
`supervisor` in their place.
"""

from typing import Final

from metropolis.api import common_pb2, management_pb2
from metropolis.base.errors import InvalidArgumentError
from metropolis.host import Clock
from metropolis.rpc.channel import ServerStream
from metropolis.supervision import Entry, LeveledEntry, LogTree, Missed, ReadOptions, Severity
from metropolis.supervision.logtree_wire import to_wire

FILTERS_MAX: Final = 10
DN_CHARS_MAX: Final = 1024
BACKLOG_ENTRIES_PER_MESSAGE: Final = 2000
BACKLOG_BYTES_PER_MESSAGE: Final = 1 << 20  # well below what clients accept in one message

LogsStream = ServerStream[management_pb2.LogsRequest, management_pb2.LogsResponse]


class LogsService:
    """Serves the log tree of this process."""

    def __init__(self, log_tree: LogTree, clock: Clock) -> None:
        self._log_tree = log_tree
        self._clock = clock

    async def logs(self, stream: LogsStream) -> None:
        """Answer one Logs call."""
        request = await stream.receive()
        assert request is not None
        reader = self._log_tree.read(request.dn, read_options(request))
        try:
            await _send_backlog(stream, reader.backlog)
            while reader.options.stream:
                item = await reader.receive()
                entry = self._missed(item) if isinstance(item, Missed) else item
                await stream.send(management_pb2.LogsResponse(stream_entries=[to_wire(entry)]))
        finally:
            reader.close()

    def _missed(self, missed: Missed) -> Entry:
        return LeveledEntry(
            dn="supervisor",
            lines=(f"{missed.count} entries were dropped: this reader is too slow",),
            timestamp=self._clock.wall(),
            severity=Severity.WARNING,
            file="logs.py",
            line=0,
        )


async def _send_backlog(stream: LogsStream, backlog: list[Entry]) -> None:
    batch = management_pb2.LogsResponse()
    batch_bytes = 0
    for entry in backlog:
        message = to_wire(entry)
        size = message.ByteSize()
        is_full = len(batch.backlog_entries) >= BACKLOG_ENTRIES_PER_MESSAGE
        if is_full or (batch_bytes and batch_bytes + size > BACKLOG_BYTES_PER_MESSAGE):
            await stream.send(batch)
            batch, batch_bytes = management_pb2.LogsResponse(), 0
        batch.backlog_entries.append(message)
        batch_bytes += size
    if batch.backlog_entries:
        await stream.send(batch)


def read_options(request: management_pb2.LogsRequest) -> ReadOptions:
    """Understand a request.

    Raises:
        InvalidArgumentError: it contradicts itself or exceeds a limit.
    """
    if len(request.dn) > DN_CHARS_MAX:
        raise _invalid("invalid DN: it is too long", "Use a name that the log shows.")
    if len(request.filters) > FILTERS_MAX:
        raise _invalid(f"more than {FILTERS_MAX} filters", "Give each filter once.")
    kinds = [each.WhichOneof("filter") for each in request.filters]
    return ReadOptions(
        with_children="with_children" in kinds,
        backlog=_backlog(request),
        stream=request.stream_mode == management_pb2.LogsRequest.STREAM_MODE_UNBUFFERED,
        only_raw="only_raw" in kinds,
        only_leveled="only_leveled" in kinds,
        minimum_severity=_minimum_severity(request),
    )


def _backlog(request: management_pb2.LogsRequest) -> int | None:
    modes = management_pb2.LogsRequest
    match request.backlog_mode:
        case modes.BACKLOG_MODE_DISABLE:
            return 0
        case modes.BACKLOG_MODE_ALL:
            return None
        case modes.BACKLOG_MODE_COUNT:
            if request.backlog_count <= 0:
                raise _invalid("backlog_count must be positive", "Ask for one entry or more.")
            return request.backlog_count
        case _:
            raise _invalid("backlog_mode is not set", "Use DISABLE, ALL or COUNT.")


def _minimum_severity(request: management_pb2.LogsRequest) -> Severity | None:
    found: Severity | None = None
    for each in request.filters:
        if each.WhichOneof("filter") != "leveled_with_minimum_severity":
            continue
        minimum: common_pb2.LogFilter.LeveledWithMinimumSeverity
        minimum = each.leveled_with_minimum_severity
        if int(minimum.minimum) not in set(map(int, Severity)):
            raise _invalid("the minimum severity is not known", "Use INFO to FATAL.")
        found = Severity(int(minimum.minimum))
    return found


def _invalid(problem: str, remedy: str) -> InvalidArgumentError:
    return InvalidArgumentError(problem, remedy=remedy)
