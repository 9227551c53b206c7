# SPDX-License-Identifier: Apache-2.0
"""Fields of commands and responses: big endian numbers, and byte strings with their size."""

from metropolis.base.errors import InternalError


def u8(number: int) -> bytes:
    """One byte."""
    return number.to_bytes(1, "big")


def u16(number: int) -> bytes:
    """Two bytes."""
    return number.to_bytes(2, "big")


def u32(number: int) -> bytes:
    """Four bytes."""
    return number.to_bytes(4, "big")


def sized(data: bytes) -> bytes:
    """A TPM2B: two bytes of size, then the data."""
    return u16(len(data)) + data


class Reader:
    """Takes a response apart, from front to end.

    Raises:
        InternalError: it ends too early; a TPM that does that is broken.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        piece = self._data[self._at : self._at + count]
        if len(piece) != count:
            raise InternalError(
                "the TPM's response ends too early", remedy="Update the TPM's firmware."
            )
        self._at += count
        return piece

    def number(self, count: int) -> int:
        """A number of `count` bytes."""
        return int.from_bytes(self.take(count), "big")

    def sized(self) -> bytes:
        """The content of a TPM2B."""
        return self.take(self.number(2))

    def rest(self) -> bytes:
        """Everything that was not read yet."""
        piece = self._data[self._at :]
        self._at = len(self._data)
        return piece
