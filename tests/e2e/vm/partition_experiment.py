# SPDX-License-Identifier: Apache-2.0
"""What runs inside a machine: the data partition made, filled, cut off, opened and damaged.

PHASE and RECOVERY_PUBLIC_KEY are in the environment; /dev/vdb is the partition.
"""

import asyncio
import hashlib
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metropolis.api.common_pb2 import NODE_STORAGE_SECURITY_AUTHENTICATED_ENCRYPTED as SECURITY
from metropolis.base.errors import MetropolisError
from metropolis.host.linux.directory import LinuxDirectory
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.host.linux.file_systems import LinuxFileSystems
from metropolis.host.linux.processes import LinuxProcesses
from metropolis.node.data_disk import DataDisk, DataDiskEdges
from metropolis.node.luks import Luks
from metropolis.node.programs import run_program
from metropolis.node.storage import RECOVERY_KEY, NodeStorage
from metropolis.pki.unlock import DiskKey

DEVICE = "/dev/vdb"
DATA = Path("/run/data")
ESP = Path("/run/storage")
KEY = DiskKey(bytes(range(32)))


def say(text: object) -> None:
    sys.stdout.write(f"{text}\n")


def partition() -> DataDisk:
    return DataDisk(
        DataDiskEdges(
            device=DEVICE,
            mount_point=str(DATA),
            storage=NodeStorage(LinuxDirectory(ESP)),
            processes=LinuxProcesses(),
            file_systems=LinuxFileSystems(),
            entropy=LinuxEntropy(),
            say=say,
        )
    )


def churn(seed: int, count: int) -> None:
    """Have the file system allocate and free metadata of every kind."""
    rng = random.Random(seed)
    files: list[Path] = []
    for number in range(count):
        place = DATA / f"{seed}-{rng.randrange(40)}"
        place.mkdir(exist_ok=True)
        file = place / f"file{number}"
        file.write_bytes(os.urandom(rng.choice([1, 100, 4097, 20_000, 70_000])))
        files.append(file)
        if rng.random() < 0.4:
            files.pop(rng.randrange(len(files))).unlink()
        if rng.random() < 0.05:
            with (place / f"log{number}").open("wb") as log:
                os.posix_fallocate(log.fileno(), 0, 1 << 20)
                log.write(bytes(5000))
                os.fsync(log.fileno())
        if files and rng.random() < 0.05:
            os.setxattr(files[0], "user.metropolis", os.urandom(3000))
            os.link(files[0], place / f"link{number}")


def kernel_log() -> list[str]:
    descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    lines: list[str] = []
    try:
        while True:
            lines.append(os.read(descriptor, 8192).decode(errors="replace").split("\n")[0])
    except BlockingIOError:
        return lines
    finally:
        os.close(descriptor)


def check_kernel_log(when: str) -> None:
    lines = kernel_log()
    bad = [each for each in lines if "INTEGRITY" in each or ("XFS" in each and "rror" in each)]
    say(f"{when}: unreadable sectors: {bad or 'none'}")


async def fill() -> None:
    """Make the partition, let it grow, and lose the power while much is going on."""
    await NodeStorage(LinuxDirectory(ESP)).write(
        RECOVERY_KEY, bytes.fromhex(os.environ["RECOVERY_PUBLIC_KEY"])
    )
    disk = partition()
    await disk.make(SECURITY, KEY)
    churn(1, 800)
    (DATA / "large").write_bytes(bytes(150 << 20))
    say(await disk.grow())
    say(f"again: {await disk.grow()!r}")
    (DATA / "kept").write_bytes(b"kept")
    os.sync()
    churn(2, 400)
    check_kernel_log("before the cut")
    os.write(os.open("/proc/sysrq-trigger", os.O_WRONLY), b"b")
    await asyncio.sleep(60)


async def find() -> None:
    """Open it again, read everything, and have it checked."""
    disk = partition()
    await disk.open(SECURITY, KEY)
    assert (DATA / "kept").read_bytes() == b"kept"
    size = sum(len(file.read_bytes()) for file in DATA.rglob("*") if file.is_file())
    say(f"read {size >> 20} MiB")
    churn(3, 200)
    mounts = Path("/proc/mounts").read_text().splitlines()
    say(f"flags: {[line for line in mounts if 'xfs' in line]}")
    await LinuxFileSystems().unmount(str(DATA))
    for options in (["-n"], []):
        repair = ["xfs_repair", *options]
        done = await run_program(LinuxProcesses(), [*repair, "/dev/mapper/data"])
        say(f"{' '.join(repair)}: {done.code}")
    check_kernel_log("after the repair")
    await volume().close()
    await damage()


async def damage() -> None:
    """Damage the closed partition in every way, and say what opening it says."""
    await told("another key", DiskKey(bytes(32)))
    first, second, slot = 0, 16384, 32768
    with flipped(first + 600):
        await told("first header", KEY)
    with flipped(first + 600), flipped(second + 600):
        await told("both headers", KEY)
    with flipped(slot + 5000):
        await told("key slot", KEY)
    await tamper()
    await partition().wipe()
    await told("wiped", KEY)


async def tamper() -> None:
    """Flip a byte in every quarter MiB: what was not written like that must not be read."""
    disk = partition()
    await disk.open(SECURITY, KEY)
    before = {file: digest(file) for file in DATA.rglob("*") if file.is_file()}
    await LinuxFileSystems().unmount(str(DATA))
    await volume().close()
    size_bytes = await LinuxFileSystems().device_bytes(DEVICE)
    for offset in range(80 << 20, size_bytes, 1 << 18):
        flip(offset)
    disk, refused, wrong = partition(), 0, 0
    try:
        await disk.open(SECURITY, KEY)
        for file, expected in before.items():
            try:
                wrong += digest(file) != expected
            except OSError:
                refused += 1
    except MetropolisError as error:
        say(f"tampered: {error}")
        refused += 1
    say(f"tampered: {wrong} wrong, {'some' if refused else 'none'} refused")
    say(f"tampered: noticed {sum('INTEGRITY AEAD ERROR' in each for each in kernel_log()) > 0}")
    await LinuxFileSystems().unmount(str(DATA))
    await volume().close()


def digest(file: Path) -> bytes:
    return hashlib.sha256(file.read_bytes()).digest()


async def told(what: str, key: DiskKey) -> None:
    disk = partition()
    try:
        await disk.open(SECURITY, key)
    except MetropolisError as error:
        say(f"{what}: {error.code}: {error}. {error.remedy}")
    else:
        say(f"{what}: opened")
        await LinuxFileSystems().unmount(str(DATA))
        await volume().close()


def volume() -> Luks:
    return Luks(LinuxProcesses(), device=DEVICE, name="data")


@contextmanager
def flipped(offset: int) -> Iterator[None]:
    flip(offset)
    try:
        yield
    finally:
        flip(offset)


def flip(offset: int) -> None:
    descriptor = os.open(DEVICE, os.O_RDWR)
    try:
        before = os.pread(descriptor, 1, offset)
        os.pwrite(descriptor, bytes([before[0] ^ 0xFF]), offset)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


asyncio.run({"fill": fill, "find": find}[os.environ["PHASE"]]())
