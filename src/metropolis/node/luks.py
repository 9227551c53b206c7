# SPDX-License-Identifier: Apache-2.0
"""A LUKS2 volume, made and opened by cryptsetup. Keys go through standard input only.

    slot 0   the disk key: node unlock key XOR cluster unlock key
    slot 1   a random key, encrypted to the operator's recovery key in a token of the header; only
             where one was installed

Both are 256 random bits, so nothing is gained by making guesses slow: PBKDF2 with the fewest
iterations that are allowed, which opens at once. The header's `subsystem` field holds a fingerprint
of the disk key; it tells a disk of another node from a damaged one.
"""

import hashlib
from collections.abc import Sequence
from typing import Final, final

from metropolis.base.errors import (
    DataLossError,
    FailedPreconditionError,
    MetropolisError,
    PermissionDeniedError,
)
from metropolis.host import Processes
from metropolis.node.programs import Outcome, run_program
from metropolis.pki.unlock import DiskKey

MIB: Final = 1 << 20
DISK_KEY_SLOT: Final = 0
RECOVERY_SLOT: Final = 1
KEY_BYTES: Final = 32
HEADER_BYTES: Final = 16 * MIB  # at most: where a volume with the longest header begins
_FINGERPRINT_HEX_DIGITS: Final = 32
# cryptsetup's exit codes
_WRONG_KEY: Final = 2
_IS_OPEN: Final = 5
_DAMAGED: Final = (
    "Restore its header from a backup if there is one; otherwise delete the node with "
    "`metroctl node delete`, wipe the machine, and install it again."
)
# fmt: off
_SLOT: Final = (
    "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--hash", "sha256",
    "--key-file", "-", "--keyfile-size", str(KEY_BYTES),
)
_FORMAT: Final = (
    "--type", "luks2", "--label", "metropolis-data",
    "--cipher", "aes-xts-plain64", "--key-size", "512", "--sector-size", "4096",
    "--luks2-metadata-size", "16k", "--luks2-keyslots-size", "2m",  # for four slots
    "--key-slot", str(DISK_KEY_SLOT),
)
# Tags of sectors that were never written stay wrong: reading one is an error. XFS never does.
_AUTHENTICATED: Final = ("--integrity", "hmac-sha256", "--integrity-no-wipe")
_OPEN: Final = ("--type", "luks2", "--perf-no_read_workqueue", "--perf-no_write_workqueue")
# fmt: on


@final
class Luks:
    """The volume on one device.

    Args:
        device: Path of a partition.
        name: Of the opened volume, below /dev/mapper.
    """

    def __init__(self, processes: Processes, *, device: str, name: str) -> None:
        self._processes = processes
        self._device = device
        self._name = name

    @property
    def opened_device(self) -> str:
        """Path of the opened volume."""
        return f"/dev/mapper/{self._name}"

    async def format(self, key: DiskKey, *, is_authenticated: bool) -> None:
        """Make a volume with a new random key of its own, and `key` to open it.

        Raises:
            FailedPreconditionError: the device does not take it.
        """
        integrity = _AUTHENTICATED if is_authenticated else ()
        argv = ("luksFormat", "-q", *_FORMAT, *integrity, "--subsystem", _fingerprint(key))
        outcome = await self._run((*argv, *_SLOT, self._device), key.data)
        self._check(outcome, "cannot be encrypted")

    async def add_recovery(self, key: DiskKey, secret: bytes, token: bytes) -> None:
        """Let a second key open the volume, and keep a note beside it (a LUKS2 token, JSON).

        Raises:
            FailedPreconditionError: the header does not take it.
        """
        argv = ("luksAddKey", "-q", "--key-slot", str(RECOVERY_SLOT), *_SLOT)
        sized = ("--new-keyfile-size", str(KEY_BYTES), self._device, "-")
        outcome = await self._run((*argv, *sized), key.data + secret)
        self._check(outcome, "takes no recovery key")
        imported = await self._run(("token", "import", "--json-file", "-", self._device), token)
        self._check(imported, "takes no recovery key")

    async def open(self, key: DiskKey, *, is_authenticated: bool) -> None:
        """Open the volume.

        Raises:
            PermissionDeniedError: the volume is of another node.
            DataLossError: its header is damaged.
        """
        discards = () if is_authenticated else ("--allow-discards",)
        argv = ("open", *_OPEN, *discards, "--key-file", "-", self._device, self._name)
        outcome = await self._run(argv, key.data)
        if outcome.code == _IS_OPEN:  # by a try that was cut off
            await self.close()
            outcome = await self._run(argv, key.data)
        if outcome.code != 0:
            raise await self._why_closed(key, outcome)

    async def is_open(self) -> bool:
        """Tell whether the volume is open."""
        return (await self._run(("status", self._name))).code == 0

    async def close(self) -> None:
        """Close the volume; fine when it is not open.

        Raises:
            FailedPreconditionError: somebody still uses it.
        """
        if await self.is_open():
            self._check(await self._run(("close", self._name)), "cannot be closed")

    async def erase(self) -> bool:
        """Destroy every way to open the volume, for good; False if the device holds none."""
        header = await self._run(("isLuks", self._device))
        if header.code == 0:
            self._check(await self._run(("erase", "-q", self._device)), "cannot be erased")
        return header.code == 0

    async def _why_closed(self, key: DiskKey, outcome: Outcome) -> MetropolisError:
        header = await self._run(("luksDump", self._device))
        if header.code != 0:
            return DataLossError(
                f"the header of the data partition {self._device} is damaged", remedy=_DAMAGED
            )
        if outcome.code != _WRONG_KEY and "keyslot" not in outcome.words:
            return FailedPreconditionError(
                f"the data partition {self._device} cannot be opened: {outcome.words}",
                remedy="Start the machine again; if that does not help, look at its kernel log.",
            )
        if _fingerprint(key) in header.words:
            return DataLossError(
                f"the key slot of the data partition {self._device} is damaged", remedy=_DAMAGED
            )
        return PermissionDeniedError(
            f"the data partition {self._device} is of another node or of an earlier "
            "installation: the keys of this node do not open it",
            remedy="Put the disk back into the machine that it comes from; if it belongs to "
            "none, wipe it and install this machine again.",
        )

    def _check(self, outcome: Outcome, problem: str) -> None:
        if outcome.code != 0:
            raise FailedPreconditionError(
                f"the data partition {self._device} {problem}: {outcome.words}",
                remedy="Check that the disk works, and start the machine again.",
            )

    async def _run(self, argv: Sequence[str], standard_input: bytes | None = None) -> Outcome:
        return await run_program(
            self._processes,
            ("cryptsetup", argv[0], "--disable-locks", *argv[1:]),
            standard_input=standard_input,
        )


def _fingerprint(key: DiskKey) -> str:
    """A name for the disk key that says nothing about it: it is 256 random bits."""
    digest = hashlib.sha256(b"metropolis disk key fingerprint\0" + key.data)
    return digest.hexdigest()[:_FINGERPRINT_HEX_DIGITS]
