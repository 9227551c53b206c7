# SPDX-License-Identifier: Apache-2.0
"""Images, over REST."""

from typing import Any, Final

from msgspec import Struct, field

from metropolis.metal.http.operation import Call, Nothing, Operation, Role
from metropolis.metal.http.urls import check_urls
from metropolis.metal.model.image import (
    IMAGES,
    ImageCreateRequest,
    ImageFindRequest,
    ImageResponse,
    ImageUpdateRequest,
)
from metropolis.metal.services import images
from metropolis.metal.store import Reader


class UsageQuery(Struct, frozen=True, kw_only=True):
    """Whether machines that use an image are listed with it."""

    show_usage: bool = field(name="show-usage", default=False)


async def _find_all(
    reader: Reader, request: ImageFindRequest, *, show_usage: bool
) -> list[ImageResponse]:
    found = await images.find_images(reader, request)
    if not show_usage:
        return [ImageResponse.of(image) for image in found]
    users = await images.usage(reader)
    return [ImageResponse.of(image, used_by=users.get(image.id, ())) for image in found]


async def _list(call: Call[Nothing, UsageQuery]) -> list[ImageResponse]:
    return await call.site.store.read(
        lambda reader: _find_all(reader, ImageFindRequest(), show_usage=call.query.show_usage)
    )


async def _find(call: Call[ImageFindRequest, UsageQuery]) -> list[ImageResponse]:
    return await call.site.store.read(
        lambda reader: _find_all(reader, call.body, show_usage=call.query.show_usage)
    )


async def _get(call: Call[Nothing, Nothing]) -> ImageResponse:
    return ImageResponse.of(
        await call.site.store.read(lambda reader: reader.get(IMAGES, call.path["id"]))
    )


async def _latest(call: Call[Nothing, Nothing]) -> ImageResponse:
    return ImageResponse.of(
        await call.site.store.read(lambda reader: images.resolve(reader, call.path["id"]))
    )


async def _query(call: Call[Nothing, Nothing]) -> list[ImageResponse]:
    found = await call.site.store.read(lambda reader: images.resolve_all(reader, call.path["id"]))
    return [ImageResponse.of(image) for image in found]


async def _create(call: Call[ImageCreateRequest, Nothing]) -> ImageResponse:
    await check_urls(call.site, {"url": call.body.url})
    return ImageResponse.of(
        await call.site.store.write(lambda tx: images.create_image(tx, call.body))
    )


async def _update(call: Call[ImageUpdateRequest, Nothing]) -> ImageResponse:
    before = await call.site.store.read(lambda reader: reader.get(IMAGES, call.body.id))
    if call.body.url != before.value.url:
        await check_urls(call.site, {"url": call.body.url})
    return ImageResponse.of(
        await call.site.store.write(lambda tx: images.update_image(tx, call.body))
    )


async def _delete(call: Call[Nothing, Nothing]) -> ImageResponse:
    return ImageResponse.of(
        await call.site.store.write(lambda tx: images.delete_image(tx, call.path["id"]))
    )


OPERATIONS: Final[tuple[Operation[Any, Any], ...]] = (
    Operation(
        id="listImages",
        method="GET",
        path="/v1/image",
        role=Role.ANY,
        summary="List all images.",
        handle=_list,
        query=UsageQuery,
        answer=list[ImageResponse],
        tag="image",
    ),
    Operation(
        id="createImage",
        method="PUT",
        path="/v1/image",
        role=Role.ADMIN,
        summary="Create an image; its URL must answer.",
        handle=_create,
        body=ImageCreateRequest,
        answer=ImageResponse,
        status=201,
        errors=(409,),
        tag="image",
    ),
    Operation(
        id="updateImage",
        method="POST",
        path="/v1/image",
        role=Role.ADMIN,
        summary="Change an image; a new URL must answer.",
        handle=_update,
        body=ImageUpdateRequest,
        answer=ImageResponse,
        errors=(409,),
        tag="image",
    ),
    Operation(
        id="findImages",
        method="POST",
        path="/v1/image/find",
        role=Role.VIEW,
        summary="Find images by id, name, operating system, version, class and features.",
        handle=_find,
        body=ImageFindRequest,
        query=UsageQuery,
        answer=list[ImageResponse],
        audited=False,
        tag="image",
    ),
    Operation(
        id="findImage",
        method="GET",
        path="/v1/image/{id}",
        role=Role.ANY,
        summary="Return an image by its exact id.",
        handle=_get,
        answer=ImageResponse,
        depends_on=(IMAGES,),
        tag="image",
    ),
    Operation(
        id="deleteImage",
        method="DELETE",
        path="/v1/image/{id}",
        role=Role.ADMIN,
        summary="Delete an image that no machine is installed with.",
        handle=_delete,
        answer=ImageResponse,
        tag="image",
    ),
    Operation(
        id="findLatestImage",
        method="GET",
        path="/v1/image/{id}/latest",
        role=Role.ANY,
        summary="Return the image that an id means, the newest patch when it names none.",
        handle=_latest,
        answer=ImageResponse,
        depends_on=(IMAGES,),
        tag="image",
    ),
    Operation(
        id="queryImages by id",
        method="GET",
        path="/v1/image/{id}/query",
        role=Role.ANY,
        summary="Return all images that an id stands for, newest first.",
        handle=_query,
        answer=list[ImageResponse],
        depends_on=(IMAGES,),
        tag="image",
    ),
)
