# SPDX-License-Identifier: Apache-2.0
"""The program `metalctl`."""

import sys
from collections.abc import Sequence

from metropolis.ctl.metal.command_tree import TREE
from metropolis.ctl.metal.options import METALCTL
from metropolis.ctl.program import run_tool


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    return run_tool(METALCTL, TREE, arguments, bugs_flag="--debug")


if __name__ == "__main__":
    sys.exit(main())
