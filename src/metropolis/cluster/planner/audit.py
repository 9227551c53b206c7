# SPDX-License-Identifier: Apache-2.0
"""What the audit log says of a call, how long it grows, and how often refusals enter it. Pure.

Bytes and hashes are in `metropolis.formats.audit`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import Message

from metropolis.api.audit_pb2 import (
    OUTCOME_DENIED,
    OUTCOME_FAILED,
    OUTCOME_UNSPECIFIED,
    Actor,
    Checkpoint,
    Head,
    ListRequest,
    Outcome,
    Record,
)
from metropolis.api.authorization_pb2 import Permission
from metropolis.api.methods import Method
from metropolis.api.rpc_backup import BackupCopies
from metropolis.api.rpc_curator import Curator
from metropolis.base.errors import (
    InvalidArgumentError,
    MetropolisError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from metropolis.base.ids import PUBLIC_KEY_BYTES, node_id_from_public_key
from metropolis.formats.audit.chain import GENESIS, extend, hash_of
from metropolis.rpc.peer import Peer, PeerKind

RECORDS_MAX: Final = 10_000  # of at most 1 KiB each
DROPPED_AT_ONCE: Final = 64  # a transaction of etcd has at most 128 operations
FILTER_CHARS_MAX: Final = 256
OBJECT_CHARS_MAX: Final = 128  # two node ids, or the longest name
NODE_PREFIX: Final = "metropolis-"

# What members say of themselves all the time. It changes nothing but what is known of them.
SELF_REPORTS: Final = frozenset(
    method.path
    for method in (
        Curator.HEARTBEAT,
        Curator.UPDATE_NODE_STATUS,
        Curator.UPDATE_NODE_CLUSTER_NETWORKING,
        BackupCopies.COMPARE,
        BackupCopies.FETCH,
    )
)
_READING: Final = frozenset(
    (Permission.PERMISSION_READ_CLUSTER_STATUS, Permission.PERMISSION_READ_NODE_LOGS)
)
_KINDS: Final[Mapping[PeerKind, Actor.Kind.ValueType]] = {
    PeerKind.USER: Actor.KIND_USER,
    PeerKind.NODE: Actor.KIND_NODE,
    PeerKind.EPHEMERAL: Actor.KIND_KEY,
    PeerKind.LOCAL: Actor.KIND_LEADER,
    PeerKind.ANONYMOUS: Actor.KIND_NOBODY,
}
# Fields of requests that name what a call is about, the most telling first. None is a secret.
_NAMING: Final = ("id", "node_id", "user", "group", "name", "requested_identity_name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Acting:
    """Who does what, about what; `object` is empty when the request does not tell."""

    actor: Actor
    method: str
    object: str = ""


def acting_of(method: Method[Any, Any], peer: Peer, request: Message | None = None) -> Acting:
    """Return what a record says of a call."""
    return Acting(
        actor=actor_of(peer),
        method=f"{method.service.rpartition('.')[2]}.{method.name}",
        object="" if request is None else _object_of(request),
    )


def actor_of(peer: Peer) -> Actor:
    """Return who calls."""
    actor = Actor(kind=_KINDS[peer.kind], identity=peer.identity, address=peer.address)
    if peer.public_key is not None:
        actor.key_fingerprint = hashlib.sha256(peer.public_key).digest()
    return actor


def record_of(who: Acting, *, object_: str = "", sentence: str = "") -> Record:
    """Return a record without its place in the chain, its time and its outcome."""
    about = object_ or who.object
    return Record(
        actor=who.actor,
        method=who.method,
        object=one_line(about)[:OBJECT_CHARS_MAX],
        sentence=one_line(sentence),
    )


def refusal_of(who: Acting, error: MetropolisError) -> Record:
    """Return the record of an attempt that changed nothing."""
    record = record_of(who, sentence=str(error))
    is_denied = isinstance(error, (PermissionDeniedError, UnauthenticatedError))
    record.outcome = OUTCOME_DENIED if is_denied else OUTCOME_FAILED
    record.code = error.code
    return record


def is_worth_a_record(
    method: Method[Any, Any], actor_kind: Actor.Kind.ValueType, error: MetropolisError
) -> bool:
    """Tell whether a failed attempt is recorded: of known callers, unless they only read."""
    if actor_kind not in (Actor.KIND_USER, Actor.KIND_NODE):
        return False
    if isinstance(error, (PermissionDeniedError, UnauthenticatedError)):
        return True
    return method.path not in SELF_REPORTS and not _only_reads(method)


def _only_reads(method: Method[Any, Any]) -> bool:
    needs = method.needs or ()
    return (
        bool(needs or method.requires)
        and _READING.issuperset(needs)
        and all(name.endswith(".read") for name in method.requires)
    )


def _object_of(request: Message) -> str:
    fields = request.DESCRIPTOR.fields_by_name
    for name in _NAMING:
        field = fields.get(name)
        if field is not None and field.type == field.TYPE_STRING and getattr(request, name):
            return one_line(str(getattr(request, name)))
    field = fields.get("pubkey")
    if field is not None and field.type == field.TYPE_BYTES:
        key = bytes(getattr(request, "pubkey"))  # noqa: B009  # of whatever message has it
        if len(key) == PUBLIC_KEY_BYTES:
            return node_id_from_public_key(key)
    return ""


def one_line(text: str) -> str:
    """Replace what would move a cursor: records are read on terminals."""
    return "".join(char if char.isprintable() else " " for char in text[:1024])


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """How a chain grows: records by their sequence, those to delete, and the new end."""

    head: Head
    added: Sequence[tuple[int, bytes]]
    dropped: Sequence[int]


def excess(head: Head, *, new: int, records_max: int = RECORDS_MAX) -> Sequence[int]:
    """Return which of the oldest records must go before so many new ones are added."""
    kept = head.sequence - head.first + 1 if head.sequence else 0
    if kept + new <= records_max:
        return ()
    count = min(kept, DROPPED_AT_ONCE)
    return range(head.first, head.first + count)


def grow(
    head: Head, records: Sequence[Record], dropped: Sequence[int], last_dropped: bytes | None
) -> Growth:
    """Put records at the end of a chain, and a checkpoint in place of those that are dropped.

    Args:
        last_dropped: Stored bytes of the last record that is dropped; None if there are none
            although there should be, which verification then shows.
    """
    added: list[tuple[int, bytes]] = []
    new = list(records)
    if dropped:
        new.append(_checkpoint(records[-1], dropped, last_dropped))
    for record in new:
        head, stored = extend(head, record)
        added.append((head.sequence, stored))
    if dropped:
        head.first = dropped[-1] + 1
    return Growth(head=head, added=added, dropped=dropped)


def _checkpoint(beside: Record, dropped: Sequence[int], last_dropped: bytes | None) -> Record:
    """Return what stands in for dropped records, written beside another record."""
    return Record(
        time=beside.time,
        leader=beside.leader,
        actor=Actor(kind=Actor.KIND_LEADER, identity=beside.leader),
        method="Audit.Checkpoint",
        outcome=beside.outcome,
        sentence=f"dropped the {len(dropped)} oldest records, up to {dropped[-1]}",
        checkpoint=Checkpoint(
            dropped_through=dropped[-1],
            hash=GENESIS if last_dropped is None else hash_of(last_dropped),
        ),
    )


def check_filter(request: ListRequest) -> None:
    """Check what a caller wants to see.

    Raises:
        InvalidArgumentError: it contradicts itself, or is nonsense.
    """
    for name in ("user", "method", "node"):
        if len(getattr(request, name)) > FILTER_CHARS_MAX:
            raise InvalidArgumentError(
                f"{name} is longer than {FILTER_CHARS_MAX} characters",
                remedy="Ask for less of the name.",
            )
    if request.newest_first and request.follow:
        raise InvalidArgumentError(
            "newest_first excludes follow", remedy="Leave out one of the two."
        )
    if request.outcome not in Outcome.values():
        raise InvalidArgumentError(
            f"there is no outcome {int(request.outcome)}",
            remedy="Ask for done, denied or failed.",
        )


def matches(request: ListRequest, record: Record | None) -> bool:
    """Tell whether a caller wants to see a record; damaged ones (None) are always shown."""
    if record is None:
        return True
    if request.HasField("since") and _instant(record.time) < _instant(request.since):
        return False
    if request.user and record.actor.identity != request.user:
        return False
    if request.method.lower() not in record.method.lower():
        return False
    if request.outcome not in (OUTCOME_UNSPECIFIED, record.outcome):
        return False
    wanted = request.node.removeprefix(NODE_PREFIX)
    return record.object.removeprefix(NODE_PREFIX).startswith(wanted)


def _instant(time: Any) -> tuple[int, int]:  # noqa: ANN401  # a Timestamp, in whichever range
    return time.seconds, time.nanos
