# SPDX-License-Identifier: Apache-2.0
"""The unified kernel image: stub, kernel, initrd and command line, signed as one EFI program."""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from metropolis.formats.authenticode import attach
from metropolis.formats.pcr import KERNEL_PCR, policy_pcr_digest, uki_pcr11
from metropolis.formats.pe import add_sections, sections
from metropolis.image.keys import BuilderKey

# Fixed, because two builds of one image are one image; firmware does not look at it.
SIGNING_TIME: Final = datetime(2020, 1, 1, tzinfo=UTC)
_COMMAND_LINE: Final = (
    "metropolis.root={root} metropolis.blocks={blocks} metropolis.salt={salt} "
    "console=tty0 console=ttyS0,115200 quiet panic=5"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemSeal:
    """What the command line says of the system partition. Hashes are 64 hexadecimal digits."""

    root_hash: str
    data_blocks: int
    salt: str

    @property
    def command_line(self) -> str:
        """What the kernel is told."""
        return _COMMAND_LINE.format(root=self.root_hash, blocks=self.data_blocks, salt=self.salt)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelImage:
    """A signed image.

    Attributes:
        content: The EFI program.
        unsigned: The same without anything that depends on a key, for people to compare.
        pcr11: What the stub will have measured into PCR 11, in hexadecimal.
    """

    content: bytes
    unsigned: bytes
    pcr11: str


def unified_kernel(
    *,
    stub: bytes,
    kernel: bytes,
    kernel_version: str,
    initrd: bytes,
    os_release: bytes,
    seal: SystemSeal,
    keys: Mapping[str, BuilderKey],
) -> KernelImage:
    """Put the image together, predict its measurement, and sign both."""
    common = [
        (".osrel", os_release),
        (".uname", kernel_version.encode()),
        (".cmdline", seal.command_line.encode()),
        (".initrd", initrd),
        (".linux", kernel),
    ]
    key = keys["pcr"]
    measured = [(".pcrpkey", key.public_pem), *common]
    pcr11 = uki_pcr11(sections(add_sections(stub, measured)))
    signature = pcr_signature(pcr11, key)
    whole = add_sections(stub, [(".pcrsig", signature), *measured])
    content = attach(
        whole,
        certificate_der=keys["db"].certificate_der,
        sign=keys["db"].sign,
        signing_time=SIGNING_TIME,
    )
    return KernelImage(content=content, unsigned=add_sections(stub, common), pcr11=pcr11.hex())


def pcr_signature(pcr11: bytes, key: BuilderKey) -> bytes:
    """Approve of a value of PCR 11, in systemd's form of .pcrsig."""
    policy = policy_pcr_digest({KERNEL_PCR: pcr11})
    approval = {
        "pcrs": [KERNEL_PCR],
        "pkfp": hashlib.sha256(key.public_der).hexdigest(),
        "pol": policy.hex(),
        "sig": base64.b64encode(key.sign(policy)).decode(),
    }
    return json.dumps({"sha256": [approval]}, sort_keys=True, separators=(",", ":")).encode()
