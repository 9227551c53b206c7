# SPDX-License-Identifier: Apache-2.0
"""An external program as a runnable.

HEALTHY means that the program answers its probe, not that it was started. Its output goes into
the log tree under the runnable's DN: as raw lines, or parsed into leveled entries. Any exit is a
failure, named by program and code, never by its arguments. Nothing of its process group survives
the runnable.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable

from metropolis.base.errors import MetropolisError, UnavailableError
from metropolis.host import Process, Processes, ProcessSpec
from metropolis.supervision.failure import describe
from metropolis.supervision.klog import LineParser
from metropolis.supervision.redaction import PemLines
from metropolis.supervision.tree import Context, Runnable

Probe = Callable[[], Awaitable[bool]]

PROBE_INTERVAL_S = 0.1
PROBE_TIMEOUT_S = 5.0  # of one attempt
PROBE_NAG_S = 30.0  # a program that is not healthy is named in the log this often
SETTLE_S = 1.0  # without a probe, a program that has run this long counts as healthy
GRACE_S = 4.0  # from SIGTERM to SIGKILL; ends before the tree calls the runnable stuck
DRAIN_S = 1.0  # how long output may still arrive after the exit


class ProcessExitedError(UnavailableError):
    """A program ended that should have kept running, or failed at what it was run for."""

    def __init__(self, program: str, *, code: int) -> None:
        super().__init__(
            f"{program} {_how_it_ended(code)}",
            remedy=f"Read the last lines that {program} logged under this name.",
        )
        self.program = program
        self.exit_code = code


def run_process(
    spec: ProcessSpec,
    *,
    processes: Processes,
    probe: Probe | None,
    parser: LineParser | None = None,
    is_one_shot: bool = False,
    grace_s: float = GRACE_S,
    probe_interval_s: float = PROBE_INTERVAL_S,
) -> Runnable:
    """Return a runnable that runs a program.

    Args:
        spec: What to run. Its arguments never reach a log.
        probe: Asked until it says that the program serves. Operating errors and `OSError` mean
            "not yet"; it is not asked again after that. None: healthy after one second.
        parser: Understands the program's lines; None keeps them raw.
        is_one_shot: The program is run for its effect: exit code 0 means DONE.
        grace_s: From SIGTERM to SIGKILL when the runnable is cancelled.
    """

    async def process_runnable(ctx: Context) -> None:
        program = spec.argv[0].rpartition("/")[2]
        process = await processes.spawn(spec)
        try:
            async with asyncio.TaskGroup() as tasks:
                output = tasks.create_task(_log_output(ctx, process, parser))
                probing = None
                if not is_one_shot:
                    healthy = _wait_healthy(ctx, program, probe, interval_s=probe_interval_s)
                    probing = tasks.create_task(healthy)
                try:
                    code = await process.wait()
                finally:
                    if probing is not None:
                        probing.cancel()
                    await _end(process, output, grace_s=grace_s)
        finally:
            process.kill()
        if not is_one_shot or code != 0:
            raise ProcessExitedError(program, code=code)
        ctx.healthy()
        ctx.done()

    return process_runnable


async def _end(process: Process, output: asyncio.Task[None], *, grace_s: float) -> None:
    """End the whole group, politely at first, and let its last words through."""
    process.terminate()
    try:
        async with asyncio.timeout(grace_s):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
    await asyncio.wait([output], timeout=DRAIN_S)
    output.cancel()


async def _wait_healthy(
    ctx: Context, program: str, probe: Probe | None, *, interval_s: float
) -> None:
    if probe is None:
        await asyncio.sleep(SETTLE_S)
        ctx.healthy()
        return
    loop = asyncio.get_running_loop()
    started_s = nagged_s = loop.time()
    while reason := await _why_unhealthy(probe):
        if loop.time() - nagged_s >= PROBE_NAG_S:
            nagged_s = loop.time()
            ctx.log.warning(
                "%s is not healthy after %.0f s: %s", program, nagged_s - started_s, reason
            )
        await asyncio.sleep(interval_s)
    ctx.healthy()


async def _why_unhealthy(probe: Probe) -> str:
    """Return why the program does not serve yet, or nothing if it does."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            return "" if await probe() else "its probe says no"
    except (MetropolisError, OSError) as error:  # TimeoutError is an OSError
        return describe(error).summary


async def _log_output(ctx: Context, process: Process, parser: LineParser | None) -> None:
    raw, pem = ctx.raw_logger(), PemLines()
    while (item := await process.receive_line()) is not None:
        _, line = item
        if parser is None:
            raw.line(line)
            continue
        is_truncated = len(line) > parser.line_bytes_max
        clean = ctx.log_tree.redaction.data(pem.line(line))[: parser.line_bytes_max]
        now = ctx.log_tree.wall()
        ctx.log.entry(parser.parse(clean, now=now, is_truncated=is_truncated))


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown to us"
    return f"was ended by signal {-code} ({name})"
