# SPDX-License-Identifier: Apache-2.0
"""How long TCP goes on with a peer from which nothing comes.

Linux repeats what was not acknowledged after 0.2 s, then after twice as long, and so on, up to 2
minutes, for a quarter of an hour. When a network was cut for a while and is whole again, such a
connection stays silent until its next repetition: for as long again as the cut lasted. etcd waits
for it, where a new connection would be through at once. Five repetitions end a connection after
12.6 s (kernel Documentation/networking/ip-sysctl.rst, tcp_retries2); then etcd tries to open the
next one ten times a second.
"""

import os
from pathlib import Path
from typing import Final

REPETITIONS: Final = 5
_SETTING: Final = Path("/proc/sys/net/ipv4/tcp_retries2")  # of IPv6, too; of our network namespace


def give_up_on_the_silent(*, setting: Path = _SETTING, process_id: int | None = None) -> bool:
    """Let connections of this machine end after five repetitions; say whether that is so now.

    Only process 1 does this: on somebody's computer the network is not ours alone.

    Args:
        process_id: Of this process, unless a test says otherwise.
    """
    if (os.getpid() if process_id is None else process_id) != 1:
        return False
    try:
        if int(setting.read_text()) > REPETITIONS:
            setting.write_text(f"{REPETITIONS}\n")
    except (OSError, ValueError):
        return False  # a kernel that is not asked to is no reason not to run
    return True
