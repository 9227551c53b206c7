# SPDX-License-Identifier: Apache-2.0
"""Firewalls, over REST: machines that were allocated to be one."""

from typing import Any, Final

import msgspec

from metropolis.metal.http.machines import LISTED_KINDS, allocate_one, find_all, find_one
from metropolis.metal.http.operation import Call, Nothing, Operation, Role
from metropolis.metal.model.machine_request import (
    AllocateQuery,
    FirewallCreateRequest,
    MachineFindRequest,
)
from metropolis.metal.model.machine_response import MachineResponse


async def _list(call: Call[Nothing, Nothing]) -> msgspec.Raw:
    return await find_all(call, MachineFindRequest(), "firewall")


async def _find(call: Call[MachineFindRequest, Nothing]) -> msgspec.Raw:
    return await find_all(call, call.body, "firewall")


async def _get(call: Call[Nothing, Nothing]) -> msgspec.Raw:
    return await find_one(call, "firewall")


async def _allocate(call: Call[FirewallCreateRequest, AllocateQuery]) -> msgspec.Raw:
    return await allocate_one(call, call.body, "firewall")


OPERATIONS: Final[tuple[Operation[Any, Any], ...]] = (
    Operation(
        id="listFirewalls",
        method="GET",
        path="/v1/firewall",
        role=Role.VIEW,
        summary="List all firewalls.",
        handle=_list,
        answer=list[MachineResponse],
        depends_on=LISTED_KINDS,
        tag="firewall",
    ),
    Operation(
        id="allocateFirewall",
        method="POST",
        path="/v1/firewall/allocate",
        role=Role.EDIT,
        summary="Give a project a machine that is a firewall.",
        handle=_allocate,
        body=FirewallCreateRequest,
        query=AllocateQuery,
        answer=MachineResponse,
        tag="firewall",
    ),
    Operation(
        id="findFirewalls",
        method="POST",
        path="/v1/firewall/find",
        role=Role.VIEW,
        summary="Find firewalls by what they are, whose they are and where.",
        handle=_find,
        body=MachineFindRequest,
        answer=list[MachineResponse],
        audited=False,
        tag="firewall",
    ),
    Operation(
        id="findFirewall",
        method="GET",
        path="/v1/firewall/{id}",
        role=Role.VIEW,
        summary="Get a firewall.",
        handle=_get,
        answer=MachineResponse,
        tag="firewall",
    ),
)
