# SPDX-License-Identifier: Apache-2.0
"""A block device, or a regular file that stands for one, read and written at offsets."""

import ctypes
import errno
import fcntl
import os
import stat
import struct
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_BLKZEROOUT: Final = 0x127F
_BLKGETSIZE64: Final = 0x80081272
_BLKRRPART: Final = 0x125F
_KEEP_SIZE: Final = 1
_PUNCH_HOLE: Final = 2
_ZEROS: Final = bytes(1 << 20)
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class RawDisk:
    """Bytes at offsets, durable after `flush`. Offsets and sizes in bytes.

    Args:
        path: A block device or a regular file.
        writable: Whether it is opened for writing.
        exclusive: Refuse a block device that is in use: mounted, or a part of something.

    Raises:
        OSError: it cannot be opened; EBUSY when it is in use.
    """

    def __init__(self, path: Path | str, *, writable: bool, exclusive: bool = False) -> None:
        flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC
        is_device = stat.S_ISBLK(os.stat(path).st_mode)  # noqa: PTH116  # either kind of path
        if exclusive and is_device:
            flags |= os.O_EXCL
        self.path = str(path)
        self._descriptor = os.open(path, flags)
        self._is_device = is_device

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the descriptor back. What was not flushed may be lost."""
        os.close(self._descriptor)

    @property
    def size_bytes(self) -> int:
        """How large the disk is."""
        if not self._is_device:
            return os.fstat(self._descriptor).st_size
        answer = fcntl.ioctl(self._descriptor, _BLKGETSIZE64, bytes(8))
        return int(struct.unpack("=Q", answer)[0])

    def pread(self, size: int, offset: int) -> bytes:
        """Read exactly `size` bytes.

        Raises:
            OSError: the disk failed, or ends before (EIO).
        """
        parts: list[bytes] = []
        while size:
            part = os.pread(self._descriptor, size, offset)
            if not part:
                raise OSError(errno.EIO, "the disk ends here", self.path)
            parts.append(part)
            size -= len(part)
            offset += len(part)
        return b"".join(parts)

    def pwrite(self, data: bytes, offset: int) -> None:
        """Write all of `data`."""
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._descriptor, rest, offset)
            rest = rest[written:]
            offset += written

    def zero(self, offset: int, size: int) -> None:
        """Make a range read as zeros, without writing them where the device or file can do so."""
        if not size:
            return
        try:
            if self._is_device:
                fcntl.ioctl(self._descriptor, _BLKZEROOUT, struct.pack("=QQ", offset, size))
            else:
                self._punch(offset, size)
        except OSError as cause:
            if cause.errno not in {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY, errno.ENOSYS}:
                raise
            self._write_zeros(offset, size)

    def flush(self) -> None:
        """Return when everything written so far outlives a power cut."""
        os.fsync(self._descriptor)

    def read_table_again(self) -> bool:
        """Have the kernel read the partition table; False when a partition is in use."""
        try:
            fcntl.ioctl(self._descriptor, _BLKRRPART)
        except OSError as cause:
            if cause.errno in {errno.EBUSY, errno.EINVAL, errno.ENOTTY}:
                return False
            raise
        return True

    def _punch(self, offset: int, size: int) -> None:
        answer = _LIBC.fallocate(
            ctypes.c_int(self._descriptor),
            ctypes.c_int(_KEEP_SIZE | _PUNCH_HOLE),
            ctypes.c_int64(offset),
            ctypes.c_int64(size),
        )
        if answer != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), self.path)

    def _write_zeros(self, offset: int, size: int) -> None:
        while size:
            count = min(size, len(_ZEROS))
            self.pwrite(_ZEROS[:count], offset)
            offset += count
            size -= count
