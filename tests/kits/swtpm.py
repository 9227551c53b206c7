# SPDX-License-Identifier: Apache-2.0
"""A TPM emulator as a machine's TPM: it is started, measures a boot, is cleared, and goes."""

import asyncio
import base64
import hashlib
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from metropolis.base.errors import UnavailableError
from metropolis.formats.pcr import KERNEL_PCR, SECURE_BOOT_PCR, extend, policy_pcr_digest
from metropolis.host.linux.tpm import EmulatedTpm
from metropolis.node.sealing.builder import Builder, parse_builder
from metropolis.protocols.tpm2 import commands
from metropolis.protocols.tpm2.commands import Command, open_response, request
from metropolis.protocols.tpm2.session import Password
from metropolis.protocols.tpm2.wire import u32

RH_LOCKOUT = 0x4000000A
CC_CLEAR = 0x126
START_TIMEOUT_S = 10.0
LOOK_AGAIN_S = 0.01


class BuilderKeys:
    """An image builder: signs what its images measure."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(65537, 2048)

    def image(self, *names: str) -> Builder:
        """What the stub of an image hands over that is signed for these measurements."""
        public = self._key.public_key()
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        rows = []
        for name in names:
            policy = policy_pcr_digest({KERNEL_PCR: extend(bytes(32), digest(name))})
            signature = self._key.sign(policy, padding.PKCS1v15(), SHA256())
            rows.append(
                {
                    "pcrs": [KERNEL_PCR],
                    "pkfp": hashlib.sha256(der).hexdigest(),
                    "pol": policy.hex(),
                    "sig": base64.b64encode(signature).decode(),
                }
            )
        return parse_builder(pem, json.dumps({"sha256": rows}).encode())


def digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


@dataclass
class SwTpm:
    """A TPM whose power can be switched. Its state outlives that."""

    directory: Path
    process: "subprocess.Popen[bytes] | None" = None
    tpm: EmulatedTpm | None = None

    @property
    def socket(self) -> Path:
        return self.directory / "s"

    async def boot(self, *, secure_boot: str, image: str) -> EmulatedTpm:
        """Start the machine: registers are new, and firmware and stub measure."""
        self.off()
        self._start()
        tpm = EmulatedTpm(self.socket)
        self.tpm = tpm
        await answers(tpm)
        await order(tpm, commands.pcr_extend(SECURE_BOOT_PCR, digest(secure_boot)))
        await order(tpm, commands.pcr_extend(KERNEL_PCR, digest(image)))
        return tpm

    def _start(self) -> None:
        self.directory.mkdir(exist_ok=True)
        self.socket.unlink(missing_ok=True)
        # fmt: off
        self.process = subprocess.Popen([
            "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.directory}",
            "--server", f"type=unixio,path={self.socket}",
            "--ctrl", f"type=unixio,path={self.directory / 'c'}",
            "--log", f"file={self.directory / 'log'}", "--flags", "not-need-init,startup-clear",
        ])
        # fmt: on
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not self.socket.exists():
            assert time.monotonic() < deadline_s, "swtpm does not start"
            assert self.process.poll() is None, "swtpm ended"

    def off(self) -> None:
        """Take the power away."""
        if self.tpm is not None:
            self.tpm.close()
            self.tpm = None
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=10)
            self.process = None


async def answers(tpm: EmulatedTpm) -> None:
    """Wait until a TPM hears us: its socket is there a moment before it does."""
    async with asyncio.timeout(START_TIMEOUT_S):
        while True:
            try:
                await tpm.transact(request(commands.pcr_read(KERNEL_PCR)))
            except UnavailableError:
                await asyncio.sleep(LOOK_AGAIN_S)
            else:
                return


async def order(tpm: EmulatedTpm, command: Command) -> None:
    """Give a command that an empty password entitles to."""
    open_response(await tpm.transact(request(command, Password())), command, Password())


async def clear(tpm: EmulatedTpm) -> None:
    """What a firmware's menu does when somebody clears the TPM."""
    command = Command(
        title="to be cleared", code=CC_CLEAR, handles=[RH_LOCKOUT], names=[u32(RH_LOCKOUT)]
    )
    await order(tpm, command)


@contextmanager
def swtpm(directory: Path) -> Iterator[SwTpm]:
    """A machine's TPM, off; its process is gone at the end."""
    made = SwTpm(directory)
    try:
        yield made
    finally:
        made.off()
