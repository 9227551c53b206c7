# SPDX-License-Identifier: Apache-2.0
import pytest

from metropolis.base.errors import (
    AlreadyExistsError,
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    MetropolisError,
    NotFoundError,
    OutOfRangeError,
    ResourceExhaustedError,
    UnavailableError,
    UnknownError,
)
from metropolis.consensus.etcd.errors import translate


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UnavailableError("etcdserver: no leader"), UnavailableError),
        (UnavailableError("etcdserver: leader changed"), UnavailableError),
        (UnavailableError("etcdserver: request timed out"), UnavailableError),
        (
            UnavailableError(
                "etcdserver: request timed out, possibly due to previous leader failure"
            ),
            UnavailableError,
        ),
        (UnavailableError("etcdserver: unhealthy cluster"), UnavailableError),
        (UnavailableError("etcdserver: rpc not supported for learner"), UnavailableError),
        (UnknownError("raft proposal dropped"), UnavailableError),
        (UnknownError("context deadline exceeded"), UnavailableError),
        (DeadlineExceededError("no answer within 4 s"), UnavailableError),
        (UnavailableError("cannot connect"), UnavailableError),
        (
            OutOfRangeError("etcdserver: mvcc: required revision has been compacted"),
            OutOfRangeError,
        ),
        (
            OutOfRangeError("etcdserver: mvcc: required revision is a future revision"),
            OutOfRangeError,
        ),
        (
            ResourceExhaustedError("etcdserver: mvcc: database space exceeded"),
            ResourceExhaustedError,
        ),
        (InvalidArgumentError("etcdserver: request is too large"), InvalidArgumentError),
        (
            ResourceExhaustedError("grpc: received message larger than max (3 vs. 2)"),
            InvalidArgumentError,
        ),
        (NotFoundError("etcdserver: requested lease not found"), NotFoundError),
        (NotFoundError("etcdserver: member not found"), NotFoundError),
        (FailedPreconditionError("etcdserver: Peer URLs already exists"), AlreadyExistsError),
        (FailedPreconditionError("etcdserver: member ID already exist"), AlreadyExistsError),
        (
            FailedPreconditionError(
                "etcdserver: re-configuration failed due to not enough started members"
            ),
            FailedPreconditionError,
        ),
        (
            FailedPreconditionError(
                "etcdserver: can only promote a learner member which is in sync with leader"
            ),
            FailedPreconditionError,
        ),
        (
            FailedPreconditionError("etcdserver: too many learner members in cluster"),
            FailedPreconditionError,
        ),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, Exception) else "",
)
def test_an_error_of_etcd_has_a_kind_and_a_remedy(
    error: MetropolisError, kind: type[MetropolisError]
) -> None:
    translated = translate(error)
    assert type(translated) is kind
    assert translated.remedy
    assert "etcdserver" not in str(translated)


def test_texts_that_contain_each_other_are_told_apart() -> None:
    laggard = translate(
        FailedPreconditionError(
            "etcdserver: can only promote a learner member which is in sync with leader"
        )
    )
    voter = translate(FailedPreconditionError("etcdserver: can only promote a learner member"))
    assert "caught up" in str(laggard)
    assert "not a learner" in str(voter)


def test_an_error_that_etcd_never_named_passes_unchanged() -> None:
    error = InternalError("etcdserver: something new")
    assert translate(error) is error
