# SPDX-License-Identifier: Apache-2.0
"""Netlink: requests to the kernel and their answers, as bytes and over a socket.

Written out because a library for all of netlink costs a second of start-up where every processor
instruction is emulated, and a node needs nine kinds of request.

Source: linux/netlink.h, RFC 3549.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, final

from metropolis.base.errors import FailedPreconditionError, UnavailableError

REQUEST: Final = 0x1
ACKNOWLEDGE: Final = 0x4
DUMP: Final = 0x300
REPLACE: Final = 0x100
EXCLUSIVE: Final = 0x200
CREATE: Final = 0x400
NESTED: Final = 0x8000

_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_ERROR: Final = struct.Struct("=i")
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_SOL_NETLINK: Final = 270
_NETLINK_CAP_ACK: Final = 10  # the answer to a request does not repeat it
_NETLINK_EXT_ACK: Final = 11  # and says in words what is wrong
_NETLINK_GET_STRICT_CHK: Final = 12  # dumps look at the filter
_ERROR_HAS_WORDS: Final = 0x200
_ERROR_WORDS: Final = 1
_RECEIVE_BYTES: Final = 1 << 16
_TYPE_MASK: Final = 0x3FFF
_ANSWER_TIMEOUT_S: Final = 10.0  # the kernel answers at once; this is for what cannot happen


def attribute(kind: int, value: bytes) -> bytes:
    """Encode one attribute, padded to 4 bytes."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """Encode attributes inside an attribute."""
    return attribute(kind | NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    """Encode a string attribute."""
    return attribute(kind, value.encode("ascii") + b"\0")


def u8(kind: int, value: int) -> bytes:
    """Encode an attribute of 8 bits."""
    return attribute(kind, struct.pack("=B", value))


def u16(kind: int, value: int) -> bytes:
    """Encode an attribute of 16 bits."""
    return attribute(kind, struct.pack("=H", value))


def u32(kind: int, value: int) -> bytes:
    """Encode an attribute of 32 bits."""
    return attribute(kind, struct.pack("=I", value))


def read_attributes(data: bytes) -> Mapping[int, bytes]:
    """Decode the attributes after a message's fixed part; of repeated ones the last."""
    found: dict[int, bytes] = {}
    position = 0
    while position + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, position)
        if length < _ATTRIBUTE.size:
            break
        found[kind & _TYPE_MASK] = data[position + _ATTRIBUTE.size : position + length]
        position += length + -length % 4
    return found


def integer(attributes: Mapping[int, bytes], kind: int) -> int:
    """Return an unsigned integer attribute of any width; 0 when absent."""
    return int.from_bytes(attributes.get(kind, b""), "little")


@final
class KernelRefusedError(FailedPreconditionError):
    """The kernel refused a request. `number` is its errno."""

    def __init__(self, what: str, number: int, words: str) -> None:
        reason = f"{os.strerror(number)} ({words})" if words else os.strerror(number)
        super().__init__(
            f"cannot {what}: {reason}",
            remedy="Compare the network configuration with what this machine and kernel can do.",
        )
        self.number = number


@final
class NetlinkSocket:
    """A socket for requests. Opened for one conversation: use it in a `with` block."""

    def __init__(self, family: int) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family
        )
        self._socket.settimeout(_ANSWER_TIMEOUT_S)
        self._socket.bind((0, 0))
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._number = 0

    def __enter__(self) -> "NetlinkSocket":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def change(self, kind: int, flags: int, body: bytes, *, what: str) -> None:
        """Ask for a change and wait until it is made.

        Args:
            what: What we try, as in "cannot {what}".

        Raises:
            KernelRefusedError: with the kernel's reason.
        """
        number = self._send(kind, flags | ACKNOWLEDGE, body)
        for _ in self._answers(number, what):
            pass

    def dump(self, kind: int, body: bytes, *, what: str) -> Sequence[tuple[int, bytes]]:
        """Ask for everything of a kind; return the answers' kinds and bodies."""
        return list(self._answers(self._send(kind, DUMP, body), what))

    def _send(self, kind: int, flags: int, body: bytes) -> int:
        self._number += 1
        size = _HEADER.size + len(body)
        header = _HEADER.pack(size, kind, flags | REQUEST, self._number, 0)
        self._socket.sendall(header + body)
        return self._number

    def _answers(self, number: int, what: str) -> Iterator[tuple[int, bytes]]:
        while True:
            try:
                data = self._socket.recv(_RECEIVE_BYTES)
            except OSError as cause:
                raise UnavailableError(
                    f"cannot {what}: the kernel does not answer",
                    remedy="Restart the machine if this does not pass.",
                ) from cause
            position = 0
            while position + _HEADER.size <= len(data):
                size, kind, flags, answered, _ = _HEADER.unpack_from(data, position)
                body = data[position + _HEADER.size : position + size]
                position += size + -size % 4
                if answered != number:
                    continue
                if kind in {_NLMSG_ERROR, _NLMSG_DONE}:
                    _judge(body, what=what, has_words=bool(flags & _ERROR_HAS_WORDS))
                    return
                yield kind, body


def _judge(body: bytes, *, what: str, has_words: bool) -> None:
    """Raise if the end of an answer says so."""
    code = _ERROR.unpack_from(body)[0] if len(body) >= _ERROR.size else 0
    if code == 0:
        return
    words = b""
    if has_words:
        words = read_attributes(body[_ERROR.size + _HEADER.size :]).get(_ERROR_WORDS, b"")
    raise KernelRefusedError(what, -code, words.rstrip(b"\0").decode("ascii", "replace"))


ALREADY_GONE: Final = frozenset({errno.ENODEV, errno.ESRCH, errno.EADDRNOTAVAIL})
