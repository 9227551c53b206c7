# SPDX-License-Identifier: Apache-2.0
"""Where the package lock and the package cache are: in the checkout that this code runs from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from metropolis.base.errors import FailedPreconditionError
from metropolis.host.linux.debian.packages import Fetcher, Say

LOCK_FILE: Final = Path("images/debian-trixie.lock")


def project_root() -> Path:
    """The checkout this code runs from.

    Raises:
        FailedPreconditionError: it was installed elsewhere, without the package lock.
    """
    for directory in Path(__file__).resolve().parents:
        if (directory / LOCK_FILE).is_file():
            return directory
    raise FailedPreconditionError(
        f"{LOCK_FILE} is not near the installed program",
        remedy="Run from a checkout of the sources.",
    )


def checkout_fetcher(
    environment: Mapping[str, str], *, say: Say, is_strict: bool = False
) -> Fetcher:
    """A fetcher with the checkout's lock and cache.

    Raises:
        FailedPreconditionError: see `project_root`.
    """
    root = project_root()
    return Fetcher(
        cache=root / ".cache" / "debian",
        lock_file=root / LOCK_FILE,
        environment=environment,
        say=say,
        is_strict=is_strict,
    )
