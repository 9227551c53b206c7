# SPDX-License-Identifier: Apache-2.0
"""What the signed kernel command line says about the root file system. Pure."""

import re
from dataclasses import dataclass
from typing import Final

from metropolis.base.errors import InvalidArgumentError

_HASH: Final = re.compile(r"[0-9a-f]{64}")
_REMEDY: Final = "Boot the other slot, or install an image that `metropolis image build` made."


@dataclass(frozen=True, slots=True, kw_only=True)
class RootDescription:
    """The root file system that this kernel image was signed together with.

    Attributes:
        root_hash: Of the verity tree, 64 hexadecimal digits.
        data_blocks: Blocks of 4096 bytes before the hash tree.
        salt: 64 hexadecimal digits.
    """

    root_hash: str
    data_blocks: int
    salt: str

    @property
    def partition_guid(self) -> str:
        """GUID of the partition that holds it: the first half of the root hash."""
        digits = self.root_hash[:32]
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def parse_command_line(text: str) -> dict[str, str]:
    """Return what is set by which name; words without a value are set to nothing."""
    words = (word.partition("=") for word in text.split())
    return {name: value for name, _, value in words}


def describe_root(options: dict[str, str]) -> RootDescription:
    """Read the description of the root file system.

    Raises:
        InvalidArgumentError: it is not there; the message names the option.
    """
    for name in ("metropolis.root", "metropolis.salt"):
        if _HASH.fullmatch(options.get(name, "")) is None:
            raise InvalidArgumentError(
                f"the kernel command line has no valid {name}=", remedy=_REMEDY
            )
    blocks = options.get("metropolis.blocks", "")
    if not blocks.isdecimal() or int(blocks) == 0:
        raise InvalidArgumentError(
            "the kernel command line has no valid metropolis.blocks=", remedy=_REMEDY
        )
    return RootDescription(
        root_hash=options["metropolis.root"],
        data_blocks=int(blocks),
        salt=options["metropolis.salt"],
    )
