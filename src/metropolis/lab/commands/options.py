# SPDX-License-Identifier: Apache-2.0
"""What several commands take, and what they make of it."""

import os
import shutil
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import uvloop

from metropolis.base.errors import NotFoundError
from metropolis.ctl.suggestions import did_you_mean
from metropolis.lab.cluster import LabCluster
from metropolis.lab.model import DEFAULT_NAME, check_name
from metropolis.lab.state import ClusterDirectory, cluster_names, state_root

_T = TypeVar("_T")

name_option: Final = click.option(
    "--name", default=DEFAULT_NAME, show_default=True, help="Which cluster."
)


def open_cluster(name: str) -> LabCluster:
    """Return the cluster of that name, which may not exist.

    Raises:
        InvalidArgumentError: it cannot be the name of a cluster.
    """
    return LabCluster(ClusterDirectory(state_root(os.environ) / check_name(name)))


def existing_cluster(name: str) -> LabCluster:
    """Return the cluster of that name.

    Raises:
        NotFoundError: there is none; the remedy names the nearest.
    """
    cluster = open_cluster(name)
    if not cluster.directory.exists:
        known = cluster_names(state_root(os.environ))
        remedy = f"Start one with `metropolis launch --name {name}`."
        if known:
            remedy = did_you_mean(name, known) or f"Name one of: {', '.join(known)}; or launch it."
        raise NotFoundError(f"there is no cluster named {name!r} on this computer", remedy=remedy)
    return cluster


def flag(name: str) -> str:
    """What to append to a command so that it means this cluster."""
    return "" if name == DEFAULT_NAME else f" --name {name}"


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a command's work on the loop that the RPC stack is made for."""
    return uvloop.run(work)


def spelled(program: str) -> str:
    """How to call a program of this installation from here: its name if it is on the PATH."""
    own = Path(sys.executable).parent / program
    found = shutil.which(program)
    if found is not None and Path(found).resolve() == own.resolve():
        return program
    try:
        return str(own.relative_to(Path.cwd()))
    except ValueError:
        return str(own)
