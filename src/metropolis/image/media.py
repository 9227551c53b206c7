# SPDX-License-Identifier: Apache-2.0
"""Writes an install medium: what `metroctl install genusb` leaves in a file or on a stick.

    LBA 0    protective MBR and GPT, the last thing written
    1 MiB    MetropolisInstaller        FAT32 METRO_INST, see `formats.install_medium`
    then     MetropolisInstallerSystem  the system image; its partition GUID is its root hash's
    end      backup GPT: at the end of the device, so a file cannot just be copied to a larger one

A stick on which this was interrupted holds no partition table and does not boot.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid5

from metropolis.base.errors import InvalidArgumentError
from metropolis.formats import fat, gpt, install_medium
from metropolis.formats.install_medium import MediumSettings
from metropolis.host.disk_writing import (
    ALIGNMENT_BYTES,
    BACKUP_BYTES,
    SECTOR_BYTES,
    WritableDisk,
    forget_tables,
    write_sparse,
    write_table,
)

_MIB: Final = 1 << 20
_FILES_BYTES_MIN: Final = 64 * _MIB  # less is no FAT32
_FILES_ROOM_BYTES: Final = 8 * _MIB  # tables, directories, ends of clusters
_FILES_ROOM_SHARE: Final = 64  # one part in so many


@dataclass(frozen=True, slots=True, kw_only=True)
class MediumContent:
    """What goes on a medium.

    Attributes:
        kernel: The unified kernel image.
        parameters: NodeParameters, encoded. They may hold a register ticket.
        enrolment: PK, KEK and db: signed updates of Secure Boot variables, by variable name.
        more: Other files, by path.
    """

    settings: MediumSettings
    kernel: bytes
    parameters: bytes
    enrolment: Mapping[str, bytes]
    more: Mapping[str, bytes] = field(default_factory=dict[str, bytes])

    def files(self) -> Mapping[str, bytes]:
        """Return every file of the FAT32 partition by its path."""
        assert sorted(self.enrolment) == sorted(install_medium.ENROLMENT_NAMES)
        return {
            install_medium.KERNEL: self.kernel,
            install_medium.SETTINGS: install_medium.encode_settings(self.settings),
            install_medium.PARAMETERS: self.parameters,
            **{
                f"{install_medium.ENROLMENT}/{name}.auth": data
                for name, data in sorted(self.enrolment.items())
            },
            **self.more,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class MediumPlan:
    """Where it goes. In bytes; all but `disk_bytes` are multiples of 1 MiB."""

    disk_bytes: int
    files_bytes: int
    system_offset_bytes: int
    system_bytes: int


def plan_medium(content: MediumContent, *, device_bytes: int | None = None) -> MediumPlan:
    """Lay a medium out.

    Args:
        device_bytes: Size of the device; None: a file that becomes as large as it must be.

    Raises:
        InvalidArgumentError: the device is too small; the message says what is needed.
    """
    payload = sum(len(data) for data in content.files().values())
    files_bytes = max(
        _FILES_BYTES_MIN, _aligned(payload + payload // _FILES_ROOM_SHARE + _FILES_ROOM_BYTES)
    )
    system_bytes = _aligned(content.settings.system_bytes)
    needed = ALIGNMENT_BYTES + files_bytes + system_bytes + ALIGNMENT_BYTES
    assert BACKUP_BYTES <= ALIGNMENT_BYTES
    if device_bytes is not None and device_bytes < needed:
        raise InvalidArgumentError(
            f"the device has {device_bytes // _MIB} MiB, this medium needs {needed // _MIB} MiB",
            remedy="Use a larger device.",
        )
    return MediumPlan(
        disk_bytes=needed if device_bytes is None else device_bytes,
        files_bytes=files_bytes,
        system_offset_bytes=ALIGNMENT_BYTES + files_bytes,
        system_bytes=system_bytes,
    )


def write_medium(
    device: WritableDisk,
    plan: MediumPlan,
    content: MediumContent,
    system: Iterable[bytes],
    *,
    report: Callable[[int], None] = lambda _: None,
) -> None:
    """Write a medium. Everything that was on the device is lost.

    Args:
        system: The system image, front to back, of the size that the settings say.
        report: Called with the number of bytes of it that are written.

    Raises:
        InvalidArgumentError: the image is shorter or longer than that.
        OSError: the device failed.
    """
    install_id = content.settings.install_id
    image = tuple(  # all of it, before anything is lost
        fat.build(
            content.files(),
            size_bytes=plan.files_bytes,
            label=install_medium.LABEL,
            volume_id=install_id.int & 0xFFFFFFFF,
        )
    )
    forget_tables(device, disk_bytes=plan.disk_bytes)
    write_sparse(device, image, offset_bytes=ALIGNMENT_BYTES, size_bytes=plan.files_bytes)
    done = 0
    for chunk in system:
        done += len(chunk)
        if done > content.settings.system_bytes:
            break
        device.pwrite(chunk, plan.system_offset_bytes + done - len(chunk))
        report(done)
    if done != content.settings.system_bytes:
        raise InvalidArgumentError(
            f"the system image is not {content.settings.system_bytes} bytes long",
            remedy="Fetch or build the bundle again.",
        )
    device.flush()
    write_table(device, medium_table(plan, content.settings))


def medium_table(plan: MediumPlan, settings: MediumSettings) -> gpt.PartitionTable:
    """Return the partition table of a medium."""
    rows = (
        (
            gpt.ESP_TYPE,
            uuid5(settings.install_id, "files"),
            install_medium.PARTITION_NAME,
            ALIGNMENT_BYTES,
            plan.files_bytes,
        ),
        (
            gpt.SYSTEM_A_TYPE,
            settings.system_guid,
            install_medium.SYSTEM_PARTITION_NAME,
            plan.system_offset_bytes,
            plan.system_bytes,
        ),
    )
    return gpt.PartitionTable(
        disk_guid=uuid5(settings.install_id, "medium"),
        disk_sectors=plan.disk_bytes // SECTOR_BYTES,
        partitions=tuple(
            gpt.DiskPartition(
                type_guid=kind,
                guid=guid,
                name=name,
                first_lba=offset // SECTOR_BYTES,
                last_lba=(offset + size) // SECTOR_BYTES - 1,
            )
            for kind, guid, name, offset, size in rows
        ),
        sector_bytes=SECTOR_BYTES,
    )


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
