# SPDX-License-Identifier: Apache-2.0
"""The enrolment's tables: every combination of what a starting node may find has one decision."""

import itertools

import pytest

from metropolis.api.enrolment_pb2 import EnrolmentRecord
from metropolis.base.errors import DataLossError, FailedPreconditionError, MetropolisError
from metropolis.node.enrolment.lifecycle import FLOWS, Decision, Findings, decide, steps_left

BOOTSTRAP = EnrolmentRecord.FLOW_BOOTSTRAP
REGISTER = EnrolmentRecord.FLOW_REGISTER
JOIN = EnrolmentRecord.FLOW_JOIN


@pytest.mark.parametrize("flow", list(FLOWS))
def test_resuming_after_each_step_leaves_exactly_the_later_ones(
    flow: EnrolmentRecord.Flow.ValueType,
) -> None:
    steps = FLOWS[flow]
    assert list(steps_left(flow, EnrolmentRecord.STEP_UNSPECIFIED)) == list(steps)
    for index, step in enumerate(steps):
        assert list(steps_left(flow, step)) == list(steps[index + 1 :])


@pytest.mark.parametrize("flow", list(FLOWS))
def test_a_step_of_another_flow_is_damage(flow: EnrolmentRecord.Flow.ValueType) -> None:
    foreign = set(EnrolmentRecord.Step.values()) - set(FLOWS[flow]) - {0}
    for step in sorted(foreign):
        with pytest.raises(DataLossError):
            steps_left(flow, step)


def test_steps_are_in_the_order_of_their_numbers() -> None:
    for steps in FLOWS.values():
        assert list(steps) == sorted(steps)
        assert steps[-1] == EnrolmentRecord.STEP_DONE


ALL_FINDINGS = [
    Findings(
        sealed_has_ca=sealed,
        has_credentials=credentials,
        record_flow=record,
        record_digest=b"a" if record is not None else b"",
        parameters_flow=parameters,
        parameters_digest=digest if parameters is not None else b"",
    )
    for sealed, credentials, record, parameters, digest in itertools.product(
        (None, False, True),
        (False, True),
        (None, BOOTSTRAP, REGISTER),
        (None, BOOTSTRAP, REGISTER),
        (b"a", b"b"),
    )
]


@pytest.mark.parametrize("findings", ALL_FINDINGS, ids=str)
def test_every_finding_has_a_decision_or_an_error_with_a_remedy(findings: Findings) -> None:
    decision = decide(findings)
    if isinstance(decision, MetropolisError):
        assert decision.remedy
        return
    assert decision.sentence
    # A node that was ever enrolled never begins a new enrolment.
    if findings.sealed_has_ca is not None:
        assert decision.resumes or decision.flow == JOIN
    # What was begun is what is resumed, with the parameters it was begun with.
    if decision.resumes:
        assert decision.flow == findings.record_flow
        assert findings.parameters_digest == findings.record_digest


@pytest.mark.parametrize(
    ("findings", "flow", "resumes"),
    [
        (Findings(sealed_has_ca=True, has_credentials=True, record_flow=None), JOIN, False),
        (
            Findings(
                sealed_has_ca=None,
                has_credentials=False,
                record_flow=None,
                parameters_flow=REGISTER,
                parameters_digest=b"x",
            ),
            REGISTER,
            False,
        ),
        (
            Findings(
                sealed_has_ca=True,
                has_credentials=True,
                record_flow=REGISTER,
                record_digest=b"x",
                parameters_flow=REGISTER,
                parameters_digest=b"x",
            ),
            REGISTER,
            True,
        ),
    ],
    ids=["finished", "fresh", "killed just before the record was removed"],
)
def test_decisions(findings: Findings, flow: EnrolmentRecord.Flow.ValueType, resumes: bool) -> None:
    decision = decide(findings)
    assert isinstance(decision, Decision)
    assert (decision.flow, decision.resumes) == (flow, resumes)


def test_a_node_without_anything_says_how_to_install_it() -> None:
    error = decide(Findings(sealed_has_ca=None, has_credentials=False, record_flow=None))
    assert isinstance(error, FailedPreconditionError)
    assert "metroctl install" in error.remedy


def test_an_enrolled_node_without_its_credentials_is_never_enrolled_anew() -> None:
    error = decide(
        Findings(
            sealed_has_ca=True,
            has_credentials=False,
            record_flow=None,
            parameters_flow=BOOTSTRAP,
            parameters_digest=b"x",
        )
    )
    assert isinstance(error, DataLossError)
