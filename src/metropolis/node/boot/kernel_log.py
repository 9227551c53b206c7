# SPDX-License-Identifier: Apache-2.0
"""The kernel's log as part of the node's: DN machine.kernel."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

from metropolis.host.linux.kernel_log import KernelRecord
from metropolis.supervision import Context, LeveledLine, Severity

_SEVERITIES: Final[Mapping[int, Severity]] = {
    **dict.fromkeys((0, 1, 2, 3), Severity.ERROR),
    4: Severity.WARNING,
}
_BURST: Final = 16


async def kernel_log(ctx: Context, *, records: Callable[[], AsyncIterator[KernelRecord]]) -> None:
    """Log what the kernel logs, from its start on."""
    ctx.healthy()
    count = 0
    async for record in records():
        count += 1
        if count % _BURST == 0:
            await asyncio.sleep(0)  # readers of the log keep up with the hundreds of the start
        severity = _SEVERITIES.get(record.priority, Severity.INFO)
        text = f"[{record.since_start_s:.6f}] {record.text}"
        ctx.log.entry(LeveledLine(severity=severity, text=text, file="kernel", line=1))
    ctx.done()
