# SPDX-License-Identifier: Apache-2.0
"""Process 1 of a machine."""

from typing import NoReturn

from metropolis.host.linux.boot_clock import rest
from metropolis.node.boot.last_words import print_everywhere
from metropolis.node.boot.timeline import Timeline


def main(timeline: Timeline) -> NoReturn:
    """Run this machine, for ever."""
    print_everywhere(f"{timeline.line()}\r\n")
    while True:
        rest(3600)
