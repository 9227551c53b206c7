# SPDX-License-Identifier: Apache-2.0
"""`python -m metropolis.consensus.fetch`: fetch etcd and print where it is.

(no option)   print the path of the program, fetching the package if it is not cached
--strict      refuse what is not in the lock, even if Debian signed it
"""

import os
import sys
from collections.abc import Sequence

from metropolis.base.errors import MetropolisError, chain
from metropolis.consensus.fetch.binary import fetch_etcd, say_on_stderr

_USAGE = "usage: python -m metropolis.consensus.fetch [--strict]"


def main(arguments: Sequence[str]) -> int:
    """Return the exit code: 0 done, 1 fix it, 2 try again."""
    try:
        match arguments:
            case [] | ["--strict"]:
                path = fetch_etcd(os.environ, say=say_on_stderr, is_strict=bool(arguments))
            case _:
                say_on_stderr(_USAGE)
                return 1
    except MetropolisError as error:
        say_on_stderr(f"error: {chain(error)}")
        if error.remedy:
            say_on_stderr(f"  -> {error.remedy}")
        return 2 if error.retryable else 1
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
