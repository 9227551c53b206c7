# SPDX-License-Identifier: Apache-2.0
"""Which labels a node may get. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final

from metropolis.base.errors import InvalidArgumentError, OutOfRangeError
from metropolis.base.names import LABELS_PER_NODE_MAX, label_key_problem, label_value_problem

CHANGES_MAX: Final = 1024  # upserts and deletions of one request
_SHOWN_CHARS_MAX: Final = 64

Pairs = Sequence[tuple[str, str]]


def check_changes(upserts: Pairs, deletes: Sequence[str]) -> None:
    """Check a request by itself, before anything is read.

    Raises:
        InvalidArgumentError: a bad key or value, or a key that is named twice.
    """
    if len(upserts) + len(deletes) > CHANGES_MAX:
        raise InvalidArgumentError(
            f"{len(upserts) + len(deletes)} label changes are more than {CHANGES_MAX}",
            remedy=f"Send several requests; a node has at most {LABELS_PER_NODE_MAX} labels.",
        )
    wanted: dict[str, None] = {}
    for key, value in upserts:
        _check("label key", key, label_key_problem(key))
        _check(f"value of label {key}", value, label_value_problem(value))
        if key in wanted:
            raise _twice(key, "set twice")
        wanted[key] = None
    unwanted: dict[str, None] = {}
    for key in deletes:
        _check("label key", key, label_key_problem(key))
        if key in unwanted:
            raise _twice(key, "deleted twice")
        if key in wanted:
            raise _twice(key, "both set and deleted")
        unwanted[key] = None


def updated(current: Mapping[str, str], upserts: Pairs, deletes: Sequence[str]) -> dict[str, str]:
    """Return the labels after a request, sorted by key. All or nothing.

    Deleting what is not there is fine.

    Raises:
        InvalidArgumentError: see `check_changes`.
        OutOfRangeError: more labels than a node may have.
    """
    check_changes(upserts, deletes)
    unwanted = frozenset(deletes)
    kept = {key: value for key, value in current.items() if key not in unwanted}
    after = kept | dict(upserts)
    if len(after) > LABELS_PER_NODE_MAX:
        raise OutOfRangeError(
            f"the node would have {len(after)} labels",
            remedy=f"Delete some first: a node has at most {LABELS_PER_NODE_MAX} labels.",
        )
    return dict(sorted(after.items()))


def said(upserts: Pairs, deletes: Sequence[str]) -> str:
    """Say what a change of labels does, for the audit log."""
    parts = [f"set {', '.join(f'{key}={value}' for key, value in upserts)}"] if upserts else []
    if deletes:
        parts.append(f"deleted {', '.join(deletes)}")
    return ", ".join(parts)


def at_enrolment(pairs: Pairs, *, last_wins: bool) -> tuple[dict[str, str], int]:
    """Return the labels a machine starts with, sorted by key, and how many were left out.

    A machine must not fail to enrol because of a label, so bad ones are skipped.

    Args:
        last_wins: Which of two pairs with one key counts: the last at bootstrap, the first at
            registration.
    """
    kept: dict[str, str] = {}
    for key, value in pairs[:LABELS_PER_NODE_MAX]:
        if label_key_problem(key) is not None or label_value_problem(value) is not None:
            continue
        if key in kept and not last_wins:
            continue
        kept[key] = value
    return dict(sorted(kept.items())), len(pairs) - len(kept)


def _check(what: str, text: str, problem: str | None) -> None:
    if problem is not None:
        raise InvalidArgumentError(
            f"{what} {text[:_SHOWN_CHARS_MAX]!r} {problem}",
            remedy="Correct it: [prefix/]name=value, as for Kubernetes labels.",
        )


def _twice(key: str, problem: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"label key {key[:_SHOWN_CHARS_MAX]!r} is {problem}", remedy="Name every key once."
    )
