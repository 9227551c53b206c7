# SPDX-License-Identifier: Apache-2.0
"""A bad cable: passes frames between two links of one network namespace, late or not at all.

Kernels without `sch_netem` can lose and delay nothing themselves. Frames keep their offloading
header (PACKET_VNET_HDR): segments larger than the link's MTU and checksums that are not computed
yet pass as they are. Both directions are treated alike, frame by frame; late frames stay in order.

    python -m metropolis.lab.relay LINK OTHER_LINK LOSS DELAY_S
"""

import contextlib
import heapq
import itertools
import select
import socket
import sys
import time
from random import Random
from typing import Final

FRAME_BYTES_MAX: Final = 128 * 1024
QUEUE_MAX: Final = 100_000  # late frames; more are lost
_ETH_P_ALL: Final = 3  # linux/if_ether.h, and linux/if_packet.h for the others
_SOL_PACKET: Final = 263
_PACKET_VNET_HDR: Final = 15
_PACKET_OUTGOING: Final = 4


def open_link(name: str) -> socket.socket:
    """Open a link to read and write whole frames."""
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    link.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    link.bind((name, _ETH_P_ALL))
    link.setblocking(False)
    return link


def relay(one: str, other: str, *, loss: float, delay_s: float) -> None:
    """Pass frames until killed; says "ready" first.

    Args:
        one: Name of a link, whose frames leave through the other.
        other: Name of that.
        loss: Probability of a frame to get lost, 0 to 1.
        delay_s: Between the arrival of a frame and its departure.
    """
    first, second = open_link(one), open_link(other)
    across = {first: second, second: first}
    late: list[tuple[float, int, socket.socket, bytes]] = []
    order, draw = itertools.count(), Random(1)  # noqa: S311  # a cable, not a secret
    print("ready", flush=True)
    while True:
        wait_s = None if not late else max(0.0, late[0][0] - time.monotonic())
        for link in select.select([first, second], [], [], wait_s)[0]:
            try:
                frame, origin = link.recvfrom(FRAME_BYTES_MAX)
            except OSError:
                continue  # the link went down
            if origin[2] != _PACKET_OUTGOING and draw.random() >= loss and len(late) < QUEUE_MAX:
                due_s = time.monotonic() + delay_s
                heapq.heappush(late, (due_s, next(order), across[link], frame))
        while late and late[0][0] <= time.monotonic():
            _, _, link, frame = heapq.heappop(late)
            with contextlib.suppress(OSError):  # full, or down: lost
                link.send(frame)


if __name__ == "__main__":
    relay(sys.argv[1], sys.argv[2], loss=float(sys.argv[3]), delay_s=float(sys.argv[4]))
