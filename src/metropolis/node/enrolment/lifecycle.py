# SPDX-License-Identifier: Apache-2.0
"""How a node becomes part of a cluster, as tables. Pure.

A flow is a list of steps. After each step the enrolment record is written, atomically; a node
that was killed starts again after the last step that was written. So every step's action must be
safe to repeat, and an action may assume all steps before it. The record is removed at the end:
then the sealed configuration and the credentials say it all, and every later start is a join.

    bootstrap: KEYS_CREATED > STORAGE_READY > SEALED_WITHOUT_CA > CONSENSUS_STARTED > COMMITTED
                            > CREDENTIALS_SAVED > SEALED > DONE
    register:  KEYS_CREATED > REGISTERED > STORAGE_READY > COMMITTED
                            > CREDENTIALS_SAVED > SEALED > DONE
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from metropolis.api.enrolment_pb2 import EnrolmentRecord
from metropolis.base.errors import DataLossError, FailedPreconditionError, MetropolisError

Flow: TypeAlias = EnrolmentRecord.Flow.ValueType
Step: TypeAlias = EnrolmentRecord.Step.ValueType

FLOWS: Final[Mapping[Flow, Sequence[Step]]] = {
    EnrolmentRecord.FLOW_BOOTSTRAP: (
        EnrolmentRecord.STEP_KEYS_CREATED,
        EnrolmentRecord.STEP_STORAGE_READY,
        EnrolmentRecord.STEP_SEALED_WITHOUT_CA,
        EnrolmentRecord.STEP_CONSENSUS_STARTED,
        EnrolmentRecord.STEP_COMMITTED,
        EnrolmentRecord.STEP_CREDENTIALS_SAVED,
        EnrolmentRecord.STEP_SEALED,
        EnrolmentRecord.STEP_DONE,
    ),
    EnrolmentRecord.FLOW_REGISTER: (
        EnrolmentRecord.STEP_KEYS_CREATED,
        EnrolmentRecord.STEP_REGISTERED,
        EnrolmentRecord.STEP_STORAGE_READY,
        EnrolmentRecord.STEP_COMMITTED,
        EnrolmentRecord.STEP_CREDENTIALS_SAVED,
        EnrolmentRecord.STEP_SEALED,
        EnrolmentRecord.STEP_DONE,
    ),
}


def steps_left(flow: Flow, done: Step) -> Sequence[Step]:
    """The steps of `flow` after `done`, in order; all of them when nothing is done yet.

    Raises:
        DataLossError: `done` is no step of this flow.
    """
    steps = FLOWS[flow]
    if done == EnrolmentRecord.STEP_UNSPECIFIED:
        return steps
    if done not in steps:
        raise DataLossError(
            f"the enrolment record names step {done}, which flow {flow} does not have",
            remedy="Wipe this machine and install it again.",
        )
    return steps[steps.index(done) + 1 :]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a starting node finds on its storage. Unreadable files are errors, not absences.

    Attributes:
        sealed_has_ca: None without a sealed configuration, else whether it names the cluster's CA.
        has_credentials: The node's certificate and key are on the data partition.
        record_flow: Flow of the enrolment record, None without one.
        record_digest: Its digest of the parameters that it began with.
        parameters_flow: What the node parameters ask for, None without parameters.
        parameters_digest: SHA-256 of the parameters.
    """

    sealed_has_ca: bool | None
    has_credentials: bool
    record_flow: Flow | None
    record_digest: bytes = b""
    parameters_flow: Flow | None = None
    parameters_digest: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a starting node does, and the sentence that says so."""

    flow: Flow
    resumes: bool
    sentence: str


def decide(findings: Findings) -> Decision | MetropolisError:
    """Decide between joining, resuming an enrolment, and beginning one.

    A record in progress comes first: it is removed only after everything else is in place.
    A finished node never enrols again, whatever parameters lie beside it.
    """
    if findings.record_flow is not None:
        return _resume(findings, findings.record_flow)
    if findings.sealed_has_ca is not None:
        if findings.sealed_has_ca and findings.has_credentials:
            return Decision(
                flow=EnrolmentRecord.FLOW_JOIN,
                resumes=False,
                sentence="This node is part of a cluster: joining it again.",
            )
        return DataLossError(
            "this node was enrolled, but "
            + ("its credentials are" if findings.sealed_has_ca else "the cluster's CA is")
            + " missing from its storage",
            remedy="Delete the node with `metroctl node delete`, wipe the machine, install again.",
        )
    match findings.parameters_flow:
        case EnrolmentRecord.FLOW_BOOTSTRAP:
            sentence = "Node parameters ask for a new cluster: bootstrapping it."
        case EnrolmentRecord.FLOW_REGISTER:
            sentence = "Node parameters name a cluster: registering with it."
        case _:
            return FailedPreconditionError(
                "this node is part of no cluster and has no node parameters",
                remedy="Install it with an image made by `metroctl install`.",
            )
    return Decision(flow=findings.parameters_flow, resumes=False, sentence=sentence)


def _resume(findings: Findings, flow: Flow) -> Decision | MetropolisError:
    if findings.parameters_digest != findings.record_digest:
        return FailedPreconditionError(
            "an enrolment is in progress, and the node parameters it began with were taken away",
            remedy="Put the first parameters back, or wipe this machine and install it again.",
        )
    name = EnrolmentRecord.Flow.Name(flow).removeprefix("FLOW_").lower()
    return Decision(flow=flow, resumes=True, sentence=f"Resuming the {name} enrolment.")
