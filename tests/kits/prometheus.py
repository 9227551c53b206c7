# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus: Debian trixie's, unpacked beside etcd, never installed as a service.

`python tests/kits/prometheus.py` fetches it and prints where it is; `--lock` renews its lock.
"""

import os
import sys
from pathlib import Path
from typing import Final

from metropolis.base.errors import MetropolisError, chain
from metropolis.host.linux.debian.checkout import project_root
from metropolis.host.linux.debian.lock import format_lock
from metropolis.host.linux.debian.packages import Fetcher, write_lock

PROGRAMS: Final = ("prometheus", "promtool")  # each in the package of its name
_LOCK: Final = Path(__file__).with_suffix(".lock")


def program(name: str) -> Path:
    """Return one of `PROGRAMS`, fetching its package if need be."""
    assert name in PROGRAMS
    return _fetcher().fetch(name) / "usr" / "bin" / name


def _fetcher() -> Fetcher:
    return Fetcher(
        cache=project_root() / ".cache" / "debian",
        lock_file=_LOCK,
        environment=os.environ,
        say=_say,
    )


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def main(arguments: list[str]) -> int:
    """Fetch, or renew the lock; the exit status says whether that worked."""
    try:
        if arguments == ["--lock"]:
            write_lock(_LOCK, format_lock(_fetcher().newest(PROGRAMS)))
        for name in PROGRAMS:
            sys.stdout.write(f"{program(name)}\n")
    except MetropolisError as error:
        _say(f"error: {chain(error)}\nremedy: {error.remedy}")
        return 2 if error.retryable else 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
