# SPDX-License-Identifier: Apache-2.0
"""Where `metropolis metal` keeps things."""

import os
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from metropolis.base.errors import InvalidArgumentError

DATABASE: Final = "metal.db"


def default_directory() -> Path:
    """Return the directory of a control plane on this computer."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "metropolis" / "metal"


def checked_database(database: str) -> str:
    """Return the address of a database if it may stand on a command line.

    Raises:
        InvalidArgumentError: there is a password in it, which everybody on this computer can read.
    """
    try:
        parts = urlsplit(database)
        has_password = bool(parts.password) or "password" in parse_qs(parts.query)
    except ValueError:
        return database  # whoever opens it says what is wrong
    if "://" in database and has_password:
        raise InvalidArgumentError(
            "the address of the database has a password in it, which a command line shows to all",
            remedy="Write the password into ~/.pgpass, or into a file that ?passfile=FILE names.",
        )
    return database
