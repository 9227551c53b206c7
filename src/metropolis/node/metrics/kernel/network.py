# SPDX-License-Identifier: Apache-2.0
"""Links and protocols. Names and labels of node_exporter."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from metropolis.formats.exposition import Family, Kind, Sample, counter, gauge
from metropolis.host import KernelFigures

_COLUMNS: Final = (
    "receive_bytes", "receive_packets", "receive_errs", "receive_drop", "receive_fifo",
    "receive_frame", "receive_compressed", "receive_multicast",
    "transmit_bytes", "transmit_packets", "transmit_errs", "transmit_drop", "transmit_fifo",
    "transmit_colls", "transmit_carrier", "transmit_compressed",
)  # fmt: skip
_NO_LINK: Final = re.compile(r"lo|sit\d+|veth.*|clusternet")  # pods' ends and our own tunnel
_NETSTAT: Final = {
    "IpExt": ("InOctets", "OutOctets"),
    "Ip": ("Forwarding",),
    "Icmp": ("InMsgs", "OutMsgs", "InErrors"),
    "Tcp": (
        "ActiveOpens", "PassiveOpens", "CurrEstab", "InSegs", "OutSegs", "RetransSegs", "InErrs",
        "OutRsts",
    ),
    "TcpExt": (
        "ListenOverflows", "ListenDrops", "SyncookiesSent", "SyncookiesRecv", "SyncookiesFailed",
        "TCPSynRetrans", "TCPTimeouts", "TCPOFOQueue", "TCPRcvQDrop",
    ),
    "Udp": ("InDatagrams", "OutDatagrams", "NoPorts", "InErrors", "RcvbufErrors", "SndbufErrors"),
}  # fmt: skip
_TCP_STATES: Final = {
    "01": "established",
    "02": "syn_sent",
    "03": "syn_recv",
    "04": "fin_wait1",
    "05": "fin_wait2",
    "06": "time_wait",
    "07": "close",
    "08": "close_wait",
    "09": "last_ack",
    "0A": "listen",
    "0B": "closing",
    "0C": "new_syn_recv",
}
_STATE_COLUMN: Final = 3


def netdev(kernel: KernelFigures) -> Iterator[Family]:
    """What every link has carried."""
    samples: list[list[Sample]] = [[] for _ in _COLUMNS]
    for line in kernel.read("/proc/net/dev").splitlines():
        link, colon, rest = line.partition(":")
        labels = {"device": link.strip()}
        if not colon or _NO_LINK.fullmatch(labels["device"]):
            continue
        for column, word in enumerate(rest.split()[: len(_COLUMNS)]):
            samples[column].append(Sample(int(word), labels))
    for name, found in zip(_COLUMNS, samples, strict=True):
        text = f"Network device statistic {name}."
        yield counter(f"node_network_{name}_total", text, *found)


def netclass(kernel: KernelFigures) -> Iterator[Family]:
    """Whether links are up, and how large their packets may be."""
    up: list[Sample] = []
    mtu: list[Sample] = []
    for name in kernel.list("/sys/class/net"):
        if _NO_LINK.fullmatch(name):
            continue
        at = f"/sys/class/net/{name}"
        try:
            is_up = kernel.read(f"{at}/operstate").strip() == "up"
            size = int(kernel.read(f"{at}/mtu"))
        except OSError:
            continue  # it is no link, or went away just now
        up.append(Sample(int(is_up), {"device": name}))
        mtu.append(Sample(size, {"device": name}))
    yield gauge("node_network_up", "Value is 1 if operstate is 'up', 0 otherwise.", *up)
    yield gauge("node_network_mtu_bytes", "Network device property: mtu_bytes", *mtu)


def netstat(kernel: KernelFigures) -> Iterator[Family]:
    """Counts of the protocols."""
    lines = (kernel.read("/proc/net/netstat") + kernel.read("/proc/net/snmp")).splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        protocol, _, rest = names.partition(":")
        said = dict(zip(rest.split(), values.partition(":")[2].split(), strict=True))
        for key in _NETSTAT.get(protocol, ()):
            if key in said:
                name = f"{protocol}_{key}"
                yield Family(
                    f"node_netstat_{name}",
                    f"Statistic {protocol}{key}.",
                    Kind.UNTYPED,
                    [Sample(int(said[key]))],
                )


def sockstat(kernel: KernelFigures) -> Iterator[Family]:
    """How many sockets there are."""
    for line in kernel.read("/proc/net/sockstat").splitlines():
        protocol, _, rest = line.partition(":")
        words = rest.split()
        for key, value in zip(words[::2], words[1::2], strict=True):
            yield gauge(
                f"node_sockstat_{protocol}_{key}",
                f"Number of {protocol} sockets in state {key}.",
                Sample(int(value)),
            )


def tcpstat(kernel: KernelFigures) -> Iterator[Family]:
    """How many TCP connections are in which state."""
    found: Counter[str] = Counter()
    for name in ("tcp", "tcp6"):
        try:
            lines = kernel.read(f"/proc/net/{name}").splitlines()[1:]
        except FileNotFoundError:
            continue  # a kernel without IPv6
        found.update(line.split()[_STATE_COLUMN] for line in lines)
    samples = [
        Sample(found[code], {"state": state}) for code, state in _TCP_STATES.items() if found[code]
    ]
    yield gauge("node_tcp_connection_states", "Number of connection states.", *samples)
