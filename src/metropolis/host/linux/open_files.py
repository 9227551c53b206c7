# SPDX-License-Identifier: Apache-2.0
"""How many files and connections this process may hold. Refuses to lower what it finds."""

import resource
from typing import Final

OPEN_FILES: Final = 65536  # a connection per node of a large cluster, old and new, and etcd's files


def allow_open_files(wanted: int = OPEN_FILES) -> int:
    """Raise the soft limit as far as the hard one permits; return what it is then.

    Most systems start programs with 1024, for those that still use select().
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    granted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
    return granted
