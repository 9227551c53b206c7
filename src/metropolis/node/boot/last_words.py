# SPDX-License-Identifier: Apache-2.0
"""What a machine says before it starts again because it cannot go on."""

import os
from collections.abc import Iterator
from typing import Final, NoReturn

from metropolis.base.errors import MetropolisError, chain, leaves
from metropolis.host.linux.boot_clock import rest
from metropolis.host.linux.kernel_power import restart

READING_S: Final = 8.0  # a person who watches can read the screen, or take a picture of it
FRAMES_MAX: Final = 6
_UNKNOWN_REMEDY: Final = (
    "Report it with these lines; if it happens again, boot the other slot or install again."
)
_SCREEN: Final = "/dev/tty0"
_CONSOLES: Final = ("/dev/ttyS0", _SCREEN)
_CLEAR: Final = "\x1b[0m\x1b[2J\x1b[H"


def last_words(error: BaseException, *, doing: str) -> tuple[str, ...]:
    """Say what went wrong and what to do, in few lines. Pure."""
    cause = next(iter(leaves(error)), error)
    if isinstance(cause, MetropolisError):
        return (
            f"Fatal error: cannot {doing}: {chain(cause)}",
            f"Next step: {cause.remedy or _UNKNOWN_REMEDY}",
        )
    return (
        f"Fatal error: cannot {doing}: {type(cause).__name__}: {chain(cause)}",
        *list(_frames(cause))[-FRAMES_MAX:],
        f"Next step: {_UNKNOWN_REMEDY}",
    )


def give_up(error: BaseException, *, doing: str) -> NoReturn:
    """Print the last words on every console, wait for readers, and start the machine again."""
    try:
        lines = last_words(error, doing=doing)
    except Exception:  # noqa: BLE001  # these words must come out
        lines = (f"Fatal error: cannot {doing}: {error!r}",)
    text = "".join(
        f"{line}\r\n" for line in (*lines, f"This machine starts again in {READING_S:.0f} s.")
    )
    print_everywhere(text, clears_screen=True)
    rest(READING_S)
    restart()


def print_everywhere(text: str, *, clears_screen: bool = False) -> None:
    """Write to every console; one that is not there is none.

    Args:
        clears_screen: The status page, if it is shown, makes room.
    """
    written = False
    for path in _CONSOLES:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        shown = f"{_CLEAR}{text}" if clears_screen and path == _SCREEN else text
        try:
            os.write(descriptor, shown.encode("utf-8", errors="replace"))
            written = True
        except OSError:
            pass
        finally:
            os.close(descriptor)
    if not written:
        os.write(2, text.encode("utf-8", errors="replace"))


def _frames(error: BaseException) -> Iterator[str]:
    """Yield where it was raised, outermost first, without reading any source."""
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        yield f"  at {code.co_filename}:{trace.tb_lineno} in {code.co_qualname}"
        trace = trace.tb_next
