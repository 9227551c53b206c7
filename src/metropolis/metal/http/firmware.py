# SPDX-License-Identifier: Apache-2.0
"""Firmware, over REST: kept in an object store, offered to machines by URLs that expire."""

from typing import Any, Final

import msgspec

from metropolis.base.errors import FailedPreconditionError
from metropolis.metal.http.machine_text import one_machine
from metropolis.metal.http.operation import Call, Nothing, Operation, Role, Upload
from metropolis.metal.model.firmware import (
    FirmwareQuery,
    FirmwaresResponse,
    MachineUpdateFirmwareRequest,
)
from metropolis.metal.model.machine_response import MachineResponse
from metropolis.metal.rules.firmware import Firmware, check_kind, firmware, revisions
from metropolis.metal.s3 import S3Store
from metropolis.metal.services import firmware as services
from metropolis.metal.site import Site
from metropolis.metal.store import Transaction


def _store(site: Site) -> S3Store:
    """Return where firmware is kept.

    Raises:
        FailedPreconditionError: nowhere, naming the setting that is missing.
    """
    if site.settings.firmware is None:
        raise FailedPreconditionError(
            "there is no store for firmware: the setting firmware-s3-endpoint is missing",
            remedy="Start the control plane with --firmware-s3-endpoint, --firmware-s3-bucket, "
            "--firmware-s3-access-key-file and --firmware-s3-secret-key-file.",
        )
    return S3Store(site.settings.firmware)


def _named(call: Call[Any, Any]) -> Firmware:
    path = call.path
    return firmware(
        kind=path["kind"], vendor=path["vendor"], board=path["board"], revision=path["revision"]
    )


async def _list(call: Call[Nothing, FirmwareQuery]) -> FirmwaresResponse:
    query = call.query
    store = _store(call.site)
    if query.kind:
        check_kind(query.kind)
    vendor, board = query.vendor, query.board
    if query.machine_id:
        its = await call.site.store.read(lambda reader: services.board_of(reader, query.machine_id))
        vendor, board = its.vendor, its.board
    keys = await store.keys(f"{query.kind}/" if query.kind else "")
    return revisions(keys, kind=query.kind, vendor=vendor, board=board)


async def _upload(call: Call[Upload, Nothing]) -> None:
    wanted = _named(call)
    store = _store(call.site)
    await call.site.store.read(lambda reader: services.check_board(reader, wanted))
    await store.put(wanted.key, call.body.file)


async def _remove(call: Call[Nothing, Nothing]) -> None:
    wanted = _named(call)
    await _store(call.site).remove(wanted.key)


async def _update(call: Call[MachineUpdateFirmwareRequest, Nothing]) -> msgspec.Raw:
    machine_id, body = call.path["id"], call.body
    store = _store(call.site)
    wanted = await call.site.store.read(
        lambda reader: services.plan_update(reader, machine_id, body.kind, body.revision)
    )
    if not await store.exists(wanted.key):
        raise FailedPreconditionError(
            f"revision: there is no {wanted.kind} revision {wanted.revision} for board "
            f"{wanted.board} of {wanted.vendor}",
            remedy="Upload it first; `metalctl firmware list` shows what there is.",
        )
    url = await store.presign(wanted.key, valid_s=services.URL_VALID_S)

    async def change(tx: Transaction) -> msgspec.Raw:
        return await one_machine(tx, await services.send_update(tx, machine_id, wanted, url=url))

    return await call.site.store.write(change)


OPERATIONS: Final[tuple[Operation[Any, Any], ...]] = (
    Operation(
        id="listFirmwares",
        method="GET",
        path="/v1/firmware",
        role=Role.ADMIN,
        summary="List revisions of firmware by kind, vendor and board, or for a machine.",
        handle=_list,
        query=FirmwareQuery,
        answer=FirmwaresResponse,
        tag="firmware",
    ),
    Operation(
        id="uploadFirmware",
        method="PUT",
        path="/v1/firmware/{kind}/{vendor}/{board}/{revision}",
        role=Role.ADMIN,
        summary="Upload a revision of a firmware for a board that some machine has.",
        handle=_upload,
        body=Upload,
        answer=Nothing,
        tag="firmware",
    ),
    Operation(
        id="removeFirmware",
        method="DELETE",
        path="/v1/firmware/{kind}/{vendor}/{board}/{revision}",
        role=Role.ADMIN,
        summary="Remove a revision of a firmware.",
        handle=_remove,
        answer=Nothing,
        tag="firmware",
    ),
    Operation(
        id="updateFirmware",
        method="POST",
        path="/v1/machine/update-firmware/{id}",
        role=Role.ADMIN,
        summary="Have a machine's BIOS or BMC updated by the BMC agent of its partition.",
        handle=_update,
        body=MachineUpdateFirmwareRequest,
        answer=MachineResponse,
        tag="machine",
    ),
)
