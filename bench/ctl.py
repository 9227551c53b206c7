# SPDX-License-Identifier: Apache-2.0
"""How long an operator waits for `metroctl` before anything is asked of a cluster."""

import subprocess
import sys
import time
from collections.abc import Sequence

ROUNDS = 10

Measurement = tuple[float, str, float | None]  # value, unit, target


def measure() -> dict[str, Measurement]:
    """Return name -> (value, unit, target)."""
    return {
        "metroctl --help": (_wall_ms(["--help"]), "ms", 100),
        "metroctl node --help": (_wall_ms(["node", "--help"]), "ms", None),
        "metroctl context list": (_wall_ms(["context", "list"]), "ms", None),
    }


def _wall_ms(arguments: Sequence[str]) -> float:
    """The best of ten: everything slower is somebody else's work."""
    code = "import sys; from metropolis.ctl.metroctl import main; sys.exit(main())"
    best_s = float("inf")
    for _ in range(ROUNDS):
        started_s = time.perf_counter()
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)
        best_s = min(best_s, time.perf_counter() - started_s)
    return best_s * 1000
