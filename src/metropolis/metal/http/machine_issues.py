# SPDX-License-Identifier: Apache-2.0
"""What is wrong with machines, over REST."""

from typing import Any, Final

from metropolis.metal.http.machines import check_machine_sight, check_search, within
from metropolis.metal.http.operation import Call, Nothing, Operation, Role
from metropolis.metal.model.event import EVENTS
from metropolis.metal.model.ipmi import IPMIS
from metropolis.metal.model.machine import MACHINES
from metropolis.metal.model.machine_request import MachineIssuesRequest
from metropolis.metal.model.machine_response import (
    MachineExplanation,
    MachineIssue,
    MachineIssueResponse,
)
from metropolis.metal.rules.explanation import explain
from metropolis.metal.rules.issues import ISSUES
from metropolis.metal.services.issues import evaluate
from metropolis.metal.store import Reader

_ISSUES: Final = [
    MachineIssue(
        id=kind.id,
        severity=kind.severity.name.lower(),
        description=kind.description,
        details=kind.remedy,
        ref_url=kind.reference,
    )
    for kind in ISSUES
]


async def _list(_call: Call[Nothing, Nothing]) -> list[MachineIssue]:
    return _ISSUES


async def _evaluate(call: Call[MachineIssuesRequest, Nothing]) -> list[MachineIssueResponse]:
    check_search(call.caller, call.body)
    now = call.site.clock.wall()
    return await call.site.store.read(
        lambda reader: evaluate(reader, call.body, now=now, within=within(call.caller))
    )


async def _explain(call: Call[Nothing, Nothing]) -> MachineExplanation:
    async def view(reader: Reader) -> MachineExplanation:
        machine = await reader.get(MACHINES, call.path["id"])
        check_machine_sight(call.caller, machine)
        events = await reader.lookup(EVENTS, machine.id)
        bmc = await reader.lookup(IPMIS, machine.id)
        return explain(
            machine.value,
            None if events is None else events.value,
            reachable=bmc is not None and bmc.value.address != "",
        )

    return await call.site.store.read(view)


OPERATIONS: Final[tuple[Operation[Any, Any], ...]] = (
    Operation(
        id="listIssues",
        method="GET",
        path="/v1/machine/issues",
        role=Role.VIEW,
        summary="List what can be wrong with a machine, and what to do.",
        handle=_list,
        answer=list[MachineIssue],
        audited=False,
        tag="machine",
    ),
    Operation(
        id="issues",
        method="POST",
        path="/v1/machine/issues/evaluate",
        role=Role.VIEW,
        summary="Say what is wrong with which machines.",
        handle=_evaluate,
        body=MachineIssuesRequest,
        answer=list[MachineIssueResponse],
        tag="machine",
    ),
    Operation(
        id="explainMachine",
        method="GET",
        path="/v1/machine/{id}/explain",
        role=Role.VIEW,
        summary="Say why a machine is neither allocatable nor in use, and what to do.",
        handle=_explain,
        answer=MachineExplanation,
        tag="machine",
    ),
)
