# SPDX-License-Identifier: Apache-2.0
"""Evaluating what is wrong with machines."""

from datetime import datetime, timedelta
from typing import Any

from metropolis.metal.model.ipmi import IPMIS
from metropolis.metal.model.machine import MACHINES
from metropolis.metal.model.machine_request import MachineIssuesRequest
from metropolis.metal.model.machine_response import MachineIssueResponse
from metropolis.metal.rules.issues import (
    LAST_ERROR_THRESHOLD,
    Subject,
    check_issue_ids,
    issues_of,
    parse_severity,
)
from metropolis.metal.services.search import Where, bmcs_of, events_of, find_machines
from metropolis.metal.store import Kind, Reader

_SHARED = (
    "SELECT value, count(*) FROM facet WHERE kind = $1 AND name = $2"
    " GROUP BY value HAVING count(*) > 1"
)
_ALL_AT_ONCE = 500  # machines from which on everything beside them is read, not their own alone


async def shared_values(reader: Reader, kind: Kind[Any], facet: str) -> dict[str, int]:
    """Values of a facet that several entities have, and how many."""
    assert facet in kind.facets, f"{kind.name} has no facet {facet}"
    rows = await reader.fetch(_SHARED, kind.name, facet)
    return {str(value): int(count) for value, count in rows}


async def evaluate(
    reader: Reader,
    request: MachineIssuesRequest,
    *,
    now: datetime,
    within: Where | None = None,
) -> list[MachineIssueResponse]:
    """Say what is wrong with which machines; what others share is looked for among all.

    Raises:
        InvalidArgumentError: a severity or an issue does not exist.
    """
    least = parse_severity(request.severity)
    only, omit = request.only or (), request.omit or ()
    check_issue_ids("only", only)
    check_issue_ids("omit", omit)
    threshold = LAST_ERROR_THRESHOLD
    if request.last_error_threshold_ns:
        threshold = timedelta(microseconds=request.last_error_threshold_ns // 1000)
    machines = await find_machines(reader, request, within=within)
    ids = None if len(machines) > _ALL_AT_ONCE else [each.id for each in machines]
    events, bmcs = await events_of(reader, ids), await bmcs_of(reader, ids)
    asns = await shared_values(reader, MACHINES, "firewall-asn")
    asn_users = {int(value): count for value, count in asns.items()}
    address_users = await shared_values(reader, IPMIS, "address")
    answer: list[MachineIssueResponse] = []
    for machine in machines:
        subject = Subject(
            machine=machine.value,
            events=events.get(machine.id),
            ipmi=bmcs.get(machine.id),
            now=now,
            last_error_threshold=threshold,
            asn_users=asn_users,
            address_users=address_users,
        )
        found = tuple(
            kind.id
            for kind in issues_of(subject)
            if kind.severity >= least and (not only or kind.id in only) and kind.id not in omit
        )
        if found:
            answer.append(MachineIssueResponse(machine_id=machine.id, issues=found))
    return answer
