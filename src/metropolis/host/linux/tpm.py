# SPDX-License-Identifier: Apache-2.0
"""The kernel's TPM, or a TPM emulator behind a unix socket: both take bytes and give bytes.

`/dev/tpmrm0` is the kernel's resource manager: what one opener loads no other one sees, and it is
gone when the device is closed.
"""

import os
import socket
import threading
from pathlib import Path
from typing import Final, final

from metropolis.base.errors import UnavailableError
from metropolis.host.linux.executor import in_executor

DEVICE: Final = Path("/dev/tpmrm0")
EVENT_LOG: Final = Path("/sys/kernel/security/tpm0/binary_bios_measurements")
RESPONSE_BYTES_MAX: Final = 4096  # no TPM 2.0 answers more
_HEADER_BYTES: Final = 10
_SIZE_AT: Final = slice(2, 6)  # in the header: bytes of the whole response, big endian
_EMULATOR_TIMEOUT_S: Final = 60.0


def has_tpm(device: Path = DEVICE) -> bool:
    """Tell whether this machine has a TPM 2.0 that the kernel can talk to."""
    return device.exists()


def read_event_log(path: Path = EVENT_LOG) -> bytes:
    """Return what the firmware says it measured; needs securityfs.

    Raises:
        UnavailableError: there is none.
    """
    try:
        return path.read_bytes()
    except OSError as cause:
        raise UnavailableError("the firmware left no log of its measurements") from cause


@final
class LinuxTpm:
    """A TPM device. Opened at the first command and kept open."""

    def __init__(self, device: Path = DEVICE) -> None:
        self._device = device
        self._descriptor: int | None = None
        self._lock = threading.Lock()  # one command, then its response

    async def transact(self, command: bytes) -> bytes:
        """Send a command and return its response.

        Raises:
            UnavailableError: the device does not answer.
        """
        return await in_executor(lambda: self._transact(command))

    def close(self) -> None:
        """Let the device go, and with it everything that was loaded through it."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _transact(self, command: bytes) -> bytes:
        with self._lock:
            try:
                if self._descriptor is None:
                    self._descriptor = os.open(self._device, os.O_RDWR | os.O_CLOEXEC)
                os.write(self._descriptor, command)
                return os.read(self._descriptor, RESPONSE_BYTES_MAX)
            except OSError as cause:
                raise _no_answer(str(self._device), cause) from cause


@final
class EmulatedTpm:
    """`swtpm socket --server type=unixio`: the lab's tools and tests talk to a TPM without a VM."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    async def transact(self, command: bytes) -> bytes:
        """Send a command and return its response.

        Raises:
            UnavailableError: the emulator does not answer.
        """
        return await in_executor(lambda: self._transact(command))

    def close(self) -> None:
        """Hang up."""
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def _transact(self, command: bytes) -> bytes:
        with self._lock:
            try:
                if self._socket is None:
                    self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                    self._socket.settimeout(_EMULATOR_TIMEOUT_S)
                    self._socket.connect(str(self._path))
                self._socket.sendall(command)
                header = _receive(self._socket, _HEADER_BYTES)
                size = int.from_bytes(header[_SIZE_AT], "big")
                return header + _receive(self._socket, size - _HEADER_BYTES)
            except OSError as cause:
                if self._socket is not None:
                    self._socket.close()
                    self._socket = None
                raise _no_answer(str(self._path), cause) from cause


def _receive(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        piece = connection.recv(size - len(received))
        if not piece:
            raise ConnectionResetError("it hung up")
        received += piece
    return received


def _no_answer(what: str, cause: OSError) -> UnavailableError:
    return UnavailableError(
        f"the TPM at {what} does not answer: {cause.strerror or cause}",
        remedy="Check that the TPM is enabled in the machine's firmware, and start it again.",
    )
