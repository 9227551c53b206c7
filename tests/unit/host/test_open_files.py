# SPDX-License-Identifier: Apache-2.0
"""A process may hold as many connections as the machine permits."""

import subprocess
import sys

SCRIPT = """
import resource
from metropolis.host.linux.open_files import allow_open_files
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 512))
print(allow_open_files(), *resource.getrlimit(resource.RLIMIT_NOFILE))
print(allow_open_files(100), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_the_soft_limit_rises_to_the_hard_one_and_never_falls() -> None:
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.splitlines() == ["512 512 512", "512 512 512"]
