# SPDX-License-Identifier: Apache-2.0
"""Machines, over REST: finding, allocating, changing, giving back."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from metropolis.base.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    PermissionDeniedError,
)
from metropolis.metal.access.caller import Caller
from metropolis.metal.http.confinement import check_named
from metropolis.metal.http.machine_text import (
    NAMED,
    machines_text,
    names_of,
    one_machine,
    pair_text,
)
from metropolis.metal.http.operation import Call, Nothing, Operation, Role
from metropolis.metal.model.event import EVENTS
from metropolis.metal.model.image import IMAGES
from metropolis.metal.model.ipmi import CONSOLE_PASSWORDS
from metropolis.metal.model.machine import MACHINES, Machine, MachineRole
from metropolis.metal.model.machine_request import (
    AllocateQuery,
    MachineAllocateRequest,
    MachineConsolePasswordRequest,
    MachineFindRequest,
    MachineReinstallRequest,
    MachineSearchQuery,
    MachineStateRequest,
    MachineUpdateRequest,
)
from metropolis.metal.model.machine_response import (
    MachineConsolePasswordResponse,
    MachineResponse,
)
from metropolis.metal.model.partition import PARTITIONS
from metropolis.metal.model.size import SIZES
from metropolis.metal.rules.allocation import parse_allocation
from metropolis.metal.services import allocation, freeing, machines
from metropolis.metal.services.search import Where, find_texts
from metropolis.metal.store import Kind, Reader, Stored, Transaction

LOG: Final = logging.getLogger("metropolis.metal.machines")
# Whatever a list of machines is made of.
BESIDE_MACHINES: Final[tuple[Kind[Any], ...]] = (PARTITIONS, SIZES, IMAGES)
LISTED_KINDS: Final[tuple[Kind[Any], ...]] = (MACHINES, EVENTS, *BESIDE_MACHINES)


def within(caller: Caller, role: MachineRole | None = None) -> Where:
    """The facets of the machines that a caller may see."""
    where: dict[str, str | list[str]] = {}
    if caller.projects is not None:
        where["project"] = sorted(caller.projects)
    if role is not None:
        where["role"] = role
    return where


def check_machine_sight(caller: Caller, machine: Stored[Machine]) -> None:
    """Refuse a machine of another project as if it were not there.

    Raises:
        NotFoundError: the caller is confined, and it is nobody's or somebody else's.
    """
    held = machine.value.allocation
    caller.check_sight("" if held is None else held.project_id, f"machine with id {machine.id!r}")


def check_search(caller: Caller, query: MachineSearchQuery) -> None:
    """Refuse a search by what the caller does not see: answers would tell it bit by bit.

    Raises:
        PermissionDeniedError: it asks for users of BMCs.
    """
    if query.ipmi_user is not None and not caller.sees_secrets:
        raise PermissionDeniedError(
            "ipmi_user: viewers do not see users of BMCs",
            remedy="Leave it out, or ask as an editor or administrator.",
        )


async def change_machine(
    call: Call[Any, Any],
    machine_id: str,
    change: Callable[[Transaction], Awaitable[Stored[Machine]]],
) -> msgspec.Raw:
    """Change a machine that the caller may see, and answer with what it is then."""

    async def body(tx: Transaction) -> msgspec.Raw:
        check_machine_sight(call.caller, await tx.get(MACHINES, machine_id))
        return await one_machine(tx, await change(tx))

    return await machines.write_again(call.site.store, body)


async def find_all(
    call: Call[Any, Any], query: MachineSearchQuery, role: MachineRole | None = None
) -> msgspec.Raw:
    """Answer with all machines that fit a query and that the caller may see."""
    check_search(call.caller, query)

    async def view(reader: Reader) -> msgspec.Raw:
        pairs = await find_texts(reader, query, within=within(call.caller, role))
        revision = await reader.revision(*NAMED)
        names = await call.site.memory.recall(names_of, reader, revision)
        return machines_text(pairs, names)

    return await call.site.store.read(view)


async def find_one(call: Call[Any, Any], role: MachineRole | None = None) -> msgspec.Raw:
    """Answer with the machine that the path names.

    Raises:
        FailedPreconditionError: nothing was ever heard of it.
    """
    machine_id = call.path["id"]
    memory = call.site.memory

    async def found_alone(reader: Reader) -> tuple[bytes, bytes | None, int] | None:
        return await reader.text_beside(MACHINES, EVENTS, machine_id, NAMED)

    async def view(reader: Reader) -> msgspec.Raw:
        machine = await reader.get(MACHINES, machine_id)
        check_machine_sight(call.caller, machine)
        _check_role(machine, role)
        found = await found_alone(reader)
        if found is None or found[1] is None:
            raise FailedPreconditionError(
                f"machine {machine_id} has no event container: nothing was ever heard of it",
                remedy="Let it boot by PXE; until then find it in the list of all machines.",
            )
        text, events, revision = found
        return pair_text(text, events, await memory.recall(names_of, reader, revision))

    if role is None and call.caller.projects is None:  # mostly: then one statement tells it all
        found = await call.site.store.read(found_alone)
        if found is not None and found[1] is not None:
            names = memory.known(names_of, found[2])
            if names is not None:
                return pair_text(found[0], found[1], names)
    return await call.site.store.read(view)


def _check_role(machine: Stored[Machine], role: MachineRole | None) -> None:
    held = machine.value.allocation
    if role is not None and (held is None or held.role != role):
        raise FailedPreconditionError(
            f"machine {machine.id} is not a {role}", remedy=f"List those that are a {role}."
        )


async def allocate_one(
    call: Call[Any, AllocateQuery], request: MachineAllocateRequest, role: MachineRole
) -> msgspec.Raw:
    """Give a project a machine."""
    call.caller.check_project(request.project_id)
    spec = parse_allocation(request, role)
    luck = allocation.draw(call.site.entropy)

    async def body(tx: Transaction) -> msgspec.Raw:
        await check_named(
            call.caller,
            tx,
            networks=[each.networkid for each in request.networks or ()],
            addresses=request.ips or (),
            machine=request.uuid or "",
        )
        machine = await allocation.allocate(
            tx,
            spec,
            creator=call.caller.email,
            luck=luck,
            idempotency_key=call.query.idempotency_key,
        )
        return await one_machine(tx, machine)

    return await machines.write_again(call.site.store, body)


async def _list(call: Call[Nothing, Nothing]) -> msgspec.Raw:
    return await find_all(call, MachineFindRequest())


async def _find(call: Call[MachineFindRequest, Nothing]) -> msgspec.Raw:
    return await find_all(call, call.body)


async def _get(call: Call[Nothing, Nothing]) -> msgspec.Raw:
    return await find_one(call)


async def _allocate(call: Call[MachineAllocateRequest, AllocateQuery]) -> msgspec.Raw:
    return await allocate_one(call, call.body, "machine")


async def _update(call: Call[MachineUpdateRequest, Nothing]) -> msgspec.Raw:
    return await change_machine(call, call.body.id, lambda tx: machines.update(tx, call.body))


async def _delete(call: Call[Nothing, Nothing]) -> msgspec.Raw:
    async def body(tx: Transaction) -> msgspec.Raw:
        machine = await tx.get(MACHINES, call.path["id"])
        check_machine_sight(call.caller, machine)
        answer = await one_machine(tx, machine)  # while there is something to say
        await machines.delete(tx, machine.id)
        return answer

    return await machines.write_again(call.site.store, body)


async def _free(call: Call[Nothing, Nothing]) -> msgspec.Raw:
    machine_id = call.path["id"]
    return await change_machine(call, machine_id, lambda tx: freeing.free(tx, machine_id))


async def _reinstall(call: Call[MachineReinstallRequest, Nothing]) -> msgspec.Raw:
    machine_id = call.path["id"]
    if call.body.id != machine_id:
        raise InvalidArgumentError(
            f"id: the path names machine {machine_id}, the body {call.body.id[:64]!r}",
            remedy="Name the same machine in both.",
        )
    return await change_machine(call, machine_id, lambda tx: freeing.reinstall(tx, call.body))


async def _set_state(call: Call[MachineStateRequest, Nothing]) -> msgspec.Raw:
    machine_id = call.path["id"]
    return await change_machine(
        call,
        machine_id,
        lambda tx: machines.set_state(tx, machine_id, call.body, issuer=call.caller.email),
    )


async def _console_password(
    call: Call[MachineConsolePasswordRequest, Nothing],
) -> MachineConsolePasswordResponse:
    request = call.body
    if len(request.reason) < call.site.settings.password_reason_length_min:
        raise InvalidArgumentError(
            "reason: it is too short",
            remedy=f"Give at least {call.site.settings.password_reason_length_min} characters.",
        )

    async def view(reader: Reader) -> MachineConsolePasswordResponse:
        machine = await reader.get(MACHINES, request.id)
        check_machine_sight(call.caller, machine)
        if machine.value.allocation is None:
            raise FailedPreconditionError(
                f"machine {request.id} is not allocated, so it has no console password",
                remedy="Allocate it first.",
            )
        password = await reader.lookup(CONSOLE_PASSWORDS, request.id)
        return MachineConsolePasswordResponse(
            id=machine.id,
            name=machine.value.name,
            description=machine.value.description,
            console_password="" if password is None else password.value.password,
        )

    answer = await call.site.store.read(view)
    LOG.info(
        "%s reads the console password of machine %s: %r",
        call.caller.email,
        request.id,
        request.reason,
    )
    return answer


OPERATIONS: Final[tuple[Operation[Any, Any], ...]] = (
    Operation(
        id="listMachines",
        method="GET",
        path="/v1/machine",
        role=Role.VIEW,
        summary="List all machines.",
        handle=_list,
        answer=list[MachineResponse],
        depends_on=LISTED_KINDS,
        tag="machine",
    ),
    Operation(
        id="updateMachine",
        method="POST",
        path="/v1/machine",
        role=Role.ADMIN,
        summary="Change description, tags and keys of an allocated machine.",
        handle=_update,
        body=MachineUpdateRequest,
        answer=MachineResponse,
        errors=(409,),
        tag="machine",
    ),
    Operation(
        id="allocateMachine",
        method="POST",
        path="/v1/machine/allocate",
        role=Role.EDIT,
        summary="Give a project a machine.",
        handle=_allocate,
        body=MachineAllocateRequest,
        query=AllocateQuery,
        answer=MachineResponse,
        tag="machine",
    ),
    Operation(
        id="getMachineConsolePassword",
        method="GET",
        path="/v1/machine/consolepassword",
        role=Role.EDIT,
        summary="Read the password of an allocated machine's console user, for a reason.",
        handle=_console_password,
        body=MachineConsolePasswordRequest,
        answer=MachineConsolePasswordResponse,
        audited=True,
        tag="machine",
    ),
    Operation(
        id="findMachines",
        method="POST",
        path="/v1/machine/find",
        role=Role.VIEW,
        summary="Find machines by what they are, whose they are and where.",
        handle=_find,
        body=MachineFindRequest,
        answer=list[MachineResponse],
        audited=False,
        tag="machine",
    ),
    Operation(
        id="deleteMachine",
        method="DELETE",
        path="/v1/machine/{id}",
        role=Role.ADMIN,
        summary="Forget a machine that is dead and nobody's.",
        handle=_delete,
        answer=MachineResponse,
        tag="machine",
    ),
    Operation(
        id="findMachine",
        method="GET",
        path="/v1/machine/{id}",
        role=Role.VIEW,
        summary="Get a machine.",
        handle=_get,
        answer=MachineResponse,
        depends_on=BESIDE_MACHINES,
        depends_on_id=(MACHINES, EVENTS),
        tag="machine",
    ),
    Operation(
        id="freeMachine",
        method="DELETE",
        path="/v1/machine/{id}/free",
        role=Role.EDIT,
        summary="Take a machine back from its project; it boots anew.",
        handle=_free,
        answer=MachineResponse,
        tag="machine",
    ),
    Operation(
        id="reinstallMachine",
        method="POST",
        path="/v1/machine/{id}/reinstall",
        role=Role.EDIT,
        summary="Install an allocated machine again.",
        handle=_reinstall,
        body=MachineReinstallRequest,
        answer=MachineResponse,
        errors=(400,),
        tag="machine",
    ),
    Operation(
        id="setMachineState",
        method="POST",
        path="/v1/machine/{id}/state",
        role=Role.EDIT,
        summary="Reserve, lock or release a machine.",
        handle=_set_state,
        body=MachineStateRequest,
        answer=MachineResponse,
        tag="machine",
    ),
)
