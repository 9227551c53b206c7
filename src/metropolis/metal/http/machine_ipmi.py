# SPDX-License-Identifier: Apache-2.0
"""BMCs of machines, over REST. Viewers see that there is a user and a password, and neither."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from metropolis.metal.http.machine_text import list_text, machine_text, member, surroundings
from metropolis.metal.http.machines import check_machine_sight, check_search, within
from metropolis.metal.http.operation import Call, Nothing, Operation, Role
from metropolis.metal.model.ipmi import MachineIPMI
from metropolis.metal.model.machine import MACHINES, Machine
from metropolis.metal.model.machine_request import MachineFindRequest, MachineIpmiReports
from metropolis.metal.model.machine_response import (
    MachineIpmiReportResponse,
    MachineIPMIResponse,
)
from metropolis.metal.services.ipmi import receive_reports
from metropolis.metal.services.search import NAMED_MAX, bmcs_of, find_machines
from metropolis.metal.store import Reader, Stored

_encode: Final = msgspec.json.Encoder().encode


async def _texts(
    call: Call[Any, Any], reader: Reader, found: Sequence[Stored[Machine]]
) -> list[bytes]:
    ids = None if len(found) > NAMED_MAX else [each.id for each in found]
    bmcs = await bmcs_of(reader, ids)
    texts = [_encode(each.value) for each in found]
    around = await surroundings(reader, texts)
    secrets = call.caller.sees_secrets
    return [
        machine_text(
            text,
            around,
            more=member("ipmi", MachineIPMI.of(bmcs.get(each.id), with_secrets=secrets)),
        )
        for each, text in zip(found, texts, strict=True)
    ]


async def _find(call: Call[MachineFindRequest, Nothing]) -> msgspec.Raw:
    check_search(call.caller, call.body)

    async def view(reader: Reader) -> msgspec.Raw:
        found = await find_machines(reader, call.body, within=within(call.caller))
        return list_text(await _texts(call, reader, found))

    return await call.site.store.read(view)


async def _get(call: Call[Nothing, Nothing]) -> msgspec.Raw:
    async def view(reader: Reader) -> msgspec.Raw:
        machine = await reader.get(MACHINES, call.path["id"])
        check_machine_sight(call.caller, machine)
        (text,) = await _texts(call, reader, [machine])
        return msgspec.Raw(text)

    return await call.site.store.read(view)


async def _report(call: Call[MachineIpmiReports, Nothing]) -> MachineIpmiReportResponse:
    return await receive_reports(call.site.store, call.body)


OPERATIONS: Final[tuple[Operation[Any, Any], ...]] = (
    Operation(
        id="ipmiReport",
        method="POST",
        path="/v1/machine/ipmi",
        role=Role.EDIT,
        summary="Report the BMCs of a partition; machines nobody heard of become known.",
        handle=_report,
        body=MachineIpmiReports,
        answer=MachineIpmiReportResponse,
        tag="machine",
    ),
    Operation(
        id="findIPMIMachines",
        method="POST",
        path="/v1/machine/ipmi/find",
        role=Role.VIEW,
        summary="Find machines, with their BMCs.",
        handle=_find,
        body=MachineFindRequest,
        answer=list[MachineIPMIResponse],
        audited=False,
        tag="machine",
    ),
    Operation(
        id="findIPMIMachine",
        method="GET",
        path="/v1/machine/{id}/ipmi",
        role=Role.VIEW,
        summary="Get a machine, with its BMC.",
        handle=_get,
        answer=MachineIPMIResponse,
        tag="machine",
    ),
)
