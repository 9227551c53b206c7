# SPDX-License-Identifier: Apache-2.0
"""Programs that do one thing and end."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from metropolis.host import Processes, ProcessSpec

# Where the programs of an image are. The device mapper's library makes its own device nodes, for
# there is no udev that would; messages are in English, for people who search for them.
_ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin", "DM_DISABLE_UDEV": "1", "LC_ALL": "C"}
_LINES_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended, and the first thousand lines it said on both streams together."""

    code: int
    lines: Sequence[str]

    @property
    def words(self) -> str:
        """What it said, on one line."""
        return "; ".join(self.lines)


async def run_program(
    processes: Processes, argv: Sequence[str], *, standard_input: bytes | None = None
) -> Outcome:
    """Run a program to its end; kill it if the caller is cancelled.

    Raises:
        UnavailableError: it cannot be executed.
    """
    spec = ProcessSpec(argv=argv, environment=_ENVIRONMENT, standard_input=standard_input)
    process = await processes.spawn(spec)
    lines: list[str] = []
    try:
        while (item := await process.receive_line()) is not None:
            if len(lines) < _LINES_MAX:
                lines.append(item[1].decode(errors="replace"))
        return Outcome(await process.wait(), lines)
    finally:
        process.kill()
