# SPDX-License-Identifier: Apache-2.0
"""The system partition: a compressed read-only file system, followed by its hash tree."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from metropolis.formats.verity import BLOCK_BYTES, hash_tree
from metropolis.image.kernel_image import SystemSeal
from metropolis.image.root_tree import content_digest
from metropolis.image.steps import Steps, digest_of
from metropolis.image.sysroot import Sysroot
from metropolis.image.tree import Tree, write_tar

SYSTEM_FILE: Final = "system.img"
_MKFS: Final = "usr/bin/mkfs.erofs"
_ZSTD: Final = "usr/bin/zstd"
# Fast to unpack under emulation, and a third less to read; 64 KiB at once.
_COMPRESSION: Final = ("-zlz4hc,9", "-C65536")
_FIXED: Final = ("-T0", "-Uc1b9d5a2-f162-11cf-9ece-0020afc76f16", "--all-root", "--quiet")
_ZSTD_LEVEL: Final = "-19"
_CHUNK_BYTES: Final = 1 << 20
_TIMEOUT_S: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemPartition:
    """Where the partition's content is, and how it is verified."""

    path: Path
    seal: SystemSeal


def make_system(tree: Tree, sysroot: Sysroot, *, identity: str, steps: Steps) -> SystemPartition:
    """Pack a tree.

    Args:
        identity: Digest of the tools.
    """
    key = digest_of(content_digest([tree]), identity, *_COMPRESSION, *_FIXED)
    place = steps.done(
        "system",
        key,
        lambda scratch: _make(tree, sysroot, scratch),
        title="compressing and hashing the system",
    )
    root_hash, blocks, salt = (place / "seal").read_text(encoding="ascii").split()
    seal = SystemSeal(root_hash=root_hash, data_blocks=int(blocks), salt=salt)
    return SystemPartition(path=place / SYSTEM_FILE, seal=seal)


def compress_initrd(archive: bytes, sysroot: Sysroot, *, identity: str, steps: Steps) -> bytes:
    """Compress an initrd for the kernel."""

    def make(scratch: Path) -> None:
        (scratch / "initrd").write_bytes(archive)
        options = [_ZSTD_LEVEL, "-q", "--single-thread", "--rm"]
        sysroot.run(_ZSTD, *options, str(scratch / "initrd"), timeout_s=_TIMEOUT_S)

    key = digest_of(archive, identity, _ZSTD_LEVEL)
    return (steps.done("initrd", key, make, title="packing the initrd") / "initrd.zst").read_bytes()


def _make(tree: Tree, sysroot: Sysroot, scratch: Path) -> None:
    archive, image = scratch / "root.tar", scratch / SYSTEM_FILE
    with archive.open("wb") as output:
        write_tar(tree, output)
    options = [*_COMPRESSION, *_FIXED, "--tar=f"]
    sysroot.run(_MKFS, *options, str(image), str(archive), timeout_s=_TIMEOUT_S)
    archive.unlink()
    with image.open("r+b") as file:
        file.truncate(-(-image.stat().st_size // BLOCK_BYTES) * BLOCK_BYTES)
        salt = hashlib.file_digest(file, "sha256").digest()
    verified = hash_tree(_pieces(image), salt)
    with image.open("ab") as file:
        file.write(verified.tree)
    text = f"{verified.root_hash.hex()} {verified.data_blocks} {salt.hex()}\n"
    (scratch / "seal").write_text(text, encoding="ascii")


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_CHUNK_BYTES):
            yield piece
