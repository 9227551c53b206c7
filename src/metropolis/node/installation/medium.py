# SPDX-License-Identifier: Apache-2.0
"""The install medium as the installer reads it: checked whole, before anything is erased."""

import hashlib
import hmac
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from metropolis.base.errors import DataLossError, MetropolisError
from metropolis.formats import gpt, install_medium, pe, verity
from metropolis.formats.install_medium import MediumSettings
from metropolis.node.installation.disk import SystemPayload
from metropolis.node.parameters import parse_parameters
from metropolis.node.slots.kernels import FALLBACK, slot_path
from metropolis.node.slots.model import Slot
from metropolis.node.storage import PARAMETERS, RECOVERY_KEY, RESTORE

Read = Callable[[int, int], bytes]  # offset, size
ReadFile = Callable[[str], bytes | None]  # path on the medium; None: there is no such file

RECOVERY_KEY_BYTES: Final = 32
_CHUNK_BYTES: Final = 1 << 20
_ESP: Final = "esp/"
_REMEDY: Final = "Write the medium again with `metroctl install genusb`, or use another stick."


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningSystem:
    """What the signed command line of the running kernel says about its root file system."""

    root_hash: bytes
    data_blocks: int
    salt: bytes

    @property
    def data_bytes(self) -> int:
        """Size of the file system."""
        return self.data_blocks * verity.BLOCK_BYTES

    @property
    def size_bytes(self) -> int:
        """Size of the system image: the file system and its hash tree."""
        return self.data_bytes + verity.tree_bytes(self.data_blocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Medium:
    """What was read from a medium.

    Attributes:
        enrolment: Signed updates of Secure Boot variables, by name.
        esp_files: What the new disk's ESP gets, by path.
    """

    settings: MediumSettings
    enrolment: Mapping[str, bytes]
    esp_files: Mapping[str, bytes]


def read_medium(read_file: ReadFile, system: RunningSystem) -> Medium:
    """Read and check everything but the system image.

    Raises:
        InvalidArgumentError: parameters or settings cannot be used.
        DataLossError: a file is missing or was changed since the medium was written.
    """
    settings = install_medium.decode_settings(_required(read_file, install_medium.SETTINGS))
    if settings.root_hash != system.root_hash or settings.system_bytes != system.size_bytes:
        raise _damaged(f"{install_medium.SETTINGS} describes another system than the running one")
    kernel = _required(read_file, install_medium.KERNEL)
    if not hmac.compare_digest(hashlib.sha256(kernel).digest(), settings.kernel_sha256):
        raise _damaged(f"{install_medium.KERNEL} is not the file that was written")
    _check_kernel(kernel, system)
    parameters = _required(read_file, install_medium.PARAMETERS)
    parse_parameters(parameters)
    files = {slot_path(Slot.A): kernel, FALLBACK: kernel, _on_esp(PARAMETERS.path): parameters}
    recovery_key = read_file(install_medium.RECOVERY_KEY)
    if recovery_key is not None:
        if len(recovery_key) != RECOVERY_KEY_BYTES:
            raise _damaged(f"{install_medium.RECOVERY_KEY} is no X25519 key")
        files[_on_esp(RECOVERY_KEY.path)] = recovery_key
    restore = read_file(install_medium.RESTORE)
    if restore is not None:
        files[_on_esp(RESTORE.path)] = restore
    enrolment = {
        name: _required(read_file, f"{install_medium.ENROLMENT}/{name}.auth")
        for name in install_medium.ENROLMENT_NAMES
    }
    return Medium(settings=settings, enrolment=enrolment, esp_files=files)


def verified_system(
    read: Read,
    system: RunningSystem,
    *,
    disk_bytes: int,
    report: Callable[[int], None] = lambda _: None,
) -> SystemPayload:
    """Find the system image on the medium, and read it once to verify every byte of it.

    Args:
        read: Of the whole medium, not of a partition.
        disk_bytes: Size of the medium.
        report: Called with the number of bytes verified.

    Returns:
        The image, to be read a second time.

    Raises:
        DataLossError: it is not on the medium, or not what the running kernel was signed with.
    """
    guid = install_medium.system_guid(system.root_hash)
    offset = _system_offset(read, guid, disk_bytes, system.size_bytes)

    def chunks(end: int) -> Iterator[bytes]:
        for at in range(0, end, _CHUNK_BYTES):
            yield read(offset + at, min(_CHUNK_BYTES, end - at))

    def reported() -> Iterator[bytes]:
        done = 0
        for chunk in chunks(system.data_bytes):
            done += len(chunk)
            yield chunk
            report(done)

    tree = read(offset + system.data_bytes, system.size_bytes - system.data_bytes)
    try:
        verity.verify(reported(), tree=tree, root_hash=system.root_hash, salt=system.salt)
    except DataLossError as cause:
        raise _damaged(f"its system image is worn out ({cause})") from cause
    return SystemPayload(chunks=chunks(system.size_bytes), size_bytes=system.size_bytes, guid=guid)


def _system_offset(read: Read, guid: UUID, disk_bytes: int, size_bytes: int) -> int:
    table = gpt.decode(read, disk_bytes=disk_bytes)
    for partition in table.partitions:
        if partition.guid == guid and partition.sectors * table.sector_bytes >= size_bytes:
            return partition.first_lba * table.sector_bytes
    raise _damaged(f"it has no system partition {guid}")


def _check_kernel(kernel: bytes, system: RunningSystem) -> None:
    """Refuse a kernel image that would look for another system than it lies beside."""
    try:
        words = pe.sections(kernel).get(".cmdline", b"").decode("utf-8", "replace").split()
    except MetropolisError as cause:
        raise _damaged(f"{install_medium.KERNEL} is no kernel image") from cause
    if f"metropolis.root={system.root_hash.hex()}" not in [word.strip("\0") for word in words]:
        raise _damaged(f"{install_medium.KERNEL} boots another system than the running one")


def _required(read_file: ReadFile, path: str) -> bytes:
    data = read_file(path)
    if data is None:
        raise _damaged(f"{path} is missing")
    return data


def _on_esp(path: str) -> str:
    assert path.startswith(_ESP)
    return path.removeprefix(_ESP)


def _damaged(problem: str) -> MetropolisError:
    return DataLossError(f"the install medium cannot be used: {problem}", remedy=_REMEDY)
