# SPDX-License-Identifier: Apache-2.0
"""Which disk gets the system. Pure: the rules, and the sentences that explain a choice.

A disk is suitable when it is a whole disk, neither the medium itself nor removable nor read-only,
has sectors of 512 bytes and is large enough. A medium that was made for one disk (by serial number,
WWN or path) takes that or none, and that disk may be removable. Then, the first rule that applies:

    1. this medium has finished an installation here      boot that
    2. this medium has begun one                          do it again
    3. a disk holds an enrolled node                      boot that; with --reinstall: overwrite it
    4. a disk holds a Metropolis that was never enrolled  overwrite it
    5. a disk is blank                                    use it
    6. otherwise                                          overwrite what is there

Among several of a kind: NVMe and other disks that do not turn, then the smallest, then by name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias
from uuid import UUID

from metropolis.base.errors import FailedPreconditionError, MetropolisError
from metropolis.host.disk_writing import SECTOR_BYTES
from metropolis.node.installation.disk import DISK_BYTES_MIN, MIB, DiskGuids

_GB: Final = 10**9


class Holding(Enum):
    """What is on a disk, as far as it matters here."""

    BLANK = "nothing"
    UNFINISHED = "an unfinished installation of Metropolis"
    SYSTEM = "Metropolis, never enrolled"
    NODE = "a Metropolis node"
    OTHER = "other data"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFacts:
    """A disk of this machine, and what was found on it.

    Attributes:
        device: Path of its device node, e.g. /dev/vda.
        wwn: World wide name, possibly empty.
        is_rotating: It has platters, or says so.
        is_medium: The machine was started from it.
        guid: GUID of its partition table, or the one that a mark promises.
        partitions: Name and size of each, for people.
    """

    device: str
    size_bytes: int
    sector_bytes: int
    model: str = ""
    serial: str = ""
    wwn: str = ""
    is_removable: bool = False
    is_read_only: bool = False
    is_rotating: bool = False
    is_medium: bool = False
    holding: Holding = Holding.BLANK
    guid: UUID | None = None
    partitions: Sequence[str] = ()

    @property
    def identity(self) -> str:
        """What tells it from other disks, in every boot."""
        return f"{self.wwn or self.serial or self.device}/{self.size_bytes}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Install:
    """Write the system on this disk."""

    disk: DiskFacts
    guids: DiskGuids
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BootInstalled:
    """There is a system already: start it."""

    disk: DiskFacts
    reason: str


Choice: TypeAlias = Install | BootInstalled


def choose_disk(
    disks: Sequence[DiskFacts],
    *,
    install_id: UUID,
    wanted: str = "",
    may_replace_node: bool = False,
) -> Choice:
    """Choose what is to be done with which disk.

    Args:
        install_id: Of the medium.
        wanted: Serial number, WWN or path of the one disk to use; empty: any.
        may_replace_node: The medium was made to overwrite an enrolled node.

    Raises:
        FailedPreconditionError: no disk can be used; the message says of each why not.
    """
    suitable = [disk for disk in disks if problem(disk, wanted=wanted) is None]
    if not suitable:
        raise _nothing_suitable(disks, wanted)
    suitable.sort(key=_preference)
    ours = {disk.device: DiskGuids.derived(install_id, disk.identity) for disk in suitable}

    for disk in suitable:
        if disk.guid == ours[disk.device].disk and disk.holding in {Holding.SYSTEM, Holding.NODE}:
            return BootInstalled(
                disk=disk, reason=f"This medium has installed Metropolis on {disk.device} already."
            )
    for disk in suitable:
        if disk.guid == ours[disk.device].disk and disk.holding is Holding.UNFINISHED:
            reason = "an installation from this medium was interrupted here"
            return Install(disk=disk, guids=ours[disk.device], reason=reason)
    nodes = [disk for disk in suitable if disk.holding is Holding.NODE]
    if nodes and not may_replace_node:
        return BootInstalled(
            disk=nodes[0], reason=f"{nodes[0].device} holds a Metropolis node; it is left alone."
        )
    if nodes:
        reason = "this medium was made to replace the node on it"
        return Install(disk=nodes[0], guids=ours[nodes[0].device], reason=reason)
    for holding, reason in _REASONS.items():
        for disk in suitable:
            if disk.holding is holding:
                return Install(disk=disk, guids=ours[disk.device], reason=reason)
    raise AssertionError("every holding has a rule")


_REASONS: Final = {
    Holding.SYSTEM: "it holds a Metropolis that was never enrolled",
    Holding.UNFINISHED: "it holds an unfinished installation of Metropolis",
    Holding.BLANK: "it is the first blank disk by the rules",
    Holding.OTHER: "it is the first disk by the rules, and none is blank",
}


def problem(disk: DiskFacts, *, wanted: str = "") -> str | None:
    """Say why a disk cannot be used, or None if it can."""
    if disk.is_medium:
        return "it is the install medium"
    if wanted and not is_named(disk, wanted):
        return f"it is not the disk {wanted!r}"
    if disk.is_read_only:
        return "it is read-only"
    if disk.is_removable and not wanted:
        return "it is removable"
    if disk.sector_bytes != SECTOR_BYTES:
        return f"its sectors have {disk.sector_bytes} bytes, not {SECTOR_BYTES}"
    if disk.size_bytes < DISK_BYTES_MIN:
        return f"it has {disk.size_bytes // MIB} MiB, a node needs at least {DISK_BYTES_MIN // MIB}"
    return None


def is_named(disk: DiskFacts, wanted: str) -> bool:
    """Whether a name given by a person is this disk's serial number, WWN or path."""
    name = _bare(wanted)
    return wanted == disk.device or any(
        name == _bare(own) for own in (disk.serial, disk.wwn) if own
    )


def describe(disk: DiskFacts) -> str:
    """Describe a disk in a line, as before it is erased."""
    named = [disk.model, f"serial {disk.serial}" if disk.serial else "", disk.wwn]
    facts = ", ".join([f"{disk.size_bytes / _GB:.1f} GB", *(each for each in named if each)])
    inside = f": {', '.join(disk.partitions)}" if disk.partitions else ""
    return f"{disk.device} ({facts}) holds {disk.holding.value}{inside}"


def _preference(disk: DiskFacts) -> tuple[bool, int, str]:
    return disk.is_rotating, disk.size_bytes, disk.device


def _bare(name: str) -> str:
    """Strip what sysfs, udev and labels write differently around a WWN."""
    lower = name.strip().lower()
    for prefix in ("naa.", "eui.", "nvme.", "0x", "wwn-0x"):
        lower = lower.removeprefix(prefix)
    return lower


def _nothing_suitable(disks: Sequence[DiskFacts], wanted: str) -> MetropolisError:
    reasons = "; ".join(
        f"{disk.device} ({disk.size_bytes / _GB:.1f} GB{_serial(disk)}): "
        f"{problem(disk, wanted=wanted)}"
        for disk in disks
    )
    remedy = (
        f"Connect a disk of at least {-(-DISK_BYTES_MIN // _GB)} GB and start the medium again."
        if not wanted
        else "Make a medium that names one of these disks, or none."
    )
    return FailedPreconditionError(
        f"couldn't find a suitable block device: {reasons or 'there are no disks'}", remedy=remedy
    )


def _serial(disk: DiskFacts) -> str:
    return f", serial {disk.serial}" if disk.serial else ""
