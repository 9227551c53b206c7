# SPDX-License-Identifier: Apache-2.0
"""Our nouns as etcd's messages, and back."""

from collections.abc import Iterable
from urllib.parse import urlsplit

from metropolis.api import etcd_pb2 as pb
from metropolis.consensus.store import (
    Compare,
    Delete,
    Get,
    KeyValue,
    Member,
    Operation,
    Put,
    Target,
    WatchEvent,
)

EVERYTHING = b"\0"  # as a range's first key the least one, as its end "no end"


def prefix_range(prefix: bytes) -> tuple[bytes, bytes]:
    """Return (first key, exclusive end) of the keys that start with `prefix`."""
    stem = prefix.rstrip(b"\xff")
    if not stem:
        return prefix or EVERYTHING, EVERYTHING
    return prefix, stem[:-1] + bytes((stem[-1] + 1,))


def key_value(kv: pb.KeyValue) -> KeyValue:
    """Convert a key of an answer."""
    return KeyValue(
        key=kv.key,
        value=kv.value,
        create_revision=kv.create_revision,
        mod_revision=kv.mod_revision,
        version=kv.version,
        lease_id=kv.lease,
    )


def watch_event(event: pb.Event) -> WatchEvent:
    """Convert a change. etcd sends a deletion with key and revision only."""
    kv = event.kv
    return WatchEvent(
        key=kv.key,
        value=kv.value,
        mod_revision=kv.mod_revision,
        create_revision=kv.create_revision,
        is_deleted=event.type == pb.Event.DELETE,
        version=kv.version,
        lease_id=kv.lease,
    )


def compare(condition: Compare) -> pb.Compare:
    """Convert a comparison."""
    key, expected = condition.key, condition.expected
    if isinstance(expected, bytes):
        assert condition.target is Target.VALUE, "only values are bytes"
        return pb.Compare(target=pb.Compare.VALUE, key=key, value=expected)
    match condition.target:
        case Target.VERSION:
            return pb.Compare(target=pb.Compare.VERSION, key=key, version=expected)
        case Target.CREATE_REVISION:
            return pb.Compare(target=pb.Compare.CREATE, key=key, create_revision=expected)
        case Target.MOD_REVISION:
            return pb.Compare(target=pb.Compare.MOD, key=key, mod_revision=expected)
        case Target.VALUE:
            raise AssertionError("values are compared with bytes")


def operations(steps: Iterable[Operation]) -> list[pb.RequestOp]:
    """Convert one branch of a transaction."""
    return [_operation(step) for step in steps]


def _operation(step: Operation) -> pb.RequestOp:
    match step:
        case Put(key, value, lease_id):
            return pb.RequestOp(request_put=pb.PutRequest(key=key, value=value, lease=lease_id))
        case Delete(key, is_prefix):
            key, end = prefix_range(key) if is_prefix else (key, b"")
            return pb.RequestOp(
                request_delete_range=pb.DeleteRangeRequest(key=key, range_end=end),
            )
        case Get(key, is_prefix):
            key, end = prefix_range(key) if is_prefix else (key, b"")
            return pb.RequestOp(request_range=pb.RangeRequest(key=key, range_end=end))


def member(entry: pb.Member) -> Member:
    """Convert a member. Until it started its name is the host of its first peer URL."""
    host = urlsplit(entry.peerURLs[0]).hostname if entry.peerURLs else None
    return Member(
        member_id=entry.ID,
        name=entry.name or host or "",
        peer_urls=tuple(entry.peerURLs),
        is_learner=entry.isLearner,
        has_started=bool(entry.name),
    )
