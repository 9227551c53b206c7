# SPDX-License-Identifier: Apache-2.0
"""How often TCP tries again with a peer from which nothing comes.

Linux repeats what was not acknowledged after 0.2 s, then after twice as long, and so on, up to 2
minutes. When a network was cut for a while and is whole again, such a connection stays silent until
its next repetition: for about as long again as the cut lasted. etcd waits for it, and the cluster
for etcd. With a limit of one second, its members hear each other a second after the cut (kernel
Documentation/networking/ip-sysctl.rst, tcp_rto_max_ms, from Linux 6.15 on). It ends connections of
the silent sooner, too, after 15 s; where every second frame is lost that hardly ever happens.
"""

import os
from pathlib import Path
from typing import Final

REPEAT_MS_MAX: Final = 1000  # the least that Linux takes
_SETTING: Final = Path("/proc/sys/net/ipv4/tcp_rto_max_ms")  # of IPv6, too; of our network alone


def repeat_every_second(*, setting: Path = _SETTING, process_id: int | None = None) -> bool:
    """Let connections that are opened from now on repeat at least every second; say if they do.

    Only process 1 does this: on somebody's computer the network is not ours alone.

    Args:
        process_id: Of this process, unless a test says otherwise.
    """
    if (os.getpid() if process_id is None else process_id) != 1:
        return False
    try:
        if int(setting.read_text()) > REPEAT_MS_MAX:
            setting.write_text(f"{REPEAT_MS_MAX}\n")
    except (OSError, ValueError):
        return False  # an older kernel is no reason not to run
    return True
