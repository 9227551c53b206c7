# SPDX-License-Identifier: Apache-2.0
"""How a machine ends: everything stopped, written out and closed, and only then off."""

import enum
import os
import signal
import threading
from collections.abc import Callable
from typing import Final, NoReturn

from metropolis.host.linux.boot_clock import rest
from metropolis.host.linux.device_mapper import remove_device
from metropolis.host.linux.kernel_power import power_off, restart
from metropolis.host.linux.mounts import unmount
from metropolis.node.boot.last_words import print_everywhere
from metropolis.node.boot.userland import DATA, ESP

PATIENCE_S: Final = 20.0  # a disk that does not answer must not keep the machine on
_KILL_REST_S: Final = 0.05
# As `metropolis.node.luks` names them; the outer one first.
_DATA_DEVICES: Final = ("data", "data_dif")


class Ending(enum.Enum):
    """What comes after."""

    RESTART = "starts again"
    POWER_OFF = "is switched off"


def end(ending: Ending, *, reason: str) -> NoReturn:
    """Stop what still runs, write everything out, close the disk, and end the kernel."""
    print_everywhere(f"This machine {ending.value}: {reason}\r\n")
    finish = power_off if ending is Ending.POWER_OFF else restart
    threading.Thread(target=_insist, args=(finish,), daemon=True).start()
    _kill_all()
    os.sync()
    unmount(DATA)
    for name in _DATA_DEVICES:
        remove_device(name)
    unmount(ESP)
    finish()


def _insist(finish: Callable[[], NoReturn]) -> None:
    rest(PATIENCE_S)
    print_everywhere("The disk does not answer: ending without it.\r\n")
    finish()


def _kill_all() -> None:
    """Kill every other process. The trees have ended theirs; this is for what escaped them."""
    try:
        os.kill(-1, signal.SIGKILL)
    except OSError:
        return  # there is none
    rest(_KILL_REST_S)
