# SPDX-License-Identifier: Apache-2.0
"""Blocking work in the loop's executor, that is never left half-done."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


async def in_executor(work: Callable[[], _T]) -> _T:
    """Run blocking work; when cancelled, finish it first: what is done next comes after it.

    Writes keep their order, and responses of a device stay with the request they answer.
    """
    future = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:
                continue  # still ours to finish: the disk, or the device, decides how long
        if not future.cancelled():
            future.exception()  # seen; the cancellation is what the caller asked for
        raise
