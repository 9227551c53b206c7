# SPDX-License-Identifier: Apache-2.0
"""Rewrite images/debian-trixie.lock: the mirror's newest signed version of every package we use."""

import os
import sys
import tomllib

from metropolis.base.errors import MetropolisError, chain
from metropolis.host.linux.debian.checkout import checkout_fetcher, project_root
from metropolis.host.linux.debian.lock import format_lock, parse_lock
from metropolis.host.linux.debian.packages import write_lock


def wanted() -> list[str]:
    """The packages that images/node.toml names; `!` marks the kernel's, which leads to others."""
    declared = tomllib.loads((project_root() / "images/node.toml").read_text(encoding="utf-8"))
    packages = declared["packages"]
    return [*packages["names"], *packages["tools"], f"{packages['kernel']}!"]


def main() -> int:
    """Resolve anew; other architectures stay as they are."""
    fetcher = checkout_fetcher(os.environ, say=lambda line: print(line, file=sys.stderr))
    try:
        newest = fetcher.newest(wanted())
    except MetropolisError as error:
        print(f"error: {chain(error)}\nremedy: {error.remedy}", file=sys.stderr)
        return 2 if error.retryable else 1
    ours = {fetcher.architecture, "all"}
    kept = [
        package
        for package in parse_lock(fetcher.lock_file.read_text(encoding="utf-8"))
        if package.architecture not in ours
    ]
    write_lock(fetcher.lock_file, format_lock([*kept, *newest]))
    print(fetcher.lock_file)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
