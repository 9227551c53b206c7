# SPDX-License-Identifier: Apache-2.0
"""Filesystem layouts, over REST."""

from typing import Any, Final

from metropolis.metal.http.operation import Call, Nothing, Operation, Role
from metropolis.metal.model.layout import LAYOUTS, FilesystemLayoutResponse
from metropolis.metal.model.layout_request import (
    FilesystemLayoutCreateRequest,
    FilesystemLayoutMatchRequest,
    FilesystemLayoutTryRequest,
)
from metropolis.metal.services import layouts


async def _list(call: Call[Nothing, Nothing]) -> list[FilesystemLayoutResponse]:
    found = await call.site.store.read(lambda reader: reader.find(LAYOUTS))
    return [FilesystemLayoutResponse.of(layout) for layout in found]


async def _get(call: Call[Nothing, Nothing]) -> FilesystemLayoutResponse:
    return FilesystemLayoutResponse.of(
        await call.site.store.read(lambda reader: reader.get(LAYOUTS, call.path["id"]))
    )


async def _create(call: Call[FilesystemLayoutCreateRequest, Nothing]) -> FilesystemLayoutResponse:
    return FilesystemLayoutResponse.of(
        await call.site.store.write(lambda tx: layouts.create_layout(tx, call.body))
    )


async def _update(call: Call[FilesystemLayoutCreateRequest, Nothing]) -> FilesystemLayoutResponse:
    return FilesystemLayoutResponse.of(
        await call.site.store.write(lambda tx: layouts.update_layout(tx, call.body))
    )


async def _delete(call: Call[Nothing, Nothing]) -> FilesystemLayoutResponse:
    return FilesystemLayoutResponse.of(
        await call.site.store.write(lambda tx: layouts.delete_layout(tx, call.path["id"]))
    )


async def _try(call: Call[FilesystemLayoutTryRequest, Nothing]) -> FilesystemLayoutResponse:
    return FilesystemLayoutResponse.of(
        await call.site.store.read(
            lambda reader: layouts.try_layout(reader, call.body.size, call.body.image)
        )
    )


async def _match(call: Call[FilesystemLayoutMatchRequest, Nothing]) -> FilesystemLayoutResponse:
    return FilesystemLayoutResponse.of(
        await call.site.store.read(
            lambda reader: layouts.match_layout(reader, call.body.layout, call.body.machine)
        )
    )


OPERATIONS: Final[tuple[Operation[Any, Any], ...]] = (
    Operation(
        id="listFilesystemLayouts",
        method="GET",
        path="/v1/filesystemlayout",
        role=Role.VIEW,
        summary="List all filesystem layouts.",
        handle=_list,
        answer=list[FilesystemLayoutResponse],
        depends_on=(LAYOUTS,),
        tag="filesystemlayout",
    ),
    Operation(
        id="createFilesystemLayout",
        method="PUT",
        path="/v1/filesystemlayout",
        role=Role.ADMIN,
        summary="Create a filesystem layout; one that collides with another is refused.",
        handle=_create,
        body=FilesystemLayoutCreateRequest,
        answer=FilesystemLayoutResponse,
        status=201,
        errors=(409,),
        tag="filesystemlayout",
    ),
    Operation(
        id="updateFilesystemLayout",
        method="POST",
        path="/v1/filesystemlayout",
        role=Role.ADMIN,
        summary="Replace a filesystem layout; machines keep what they were allocated with.",
        handle=_update,
        body=FilesystemLayoutCreateRequest,
        answer=FilesystemLayoutResponse,
        errors=(409,),
        tag="filesystemlayout",
    ),
    Operation(
        id="matchFilesystemLayout",
        method="POST",
        path="/v1/filesystemlayout/matches",
        role=Role.ADMIN,
        summary="Return a layout if a machine has the disks for it.",
        handle=_match,
        body=FilesystemLayoutMatchRequest,
        answer=FilesystemLayoutResponse,
        audited=False,
        tag="filesystemlayout",
    ),
    Operation(
        id="tryFilesystemLayout",
        method="POST",
        path="/v1/filesystemlayout/try",
        role=Role.ADMIN,
        summary="Return the layout that a machine of a size would get with an image.",
        handle=_try,
        body=FilesystemLayoutTryRequest,
        answer=FilesystemLayoutResponse,
        audited=False,
        tag="filesystemlayout",
    ),
    Operation(
        id="getFilesystemLayout",
        method="GET",
        path="/v1/filesystemlayout/{id}",
        role=Role.VIEW,
        summary="Return a filesystem layout.",
        handle=_get,
        answer=FilesystemLayoutResponse,
        depends_on=(LAYOUTS,),
        tag="filesystemlayout",
    ),
    Operation(
        id="deleteFilesystemLayout",
        method="DELETE",
        path="/v1/filesystemlayout/{id}",
        role=Role.ADMIN,
        summary="Delete a filesystem layout; machines keep what they were allocated with.",
        handle=_delete,
        answer=FilesystemLayoutResponse,
        tag="filesystemlayout",
    ),
)
