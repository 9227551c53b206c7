# SPDX-License-Identifier: Apache-2.0
"""Messages in a gRPC stream: one flag byte, four bytes of length, then protobuf."""

import struct
from typing import Final, TypeVar, cast

from google.protobuf.message import DecodeError, Message

from metropolis.base.errors import (
    InvalidArgumentError,
    ResourceExhaustedError,
    UnimplementedError,
)
from metropolis.rpc.grpc.inbox import TruncatedError
from metropolis.rpc.grpc.stream import WireStream

_PREFIX: Final = struct.Struct(">BI")

M = TypeVar("M", bound=Message)


class MessageReader:
    """Reads messages off a stream. Cancel-safe: a cancelled read is continued by the next."""

    def __init__(self, stream: WireStream, *, message_bytes_max: int) -> None:
        self._stream = stream
        self._message_bytes_max = message_bytes_max
        self._length: int | None = None  # of the message whose prefix was read

    async def read(self) -> bytes | None:
        """Return the next message's bytes, or None after the last.

        Raises:
            ResourceExhaustedError: the message is larger than allowed; none of it was read.
            UnimplementedError: it is compressed.
            InvalidArgumentError: the stream ended in the middle of a message.
            StreamFailure: the stream broke.
        """
        try:
            if self._length is None:
                prefix = await self._stream.buffer.read(_PREFIX.size)
                if prefix is None:
                    return None
                flag, length = cast("tuple[int, int]", _PREFIX.unpack(prefix))
                if flag:
                    raise UnimplementedError(
                        "compressed messages are not supported",
                        remedy="Send messages without compression (grpc-encoding: identity).",
                    )
                if length > self._message_bytes_max:
                    raise too_large(length, self._message_bytes_max)
                self._length = length
            data = b"" if self._length == 0 else await self._stream.buffer.read(self._length)
        except TruncatedError:
            data = None
        if data is None:
            raise InvalidArgumentError("the stream ended in the middle of a message")
        self._length = None
        return data


def too_large(length: int, limit: int) -> ResourceExhaustedError:
    """Say that a message of `length` bytes is over the `limit`."""
    return ResourceExhaustedError(
        f"a message of {length} bytes is larger than the limit of {limit} bytes",
        remedy="Send or ask for less at a time.",
    )


def frame(message: Message, *, message_bytes_max: int) -> bytes:
    """Encode a message with its prefix.

    Raises:
        ResourceExhaustedError: the other side would refuse it for its size.
    """
    return frame_data(message.SerializeToString(), message_bytes_max=message_bytes_max)


def frame_data(data: bytes, *, message_bytes_max: int) -> bytes:
    """Put the prefix before an encoded message.

    Raises:
        ResourceExhaustedError: the other side would refuse it for its size.
    """
    if len(data) > message_bytes_max:
        raise too_large(len(data), message_bytes_max)
    return _PREFIX.pack(0, len(data)) + data


def parse(kind: type[M], data: bytes) -> M:
    """Decode a message.

    Raises:
        InvalidArgumentError: these bytes are not a message of that kind.
    """
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise InvalidArgumentError(
            f"the message is not a valid {kind.DESCRIPTOR.full_name}",
            remedy="Check that both sides use the same protocol definitions.",
        ) from error
