# SPDX-License-Identifier: Apache-2.0
"""The operations on switches. They belong to no project: who is confined to some sees none."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from metropolis.base.errors import PermissionDeniedError
from metropolis.metal.http.operation import Call, Nothing, Operation, Reply, Role
from metropolis.metal.model.switch import (
    SWITCHES,
    Switch,
    SwitchFindRequest,
    SwitchMigrateRequest,
    SwitchNotifyRequest,
    SwitchNotifyResponse,
    SwitchPortToggleRequest,
    SwitchRegisterRequest,
    SwitchResponse,
    SwitchUpdateRequest,
)
from metropolis.metal.services import switches
from metropolis.metal.services.switch_status import (
    SwitchAnswers,
    find_switches,
    notify_switch,
    toggle_port,
)
from metropolis.metal.store import Reader, Stored, Transaction


class DeleteQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a switch may be deleted that has machines."""

    force: bool = False


def _check_unconfined(call: Call[Any, Any]) -> None:
    if call.caller.projects is not None:
        raise PermissionDeniedError(
            "switches belong to no project, and your token is confined to some",
            remedy="Use a token that is not confined to projects.",
        )


async def _list(call: Call[Nothing, Nothing]) -> list[SwitchResponse]:
    return await _answer_all(call, lambda reader: reader.find(SWITCHES))


async def _find(call: Call[SwitchFindRequest, Nothing]) -> list[SwitchResponse]:
    return await _answer_all(call, lambda reader: find_switches(reader, call.body))


async def _answer_all(
    call: Call[Any, Any], find: Callable[[Reader], Awaitable[list[Stored[Switch]]]]
) -> list[SwitchResponse]:
    _check_unconfined(call)

    async def view(reader: Reader) -> list[SwitchResponse]:
        answers = SwitchAnswers(reader)
        return [await answers.response(each) for each in await find(reader)]

    return await call.site.store.read(view)


async def _get(call: Call[Nothing, Nothing]) -> SwitchResponse:
    _check_unconfined(call)

    async def view(reader: Reader) -> SwitchResponse:
        return await SwitchAnswers(reader).response(await reader.get(SWITCHES, call.path["id"]))

    return await call.site.store.read(view)


async def _changed(
    call: Call[Any, Any], change: Callable[[Transaction], Awaitable[Stored[Switch]]]
) -> SwitchResponse:
    _check_unconfined(call)

    async def body(tx: Transaction) -> SwitchResponse:
        return await SwitchAnswers(tx).response(await change(tx))

    return await call.site.store.write(body)


async def _update(call: Call[SwitchUpdateRequest, Nothing]) -> SwitchResponse:
    return await _changed(call, lambda tx: switches.update_switch(tx, call.body))


async def _migrate(call: Call[SwitchMigrateRequest, Nothing]) -> SwitchResponse:
    return await _changed(call, lambda tx: switches.migrate_switch(tx, call.body))


async def _toggle(call: Call[SwitchPortToggleRequest, Nothing]) -> SwitchResponse:
    return await _changed(call, lambda tx: toggle_port(tx, call.path["id"], call.body))


async def _register(call: Call[SwitchRegisterRequest, Nothing]) -> Reply:
    _check_unconfined(call)

    async def change(tx: Transaction) -> Reply:
        switch, new = await switches.register_switch(tx, call.body)
        answer = await SwitchAnswers(tx).response(switch)
        return Reply(value=answer, status=201 if new else 200)

    return await call.site.store.write(change)


async def _delete(call: Call[Nothing, DeleteQuery]) -> SwitchResponse:
    _check_unconfined(call)

    async def change(tx: Transaction) -> SwitchResponse:
        answer = await SwitchAnswers(tx).response(await tx.get(SWITCHES, call.path["id"]))
        await switches.delete_switch(tx, call.path["id"], force=call.query.force)
        return answer

    return await call.site.store.write(change)


async def _notify(call: Call[SwitchNotifyRequest, Nothing]) -> SwitchNotifyResponse:
    _check_unconfined(call)

    async def change(tx: Transaction) -> SwitchNotifyResponse:
        switch, status = await notify_switch(tx, call.path["id"], call.body)
        return SwitchNotifyResponse(
            id=switch.id,
            name=switch.value.name,
            description=switch.value.description,
            last_sync=status.last_sync,
            last_sync_error=status.last_sync_error,
        )

    return await call.site.store.write(change, serial=False)


OPERATIONS: tuple[Operation[Any, Any], ...] = (
    Operation(
        id="listSwitches",
        method="GET",
        path="/v1/switch",
        role=Role.ANY,
        summary="get all switches",
        handle=_list,
        answer=list[SwitchResponse],
        tag="switch",
    ),
    Operation(
        id="updateSwitch",
        method="POST",
        path="/v1/switch",
        role=Role.ADMIN,
        summary="updates a switch",
        handle=_update,
        body=SwitchUpdateRequest,
        answer=SwitchResponse,
        errors=(409,),
        tag="switch",
    ),
    Operation(
        id="findSwitches",
        method="POST",
        path="/v1/switch/find",
        role=Role.VIEW,
        summary="get all switches that match given properties",
        handle=_find,
        body=SwitchFindRequest,
        answer=list[SwitchResponse],
        audited=False,
        tag="switch",
    ),
    Operation(
        id="migrateSwitch",
        method="POST",
        path="/v1/switch/migrate",
        role=Role.ADMIN,
        summary="moves what is connected to one switch to another of the same rack",
        handle=_migrate,
        body=SwitchMigrateRequest,
        answer=SwitchResponse,
        tag="switch",
    ),
    Operation(
        id="registerSwitch",
        method="POST",
        path="/v1/switch/register",
        role=Role.EDIT,
        summary="registers a switch; 201 when it is a new one",
        handle=_register,
        body=SwitchRegisterRequest,
        answer=SwitchResponse,
        errors=(201, 409),
        tag="switch",
    ),
    Operation(
        id="deleteSwitch",
        method="DELETE",
        path="/v1/switch/{id}",
        role=Role.EDIT,
        summary="deletes a switch and returns the deleted entity",
        handle=_delete,
        query=DeleteQuery,
        answer=SwitchResponse,
        tag="switch",
    ),
    Operation(
        id="findSwitch",
        method="GET",
        path="/v1/switch/{id}",
        role=Role.ANY,
        summary="get switch by id",
        handle=_get,
        answer=SwitchResponse,
        tag="switch",
    ),
    Operation(
        id="notifySwitch",
        method="POST",
        path="/v1/switch/{id}/notify",
        role=Role.EDIT,
        summary="tells how a switch is doing",
        handle=_notify,
        body=SwitchNotifyRequest,
        answer=SwitchNotifyResponse,
        audited=False,
        tag="switch",
    ),
    Operation(
        id="toggleSwitchPort",
        method="POST",
        path="/v1/switch/{id}/port",
        role=Role.ADMIN,
        summary="turns a port with a machine on or off",
        handle=_toggle,
        body=SwitchPortToggleRequest,
        answer=SwitchResponse,
        errors=(400, 409),
        tag="switch",
    ),
)
