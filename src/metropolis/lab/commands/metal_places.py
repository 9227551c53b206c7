# SPDX-License-Identifier: Apache-2.0
"""Where `metropolis metal` keeps what is not named."""

import os
from pathlib import Path
from typing import Final

DATABASE: Final = "metal.db"


def default_directory() -> Path:
    """Return the directory of a control plane on this computer."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "metropolis" / "metal"
