# SPDX-License-Identifier: Apache-2.0
"""A file that comes as part `file` of a multipart form, into memory or an unnamed file."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.http.exchange import DisconnectedError, Exchange, check_length, too_long
from metropolis.metal.http.operation import Upload
from metropolis.metal.http.problem import HttpProblem

_PART: Final = "file"
_PARTS_MAX: Final = 4


@asynccontextmanager
async def received(exchange: Exchange, bytes_max: int) -> AsyncGenerator[Upload]:
    """Receive a file for as long as the context is open.

    Raises:
        HttpProblem: 413 or 415.
        InvalidArgumentError: the form has no such part, or is none.
    """
    media = exchange.header(b"content-type").partition(";")[0].strip().lower()
    if media != "multipart/form-data":
        raise HttpProblem(415, f"the body must be multipart/form-data, not {media[:64]!r}")
    check_length(exchange, bytes_max)
    form = await _form(exchange, bytes_max)
    try:
        part = form.get(_PART)
        if not isinstance(part, UploadFile):
            raise InvalidArgumentError(f"the form has no file in a part named {_PART!r}")
        yield Upload(
            file=part.file,
            size_bytes=part.size or 0,
            content_type=part.content_type or "application/octet-stream",
        )
    finally:
        await form.close()


async def _form(exchange: Exchange, bytes_max: int) -> FormData:
    length = 0

    async def receive() -> dict[str, Any]:
        nonlocal length
        message = await exchange.receive()
        if message["type"] == "http.disconnect":
            raise DisconnectedError
        length += len(message.get("body", b""))
        if length > bytes_max:
            raise too_long(bytes_max)
        return dict(message)

    request = Request(dict(exchange.scope), receive)
    try:
        return await request.form(max_files=_PARTS_MAX, max_fields=_PARTS_MAX)
    except MultiPartException as error:
        raise InvalidArgumentError(f"the form cannot be read: {error.message}") from None
    except UnicodeDecodeError:
        raise InvalidArgumentError("the form cannot be read: a name is not text") from None
