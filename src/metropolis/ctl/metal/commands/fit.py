# SPDX-License-Identifier: Apache-2.0
"""The options of commands that ask how a size and an image go together."""

from collections.abc import Callable
from typing import Any

import click

from metropolis.ctl.metal.completions import complete_ids


def size_and_image(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options `--size` and `--image`, both required."""
    with_image = click.option(
        "--image",
        required=True,
        metavar="IMAGE",
        shell_complete=complete_ids("image"),
        help="Image that it is to run.",
    )(function)
    return click.option(
        "--size",
        required=True,
        metavar="SIZE",
        shell_complete=complete_ids("size"),
        help="Size of the machine.",
    )(with_image)
