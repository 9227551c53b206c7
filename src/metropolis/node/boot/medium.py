# SPDX-License-Identifier: Apache-2.0
"""A machine that was started from an install medium: it installs, or says why it does not."""

import threading
from typing import Final, NoReturn

from metropolis.base.errors import MetropolisError
from metropolis.host.linux.block_devices import disks
from metropolis.host.linux.boot_clock import rest
from metropolis.host.linux.watchdog import LinuxWatchdog
from metropolis.node.boot.devices import Devices
from metropolis.node.boot.ending import Ending, end
from metropolis.node.boot.handover import Handover
from metropolis.node.boot.last_words import last_words, print_everywhere
from metropolis.node.boot.userland import ESP, load_drivers
from metropolis.node.installation.entry import install_from_medium

_FEED_EVERY_S: Final = 5.0
_READING_S: Final = 4.0
_SETTLE_S: Final = 1.5
_SETTLE_ROUNDS_MAX: Final = 8


def install(handover: Handover, devices: Devices) -> NoReturn:
    """Install this machine and start it again. A refusal stays on the screen."""
    if handover.watchdog is not None:
        # A slow stick takes minutes, and a person reads what was refused.
        feeding = threading.Thread(target=_feed, args=(handover.watchdog,), daemon=True)
        feeding.start()
    try:
        handover.timeline.mark("installer")
        devices.join()
        _wait_for_disks()
        handover.timeline.mark("disks")
        _say(handover.timeline.line())
        reason = install_from_medium(
            disk=handover.system_partition.disk,
            options=handover.options,
            files=ESP,
            say=_say,
        )
    except MetropolisError as refused:
        _stay(refused)
    rest(_READING_S)  # a person who watches can read the last lines
    end(Ending.RESTART, reason=reason)


def _wait_for_disks() -> None:
    """Wait until no disk has appeared for a while: controllers look for theirs in their own time.

    Some need another driver then, so all that match are loaded once more.
    """
    seen: list[str] | None = None
    for _ in range(_SETTLE_ROUNDS_MAX):
        names = [disk.name for disk in disks()]
        if names == seen:
            return
        seen = names
        load_drivers()
        rest(_SETTLE_S)


def _stay(refused: MetropolisError) -> NoReturn:
    """Leave on the screen why nothing was installed: a restart would only say it again."""
    for line in last_words(refused, doing="install"):
        _say(line)
    _say("Nothing more happens until this machine is switched off or restarted.")
    while True:
        rest(_FEED_EVERY_S)


def _feed(watchdog: LinuxWatchdog) -> None:
    while True:
        watchdog.feed()
        rest(_FEED_EVERY_S)


def _say(line: str) -> None:
    print_everywhere(f"{line}\r\n")
