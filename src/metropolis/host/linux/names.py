# SPDX-License-Identifier: Apache-2.0
"""Host name and hosts file of this machine, or of the namespaces that play one."""

import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final, final

from metropolis.base.names import domain_name_problem

_HOSTS_MODE: Final = 0o644  # every program resolves names
_PREAMBLE: Final = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n"


@final
class LinuxNames:
    """The UTS namespace's host name and one hosts file.

    Args:
        hosts_path: The file that programs of this machine resolve with, usually /etc/hosts. It may
            be a symbolic link or a mount point.
    """

    def __init__(self, *, hosts_path: Path) -> None:
        self._hosts_path = hosts_path

    async def set_host_name(self, name: str) -> None:
        """Set the kernel's host name; needs CAP_SYS_ADMIN in the UTS namespace."""
        _check_name(name)
        socket.sethostname(name)

    async def set_hosts(self, addresses: Mapping[str, str]) -> None:
        """Replace what names resolve to. `localhost` always stays.

        Not synced to the disk: the caller knows the names again after a boot.
        """
        lines = [_PREAMBLE]
        for name, address in sorted(addresses.items()):
            _check_name(name)
            lines.append(f"{ipaddress.ip_address(address)} {name}\n")
        _replace_text(self._hosts_path.resolve(), "".join(lines))


def _check_name(name: str) -> None:
    if domain_name_problem(name.lower()) is not None:
        raise ValueError(f"{name!r} is not a host name")


def _replace_text(path: Path, text: str) -> None:
    """Replace a file's content so that a reader sees the old text or the new one."""
    temporary = path.with_name(f"{path.name}.__metropolis_tmp")
    try:
        temporary.write_text(text, encoding="ascii")
        temporary.chmod(_HOSTS_MODE)
        temporary.rename(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # in a read-only directory it cannot exist
            temporary.unlink(missing_ok=True)
        # A mount point cannot be renamed over, and its directory may be read-only.
        if error.errno not in {errno.EBUSY, errno.EXDEV, errno.EROFS, errno.EACCES}:
            raise
        _overwrite(path, text.encode("ascii"))


def _overwrite(path: Path, data: bytes) -> None:
    """Write in place with one call, then cut: a reader never finds the file empty."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, _HOSTS_MODE)
    try:
        written = os.pwrite(descriptor, data, 0)
        assert written == len(data), "regular files take small writes whole"
        os.ftruncate(descriptor, len(data))
    finally:
        os.close(descriptor)
