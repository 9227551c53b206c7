# SPDX-License-Identifier: Apache-2.0
"""Network devices whose other end is a descriptor: the cables of virtual machines."""

import fcntl
import os
import struct
from typing import Final

from metropolis.base.errors import FailedPreconditionError

_TUN: Final = "/dev/net/tun"
_TUNSETIFF: Final = 0x400454CA  # linux/if_tun.h
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
_NAME_BYTES: Final = 15


def open_tap(name: str) -> int:
    """Make a network device in this network namespace; it lives as long as the descriptor.

    Returns:
        The descriptor, which programs inherit.

    Raises:
        FailedPreconditionError: the kernel, or the container we run in, refuses.
    """
    assert 0 < len(name) <= _NAME_BYTES
    request = struct.pack("16sH22x", name.encode("ascii"), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR)
    try:
        descriptor = os.open(_TUN, os.O_RDWR)
        try:
            fcntl.ioctl(descriptor, _TUNSETIFF, request)
        except OSError:
            os.close(descriptor)
            raise
    except OSError as cause:
        raise FailedPreconditionError(
            f"cannot connect a virtual machine to the network: {_TUN}: {cause.strerror}",
            remedy="Load the kernel module tun and let this user open /dev/net/tun; "
            "in a container add the device, or use --driver namespace.",
        ) from cause
    os.set_inheritable(descriptor, True)
    return descriptor
