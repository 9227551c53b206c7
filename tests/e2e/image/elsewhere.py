# SPDX-License-Identifier: Apache-2.0
"""Builds an image from a copy of the sources in another directory; run as a program.

Arguments: copy of the sources, output, cache of build steps, keys, cache of packages, `debug` or
`release`. Prints what was said, one line per step.
"""

import os
import sys
from pathlib import Path

from metropolis.host.linux.debian.checkout import LOCK_FILE
from metropolis.host.linux.debian.packages import Fetcher
from metropolis.image.build import BuildRequest, build_image


def main() -> None:
    """Build as the arguments say."""
    checkout, output, cache, keys, packages = (Path(each) for each in sys.argv[1:6])

    def say(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    os.umask(int(os.environ["TEST_UMASK"], 8))
    fetcher = Fetcher(
        cache=packages, lock_file=checkout / LOCK_FILE, environment=os.environ, say=say
    )
    build_image(
        BuildRequest(
            checkout=checkout,
            output=output,
            cache=cache,
            keys=keys,
            is_debug=sys.argv[6] == "debug",
            fetcher=fetcher,
            say=say,
        )
    )


main()
