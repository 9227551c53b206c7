# SPDX-License-Identifier: Apache-2.0
"""The program `metroctl`."""

import sys
from collections.abc import Sequence

from metropolis.ctl.command_line import METROCTL
from metropolis.ctl.command_tree import TREE
from metropolis.ctl.program import run_tool


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    return run_tool(METROCTL, TREE, arguments, bugs_flag="--verbose")


if __name__ == "__main__":
    sys.exit(main())
