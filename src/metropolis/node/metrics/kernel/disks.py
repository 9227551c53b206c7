# SPDX-License-Identifier: Apache-2.0
"""Disks and file systems. Names and labels of node_exporter."""

import re
from collections.abc import Iterator
from dataclasses import astuple
from typing import Final

from metropolis.formats.exposition import Family, Sample, counter, gauge
from metropolis.host import KernelFigures

_SECTOR_BYTES: Final = 512  # of /proc/diskstats, whatever the disk's own are
_MILLI: Final = 1e-3
_NO_DISK: Final = re.compile(r"(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+")
_NO_MOUNT: Final = re.compile(r"/(dev|proc|run/credentials/.+|sys)($|/)")
_NO_FILE_SYSTEM: Final = frozenset((
    "autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts",
    "devtmpfs", "efivarfs", "fusectl", "hugetlbfs", "mqueue", "nsfs", "overlay", "proc", "procfs",
    "pstore", "rpc_pipefs", "securityfs", "selinuxfs", "sysfs", "tracefs",
))  # fmt: skip
_DISKS: Final = (  # column of /proc/diskstats, behind the name
    ("reads_completed_total", "The total number of reads completed successfully.", 1),
    ("reads_merged_total", "The total number of reads merged.", 1),
    ("read_bytes_total", "The total number of bytes read successfully.", _SECTOR_BYTES),
    ("read_time_seconds_total", "The total number of seconds spent by all reads.", _MILLI),
    ("writes_completed_total", "The total number of writes completed successfully.", 1),
    ("writes_merged_total", "The number of writes merged.", 1),
    ("written_bytes_total", "The total number of bytes written successfully.", _SECTOR_BYTES),
    ("write_time_seconds_total", "The total number of seconds spent by all writes.", _MILLI),
    ("io_now", "The number of I/Os currently in progress.", 1),
    ("io_time_seconds_total", "Total seconds spent doing I/Os.", _MILLI),
    (
        "io_time_weighted_seconds_total",
        "The weighted number of seconds spent doing I/Os.",
        _MILLI,
    ),
    ("discards_completed_total", "The total number of discards completed successfully.", 1),
    ("discards_merged_total", "The total number of discards merged.", 1),
    ("discarded_sectors_total", "The total number of sectors discarded successfully.", 1),
    ("discard_time_seconds_total", "The total number of seconds spent by all discards.", _MILLI),
    (
        "flush_requests_total",
        "The total number of flush requests completed successfully.",
        1,
    ),
    (
        "flush_requests_time_seconds_total",
        "The total number of seconds spent by all flush requests.",
        _MILLI,
    ),
)
_ROOM: Final = (
    ("size_bytes", "Filesystem size in bytes."),
    ("free_bytes", "Filesystem free space in bytes."),
    ("avail_bytes", "Filesystem space available to non-root users in bytes."),
    ("files", "Filesystem total file nodes."),
    ("files_free", "Filesystem total free file nodes."),
    ("readonly", "Filesystem read-only status."),
)
_OCTAL: Final = re.compile(r"\\([0-7]{3})")
_NAME_COLUMN: Final = 2


def diskstats(kernel: KernelFigures) -> Iterator[Family]:
    """What whole disks have read and written; partitions are left out."""
    samples: list[list[Sample]] = [[] for _ in _DISKS]
    for line in kernel.read("/proc/diskstats").splitlines():
        words = line.split()
        name = words[_NAME_COLUMN]
        if _NO_DISK.fullmatch(name):
            continue
        for column, word in enumerate(words[_NAME_COLUMN + 1 :][: len(_DISKS)]):
            scale = _DISKS[column][2]
            samples[column].append(Sample(int(word) * scale, {"device": name}))
    for (name, text, _), found in zip(_DISKS, samples, strict=True):
        family = counter if name.endswith("_total") else gauge
        yield family(f"node_disk_{name}", text, *found)


def filesystem(kernel: KernelFigures) -> Iterator[Family]:
    """Room of every file system that is mounted from a disk, or from memory."""
    samples: list[list[Sample]] = [[] for _ in _ROOM]
    failed: list[Sample] = []
    mounts = [line.split() for line in kernel.read("/proc/self/mounts").splitlines()]
    for device, point, kind, *_ in {words[1]: words for words in mounts}.values():
        mount_point = _OCTAL.sub(lambda code: chr(int(code[1], 8)), point)
        if kind in _NO_FILE_SYSTEM or _NO_MOUNT.match(mount_point):
            continue
        labels = {"device": device, "fstype": kind, "mountpoint": mount_point}
        try:
            room = kernel.file_system(mount_point)
        except OSError:
            failed.append(Sample(1, labels))
            continue
        failed.append(Sample(0, labels))
        for column, value in enumerate(astuple(room)):
            samples[column].append(Sample(int(value), labels))
    for (name, text), found in zip(_ROOM, samples, strict=True):
        yield gauge(f"node_filesystem_{name}", text, *found)
    yield gauge(
        "node_filesystem_device_error",
        "Whether an error occurred while getting statistics for the given device.",
        *failed,
    )
