# SPDX-License-Identifier: Apache-2.0
"""The kernel's log as part of the node's: DN machine.kernel."""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

from metropolis.host.linux.kernel_log import KernelRecord
from metropolis.supervision import Context, LeveledLine, Severity

_SEVERITIES: Final[Mapping[int, Severity]] = {
    **dict.fromkeys((0, 1, 2, 3), Severity.ERROR),
    4: Severity.WARNING,
}


async def kernel_log(ctx: Context, *, records: Callable[[], AsyncIterator[KernelRecord]]) -> None:
    """Log what the kernel logs, from its start on."""
    ctx.healthy()
    async for record in records():
        severity = _SEVERITIES.get(record.priority, Severity.INFO)
        text = f"[{record.since_start_s:.6f}] {record.text}"
        ctx.log.entry(LeveledLine(severity=severity, text=text, file="kernel", line=1))
    ctx.done()
