# SPDX-License-Identifier: Apache-2.0
"""etcd's errors as ours.

etcd tells errors apart by their text; gRPC statuses are shared by many. Texts: etcd 3.5,
api/v3rpc/rpctypes/error.go.
"""

from dataclasses import dataclass

from metropolis.base.errors import (
    AlreadyExistsError,
    DataLossError,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    MetropolisError,
    NotFoundError,
    OutOfRangeError,
    ResourceExhaustedError,
    UnavailableError,
)

QUORUM_REMEDY = "Start enough consensus members for a majority, then retry."


@dataclass(frozen=True, slots=True)
class _Rule:
    """An error is recognised by a piece of its text, which is all that etcd promises."""

    text: str
    kind: type[MetropolisError]
    message: str
    remedy: str = ""


# The first rule that matches wins, so longer texts stand before their beginnings.
_RULES = (
    _Rule("no leader", UnavailableError, "the consensus has no leader", QUORUM_REMEDY),
    _Rule("leader changed", UnavailableError, "the consensus changed its leader", "Retry."),
    _Rule("request timed out", UnavailableError, "the consensus timed out", QUORUM_REMEDY),
    _Rule(
        "unhealthy cluster",
        UnavailableError,
        "not every consensus member has been connected for 5 s",
        "Wait until every consensus member is up, then retry.",
    ),
    _Rule("server stopped", UnavailableError, "the local consensus member is stopping", "Retry."),
    _Rule(
        "not supported for learner",
        UnavailableError,
        "the local consensus member is still a learner",
        "Wait until it is promoted, then retry.",
    ),
    _Rule("proposal dropped", UnavailableError, "the consensus has no leader", QUORUM_REMEDY),
    _Rule(
        "required revision has been compacted",
        OutOfRangeError,
        "the revision has been compacted",
        "Read the newest revision instead.",
    ),
    _Rule(
        "required revision is a future revision",
        OutOfRangeError,
        "the revision is in the future",
        "Use a revision that the store has returned.",
    ),
    _Rule(
        "database space exceeded",
        ResourceExhaustedError,
        "the consensus store is full",
        "Give room back with `metroctl consensus defragment`.",
    ),
    _Rule("too many requests", ResourceExhaustedError, "the consensus is overloaded", "Retry."),
    _Rule(
        "request is too large",
        InvalidArgumentError,
        "the request is larger than the consensus store takes",
        "Split it; the limit is 1.5 MiB.",
    ),
    _Rule(  # the same, past the next limit: etcd's gRPC refuses it unread
        "received message larger than max",
        InvalidArgumentError,
        "the request is larger than the consensus store takes",
        "Split it; the limit is 1.5 MiB.",
    ),
    _Rule(
        "too many operations in txn",
        InvalidArgumentError,
        "the transaction has more than 128 operations",
        "Split the transaction.",
    ),
    _Rule(
        "duplicate key given in txn",
        InvalidArgumentError,
        "the transaction writes one key twice",
        "Write each key once.",
    ),
    _Rule(
        "key is not provided",
        InvalidArgumentError,
        "the key is empty",
        "Name a key.",
    ),
    _Rule(
        "lease not found",
        NotFoundError,
        "the lease does not exist",
        "Grant a new lease.",
    ),
    _Rule(
        "too large lease TTL", OutOfRangeError, "the lease is too long", "Grant a shorter lease."
    ),
    _Rule(
        "member not found",
        NotFoundError,
        "there is no such consensus member",
        "List the members.",
    ),
    _Rule(
        "Peer URLs already exists",
        AlreadyExistsError,
        "a consensus member with that peer URL exists",
        "Use that member, or remove it first.",
    ),
    _Rule(  # the id is made of URL and second
        "member ID already exist",
        AlreadyExistsError,
        "a consensus member with that peer URL exists",
        "Use that member, or remove it first.",
    ),
    _Rule(
        "not enough started members",
        FailedPreconditionError,
        "the change would risk the quorum: not enough consensus members have started",
        "Start the members that are down, or remove them, then retry.",
    ),
    _Rule(
        "which is in sync with leader",
        FailedPreconditionError,
        "the learner has not caught up with the leader",
        "Wait until it has, then retry.",
    ),
    _Rule(
        "can only promote a learner",
        FailedPreconditionError,
        "the member is not a learner",
        "Promote only learners.",
    ),
    _Rule(
        "too many learner members",
        FailedPreconditionError,
        "another learner is waiting for its promotion",
        "Wait until it is promoted, or remove it, then retry.",
    ),
    _Rule(
        "bad leader transferee",
        FailedPreconditionError,
        "only a voting member can become the leader",
        "Name a voting member.",
    ),
    _Rule(
        "not leader",
        FailedPreconditionError,
        "the local member is not the raft leader",
        "Ask the leader.",
    ),
    _Rule(
        "member URLs are invalid",
        InvalidArgumentError,
        "the peer URL is malformed",
        "Write it as https://<host>:<port>.",
    ),
    _Rule(
        "corrupt cluster",
        DataLossError,
        "the consensus members disagree about their data",
        "Remove the damaged member and add it anew.",
    ),
)


def translate(error: MetropolisError) -> MetropolisError:
    """Return the error that callers of the store see; raise it `from` the original."""
    text = str(error)
    for rule in _RULES:
        if rule.text in text:
            return rule.kind(rule.message, remedy=rule.remedy)
    if isinstance(error, DeadlineExceededError | UnavailableError):
        return UnavailableError("the local consensus member does not answer", remedy="Retry.")
    if "context canceled" in text or "context deadline exceeded" in text or "raft: stopped" in text:
        return UnavailableError("the local consensus member gave up", remedy="Retry.")
    return error
