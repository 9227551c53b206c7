# SPDX-License-Identifier: Apache-2.0
"""The audit log: what to ask for, verifying what comes, and how records look to people."""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from metropolis.api.audit_pb2 import (
    OUTCOME_DENIED,
    OUTCOME_DONE,
    OUTCOME_FAILED,
    Actor,
    GetHeadRequest,
    GetHeadResponse,
    Head,
    ListRequest,
    ListResponse,
    Outcome,
    Record,
)
from metropolis.api.rpc_audit import Audit
from metropolis.base.errors import DataLossError, InvalidArgumentError, MetropolisError
from metropolis.ctl.connection import Cluster
from metropolis.ctl.documents import document_of
from metropolis.ctl.suggestions import did_you_mean
from metropolis.ctl.text_table import render, visible
from metropolis.formats.audit.chain import decode, head_text
from metropolis.formats.audit.verification import Verdict, Verification

OUTCOMES: Final = {"done": OUTCOME_DONE, "denied": OUTCOME_DENIED, "failed": OUTCOME_FAILED}
HEADERS: Final = ("NO", "TIME (UTC)", "WHO", "ABOUT", "WHAT")
WIDE_HEADERS: Final = (
    "NO",
    "TIME (UTC)",
    "WHO",
    "ADDRESS",
    "KEY",
    "METHOD",
    "ABOUT",
    "OUTCOME",
    "WHAT",
)

_AGAIN_S: Final = 1.0
_NODE_PREFIX: Final = "metropolis-"
_SHORT_ID_CHARS: Final = 8
_AGO: Final = re.compile(r"([0-9]{1,9})\s*(s|m|h|d|w)")
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_FIXED: Final = {Actor.KIND_LEADER: "the leader", Actor.KIND_NOBODY: "nobody"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A record as the cluster sent it. `record` is None when it cannot be read."""

    sequence: int
    record: Record | None


def parse_since(text: str, *, now: datetime) -> Timestamp:
    """Understand `1h`, `30m`, `2d`, or a time such as 2026-11-20T11:00:00Z.

    Raises:
        InvalidArgumentError: it is neither.
    """
    ago = _AGO.fullmatch(text.strip().lower())
    result = Timestamp()
    try:
        if ago is not None:
            result.FromDatetime(now - timedelta(seconds=int(ago[1]) * _UNITS_S[ago[2]]))
        else:
            moment = datetime.fromisoformat(text.strip())
            result.FromDatetime(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise InvalidArgumentError(
            f"{text[:64]!r} is no time to begin at",
            remedy="Give an age such as 30m, 1h or 2d, or a time such as 2026-11-20T11:00:00Z.",
        ) from None
    return result


def parse_outcome(text: str) -> Outcome.ValueType:
    """Return the outcome of that name.

    Raises:
        InvalidArgumentError: there is no such outcome.
    """
    found = OUTCOMES.get(text.lower())
    if found is None:
        raise InvalidArgumentError(
            f"there is no outcome {text[:64]!r}",
            remedy=did_you_mean(text, OUTCOMES) or "The outcomes are done, denied and failed.",
        )
    return found


async def get_head(cluster: Cluster) -> GetHeadResponse:
    """Ask where the log ends."""
    return await cluster.channel.call(Audit.GET_HEAD, GetHeadRequest(), timeout_s=cluster.timeout_s)


async def read(
    cluster: Cluster, request: ListRequest, take: Callable[[ListResponse], None]
) -> None:
    """Take record after record until there are no more, or until cancelled when following."""
    async with cluster.channel.open(Audit.LIST) as stream:
        await stream.send(request)
        await stream.end()
        while (response := await stream.receive()) is not None:
            take(response)


async def follow(
    cluster: Cluster,
    request: ListRequest,
    take: Callable[[ListResponse], None],
    *,
    lost: Callable[[MetropolisError], None],
) -> None:
    """Take every record that matches once, in order, over failovers; until cancelled.

    Args:
        lost: Told why the cluster is not heard any more; it is asked again.

    Raises:
        MetropolisError: trying again does not help; e.g. the log is another one after a restore.
    """
    seen = (await get_head(cluster)).head.sequence
    backlog: list[ListResponse] = []  # whole, or the limit would cut another one the next time
    first, rest = ListRequest(), ListRequest()
    first.CopyFrom(request)
    first.follow = False
    rest.CopyFrom(request)
    rest.limit = 0
    await read(cluster, first, backlog.append)

    def take_new(response: ListResponse) -> None:
        nonlocal seen
        if response.sequence > seen:
            seen = response.sequence
            take(response)

    for response in backlog:
        take(response)
        seen = max(seen, response.sequence)
    while True:
        rest.after = seen
        try:
            await read(cluster, rest, take_new)
        except MetropolisError as error:
            if not error.retryable:
                raise
            lost(error)
        else:
            return
        await asyncio.sleep(_AGAIN_S)


async def verify(cluster: Cluster, kept: Sequence[Head]) -> tuple[Verdict, Head]:
    """Fetch the whole log and verify it here.

    Args:
        kept: Ends of the log that were noted before.

    Raises:
        DataLossError: the log is not what was written; the text names the record.
    """
    end = (await get_head(cluster)).head
    walk = Verification((end, *kept) if end.sequence else kept)
    await read(cluster, ListRequest(), lambda got: _take(walk, got))
    verdict = walk.finish()
    if verdict.broken is not None:
        raise DataLossError(
            "the audit log is not what was written: "
            f"record {verdict.broken.position}: {verdict.broken.reason}",
            remedy="Save what `metroctl audit list -o json` prints, and find out who could write "
            "to the cluster's store.",
        )
    return verdict, end


def _take(walk: Verification, got: ListResponse) -> None:
    walk.take(got.sequence, got.record)


def entry_of(response: ListResponse) -> Entry:
    """Read a record, if it can be read."""
    try:
        return Entry(sequence=response.sequence, record=decode(response.record))
    except DataLossError:
        return Entry(sequence=response.sequence, record=None)


def document(entry: Entry) -> dict[str, Any]:
    """Convert a record for JSON and YAML; hashes and fingerprints in hexadecimal."""
    if entry.record is None:
        return {"sequence": str(entry.sequence), "is_damaged": True}
    found = document_of(entry.record)
    found["previous"] = entry.record.previous.hex()
    if entry.record.HasField("actor"):
        found["actor"]["key_fingerprint"] = entry.record.actor.key_fingerprint.hex()
    if entry.record.HasField("checkpoint"):
        found["checkpoint"]["hash"] = entry.record.checkpoint.hash.hex()
    return found


def head_document(head: Head) -> dict[str, Any]:
    """Convert an end of the log for JSON and YAML."""
    return {
        "sequence": str(head.sequence),
        "hash": head.hash.hex(),
        "first": str(head.first),
        "head": head_text(head),
    }


def table(entries: Sequence[Entry], *, is_wide: bool, width: int = 0) -> str:
    """Render records; no records, no table.

    Args:
        width: Columns of the terminal; longer lines are cut. 0: no limit.
    """
    if not entries:
        return ""
    rows = [_wide_row(entry) if is_wide else _row(entry) for entry in entries]
    text = render(WIDE_HEADERS if is_wide else HEADERS, rows)
    return "".join(f"{_fit(line, width)}\n" for line in text.splitlines())


def one_line(entry: Entry, *, width: int = 0) -> str:
    """Render one record as it comes, in columns that do not depend on the others."""
    number, time, who, about, what = map(visible, _row(entry))
    return _fit(f"{number:<5} {time:<14}  {who:<13}  {about:<8}  {what}".rstrip(), width)


def _fit(text: str, width: int) -> str:
    return text if not width or len(text) <= width else f"{text[: width - 1]}…"


def _row(entry: Entry) -> Sequence[str]:
    record = entry.record
    if record is None:
        return (str(entry.sequence), "", "", "", _DAMAGED)
    return (
        str(entry.sequence),
        f"{_moment(record):%m-%d %H:%M:%S}",
        who_text(record.actor),
        short(record.object),
        what_text(record),
    )


_DAMAGED: Final = "DAMAGED: run `metroctl audit verify`"


def _wide_row(entry: Entry) -> Sequence[str]:
    record = entry.record
    if record is None:
        return (str(entry.sequence), *[""] * (len(WIDE_HEADERS) - 2), _DAMAGED)
    actor = record.actor
    outcome = enum_name(record.outcome)
    return (
        str(entry.sequence),
        f"{_moment(record):%Y-%m-%d %H:%M:%S}",
        actor.identity or who_text(actor),
        actor.address,
        actor.key_fingerprint.hex()[:16],
        record.method,
        record.object,
        outcome if record.attempts < 2 else f"{outcome} x{record.attempts}",  # noqa: PLR2004  # times
        record.sentence,
    )


def enum_name(outcome: Outcome.ValueType) -> str:
    """Name an outcome; one that we do not know by its number."""
    names = {number: name for name, number in OUTCOMES.items()}
    return names.get(outcome, str(int(outcome)))


def who_text(actor: Actor) -> str:
    """Say who acted, briefly."""
    match actor.kind:
        case Actor.KIND_USER:
            return actor.identity
        case Actor.KIND_NODE:
            return f"node {short(actor.identity)}"
        case Actor.KIND_KEY:
            return f"key {actor.key_fingerprint.hex()[:_SHORT_ID_CHARS]}"
        case _:
            return _FIXED.get(actor.kind, "")


def what_text(record: Record) -> str:
    """Say what happened; what changed nothing begins with its outcome in capitals."""
    if record.outcome == OUTCOME_DONE:
        return record.sentence or record.method
    times = f" x{record.attempts}" if record.attempts > 1 else ""
    name = enum_name(record.outcome).upper()
    return f"{name}{times} {record.method.rpartition('.')[2]}: {record.sentence}"


def short(name: str) -> str:
    """Shorten node ids, the rest is as it is."""
    return ", ".join(
        each.removeprefix(_NODE_PREFIX)[:_SHORT_ID_CHARS] if each.startswith(_NODE_PREFIX) else each
        for each in name.split(", ")
    )


def _moment(record: Record) -> datetime:
    try:
        return record.time.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        return datetime.fromtimestamp(0, tz=UTC)
