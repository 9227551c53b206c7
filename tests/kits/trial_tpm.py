# SPDX-License-Identifier: Apache-2.0
"""A software TPM that computes policies: what our predictions are compared with."""

import contextlib
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

_PASSWORD = struct.pack(">IIHBH", 9, 0x40000009, 0, 0, 0)


class TrialTpm:
    """Speaks TPM 2.0 commands over a socket of swtpm."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.command(0x144, struct.pack(">H", 0))  # TPM2_Startup(CLEAR)

    def command(self, code: int, body: bytes, *, tag: int = 0x8001) -> bytes:
        self._connection.sendall(struct.pack(">HII", tag, 10 + len(body), code) + body)
        answer = self._connection.recv(4096)
        assert struct.unpack_from(">I", answer, 6) == (0,), answer.hex()
        return answer[10:]

    def extend(self, pcr: int, digest: bytes) -> None:
        body = struct.pack(">I", pcr) + _PASSWORD + struct.pack(">IH", 1, 0x0B) + digest
        self.command(0x182, body, tag=0x8002)

    def read(self, selection: bytes) -> bytes:
        return self.command(0x17E, selection)[-32:]

    def trial_session(self) -> int:
        nonce = struct.pack(">H", 32) + bytes(32)
        body = struct.pack(">II", 0x40000007, 0x40000007) + nonce
        body += struct.pack(">HBHH", 0, 3, 0x10, 0x0B)
        return int(struct.unpack_from(">I", self.command(0x176, body))[0])

    def policy_digest(self, session: int) -> bytes:
        return self.command(0x189, struct.pack(">I", session))[2:]

    def load_external(self, public_area: bytes) -> bytes:
        """Load a public key and return its name."""
        body = struct.pack(">HH", 0, len(public_area)) + public_area
        return self.command(0x167, body + struct.pack(">I", 0x40000007))[6:]


@contextlib.contextmanager
def trial_tpm(directory: Path) -> Iterator[TrialTpm]:
    """A new TPM, gone at the end."""
    ours, theirs = socket.socketpair()
    arguments = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={directory}"]
    arguments += ["--fd", str(theirs.fileno()), "--flags", "not-need-init"]
    process = subprocess.Popen(arguments, pass_fds=(theirs.fileno(),))
    try:
        theirs.close()
        yield TrialTpm(ours)
    finally:
        process.terminate()
        process.wait(timeout=10)
        ours.close()
