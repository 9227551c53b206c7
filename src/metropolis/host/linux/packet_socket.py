# SPDX-License-Identifier: Apache-2.0
"""What a DHCP client needs of a link: packets before there is an address, and ARP.

The kernel filters what we get: only UDP datagrams to port 68 wake us, whatever the link carries.
Nothing of this passes through the firewall's input, so no port is open for it.

Source: `man 7 packet`, linux/filter.h, RFC 826.
"""

import asyncio
import contextlib
import ctypes
import errno
import socket
import struct
from collections import deque
from ipaddress import IPv4Address
from typing import Final, final

from metropolis.base.errors import UnavailableError
from metropolis.host.network import DhcpSocket

_SO_ATTACH_FILTER: Final = 26
_IP_PACKETS: Final = 0x0800
_ARP_PACKETS: Final = 0x0806
_EVERYBODY: Final = b"\xff" * 6
_CLIENT_PORT: Final = 68
_SERVER_PORT: Final = 67
_TRAFFIC_CLASS: Final = 0xE0  # DSCP CS7
_QUEUE_MAX: Final = 64  # packets; a server sends two
_PACKET_BYTES_MAX: Final = 1 << 16
_FILTER: Final = (  # classic BPF over the IPv4 header
    (0x30, 0, 0, 9),  # load the protocol
    (0x15, 0, 6, 17),  # UDP, or drop
    (0x28, 0, 0, 6),  # load flags and fragment offset
    (0x45, 4, 0, 0x3FFF),  # drop fragments
    (0xB1, 0, 0, 0),  # the length of the IPv4 header into X
    (0x48, 0, 0, 2),  # load the destination port
    (0x15, 0, 1, _CLIENT_PORT),
    (0x06, 0, 0, 0xFFFFFFFF),  # take all of it
    (0x06, 0, 0, 0),  # drop
)


@final
class LinuxDhcpSockets:
    """Makes them. See `metropolis.host.network.DhcpSockets`."""

    def open(self, link_index: int) -> DhcpSocket:
        """Open a socket on one link; needs CAP_NET_RAW."""
        return _LinuxDhcpSocket(link_index)


@final
class _LinuxDhcpSocket:
    def __init__(self, link_index: int) -> None:
        self._index = link_index
        self._loop = asyncio.get_running_loop()
        self._packets: deque[bytes] = deque(maxlen=_QUEUE_MAX)
        self._waiter: asyncio.Future[None] | None = None
        self._is_gone = False
        self._unicast: tuple[IPv4Address, socket.socket] | None = None
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_PACKET, kind, 0)  # 0: nothing before the filter
        try:
            _attach_filter(self._socket)
            self._socket.bind((self._name(), _IP_PACKETS))
        except OSError as cause:
            self._socket.close()
            raise UnavailableError(
                f"cannot listen on link {link_index}", remedy="Check that the device is there."
            ) from cause
        self._loop.add_reader(self._socket.fileno(), self._read)

    async def receive(self) -> bytes:
        while not self._packets:
            if self._is_gone:
                raise UnavailableError(
                    f"link {self._index} is gone", remedy="Put the network device back."
                )
            assert self._waiter is None, "a socket has one reader"
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._packets.popleft()

    def broadcast(self, packet: bytes) -> None:
        self._send_frame(packet, _IP_PACKETS)

    def send(self, payload: bytes, *, source: IPv4Address, to: IPv4Address) -> None:
        with contextlib.suppress(OSError):  # lost on the way, like any other
            self._from(source).sendto(payload, (str(to), _SERVER_PORT))

    def announce(self, address: IPv4Address, hardware_address: bytes) -> None:
        ours = hardware_address + address.packed
        request = struct.pack("!HHBBH", 1, _IP_PACKETS, 6, 4, 1)
        self._send_frame(request + ours + bytes(6) + address.packed, _ARP_PACKETS)

    def close(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        if self._unicast is not None:
            self._unicast[1].close()

    def _name(self) -> str:
        return socket.if_indextoname(self._index)

    def _send_frame(self, packet: bytes, kind: int) -> None:
        with contextlib.suppress(OSError):
            self._socket.sendto(packet, (self._name(), kind, 0, 0, _EVERYBODY))

    def _from(self, source: IPv4Address) -> socket.socket:
        """Return a socket at our address. It stays open so that an answer hits no closed port."""
        if self._unicast is not None:
            if self._unicast[0] == source:
                return self._unicast[1]
            self._unicast[1].close()
            self._unicast = None
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        unicast = socket.socket(socket.AF_INET, kind)
        try:
            unicast.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            name = self._name().encode("ascii")
            unicast.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name)
            unicast.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _TRAFFIC_CLASS)
            unicast.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # it is read below IP
            unicast.bind((str(source), _CLIENT_PORT))
        except OSError:
            unicast.close()
            raise
        self._unicast = (source, unicast)
        return unicast

    def _read(self) -> None:
        try:
            self._packets.append(self._socket.recv(_PACKET_BYTES_MAX))
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno == errno.ENETDOWN:  # it may come up again
                return
            self._is_gone = True
            self._loop.remove_reader(self._socket.fileno())
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _attach_filter(packet_socket: socket.socket) -> None:
    program = b"".join(struct.pack("=HBBI", *instruction) for instruction in _FILTER)
    buffer = ctypes.create_string_buffer(program, len(program))
    description = struct.pack("HxxxxxxP", len(_FILTER), ctypes.addressof(buffer))
    packet_socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, description)
