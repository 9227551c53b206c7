# SPDX-License-Identifier: Apache-2.0
"""Finds the etcd to run."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from metropolis.base.errors import FailedPreconditionError
from metropolis.consensus.fetch.lock import format_lock, parse_lock
from metropolis.consensus.fetch.packages import Fetcher, Say, write_lock

ETCD_VARIABLE: Final = "METROPOLIS_ETCD"
ETCD_PACKAGE: Final = "etcd-server"
_LOCK_FILE: Final = Path("images/debian-trixie.lock")
_IN_PACKAGE: Final = Path("usr/bin/etcd")


def etcd_binary() -> Path:
    """Return the etcd program without touching the network.

    Raises:
        FailedPreconditionError: it was not fetched yet.
    """
    if (chosen := _chosen(os.environ)) is not None:
        return chosen
    tree = _fetcher(os.environ, say=_silent).cached(ETCD_PACKAGE)
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
    return _fetcher(environment, say=say, is_strict=is_strict).fetch(ETCD_PACKAGE) / _IN_PACKAGE


def lock_etcd(environment: Mapping[str, str], *, say: Say) -> Path:
    """Write the mirror's newest signed version into the lock; other architectures stay as they are.

    Returns the lock file.
    """
    fetcher = _fetcher(environment, say=say)
    newest = fetcher.newest([ETCD_PACKAGE])
    renewed = {(package.name, package.architecture) for package in newest}
    kept = [
        package
        for package in parse_lock(fetcher.lock_file.read_text(encoding="utf-8"))
        if (package.name, package.architecture) not in renewed
    ]
    write_lock(fetcher.lock_file, format_lock([*kept, *newest]))
    return fetcher.lock_file


def project_root() -> Path:
    """The checkout this code runs from.

    Raises:
        FailedPreconditionError: it was installed elsewhere, without the package lock.
    """
    for directory in Path(__file__).resolve().parents:
        if (directory / _LOCK_FILE).is_file():
            return directory
    raise FailedPreconditionError(
        f"{_LOCK_FILE} is not near the installed program",
        remedy=f"Run from a checkout, or set {ETCD_VARIABLE} to an etcd program.",
    )


def _fetcher(environment: Mapping[str, str], *, say: Say, is_strict: bool = False) -> Fetcher:
    root = project_root()
    return Fetcher(
        cache=root / ".cache" / "debian",
        lock_file=root / _LOCK_FILE,
        environment=environment,
        say=say,
        is_strict=is_strict,
    )


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
