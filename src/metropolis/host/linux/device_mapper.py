# SPDX-License-Identifier: Apache-2.0
"""Devices made of other devices, through the kernel's device-mapper ioctls (linux/dm-ioctl.h).

Only what the boot needs: a verity device, and taking devices down at shutdown. Needs neither
libdevmapper nor udev; `cryptsetup` does the rest of our devices.
"""

import fcntl
import os
import struct
from dataclasses import dataclass
from typing import Final

from metropolis.base.errors import FailedPreconditionError

CONTROL: Final = "/dev/mapper/control"
SECTOR_BYTES: Final = 512
BLOCK_BYTES: Final = 4096

_HEADER: Final = struct.Struct("=10IQ128s129s7s")
_SPEC: Final = struct.Struct("=QQiI16s")
_BUFFER_BYTES: Final = 16384
_VERSION: Final = (4, 0, 0)
_NUMBER_OFFSET: Final = 40  # of `dev` in struct dm_ioctl
_READ_ONLY: Final = 1 << 0
_REQUEST: Final = 0xC138FD00  # _IOWR(0xFD, command, struct dm_ioctl)
_CREATE: Final = 3
_REMOVE: Final = 4
_SUSPEND: Final = 6  # without the suspend flag it resumes
_TABLE_LOAD: Final = 9
_REMEDY: Final = "Boot the other slot, or install this node's image again."


@dataclass(frozen=True, slots=True, kw_only=True)
class VerityTable:
    """A verity device whose data and hash tree share one device, without a superblock.

    Attributes:
        device: Path of the block device.
        data_blocks: Blocks of 4096 bytes of data; the hash tree follows them.
        root_hash: 64 lower-case hexadecimal digits, SHA-256.
        salt: Hexadecimal digits, or `-` for none.
    """

    device: str
    data_blocks: int
    root_hash: str
    salt: str

    def parameters(self) -> str:
        """Return the kernel's table line (Documentation/admin-guide/device-mapper/verity.rst).

        A block that is not what was signed stops the machine: half a system is worse than none.
        """
        return (
            f"1 {self.device} {self.device} {BLOCK_BYTES} {BLOCK_BYTES} {self.data_blocks} "
            f"{self.data_blocks} sha256 {self.root_hash} {self.salt} 1 panic_on_corruption"
        )


def open_verity(name: str, table: VerityTable) -> str:
    """Make a read-only verity device; return the path of its node.

    Raises:
        FailedPreconditionError: the kernel refuses it.
    """
    sectors = table.data_blocks * (BLOCK_BYTES // SECTOR_BYTES)
    try:
        control = os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)
        try:
            reply = _call(control, _CREATE, name, uuid=f"CRYPT-VERITY-{name}")
            number = struct.unpack_from("=Q", reply, _NUMBER_OFFSET)[0]
            target = encode_target("verity", sectors=sectors, parameters=table.parameters())
            _call(control, _TABLE_LOAD, name, flags=_READ_ONLY, targets=1, payload=target)
            _call(control, _SUSPEND, name)
        finally:
            os.close(control)
    except OSError as cause:
        raise FailedPreconditionError(
            f"cannot open the verity device {name} on {table.device}: {cause.strerror}",
            remedy=_REMEDY,
        ) from cause
    return f"/dev/dm-{_minor(number)}"


def remove_device(name: str) -> bool:
    """Take a device down; False if there is none of that name or it is in use."""
    try:
        control = os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        _call(control, _REMOVE, name)
    except OSError:
        return False
    finally:
        os.close(control)
    return True


def encode_target(kind: str, *, sectors: int, parameters: str) -> bytes:
    """Encode a table of one target from sector 0 on: struct dm_target_spec and its parameters."""
    text = parameters.encode("ascii") + b"\0"
    text += bytes(-len(text) % 8)
    return _SPEC.pack(0, sectors, 0, _SPEC.size + len(text), kind.encode("ascii")) + text


def encode_request(
    name: str, *, uuid: str = "", flags: int = 0, targets: int = 0, payload: bytes = b""
) -> bytes:
    """Encode struct dm_ioctl and what follows it, in a buffer with room for the answer."""
    header = _HEADER.pack(
        *_VERSION,
        _BUFFER_BYTES,
        _HEADER.size,
        targets,
        0,  # open count
        flags,
        0,  # event number
        0,  # padding
        0,  # device
        name.encode("ascii"),
        uuid.encode("ascii"),
        b"",
    )
    return (header + payload).ljust(_BUFFER_BYTES, b"\0")


def _call(
    control: int,
    command: int,
    name: str,
    *,
    uuid: str = "",
    flags: int = 0,
    targets: int = 0,
    payload: bytes = b"",
) -> bytes:
    request = encode_request(name, uuid=uuid, flags=flags, targets=targets, payload=payload)
    buffer = bytearray(request)
    fcntl.ioctl(control, _REQUEST | command, buffer)
    return bytes(buffer)


def _minor(number: int) -> int:
    """Return the minor of the kernel's encoded device number (huge encoding of linux/kdev_t.h)."""
    return (number & 0xFF) | ((number >> 12) & 0xFFF00)
