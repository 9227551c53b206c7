# SPDX-License-Identifier: Apache-2.0
"""Builds an image: locked inputs in, `system.img`, `kernel.efi` and `image.json` out."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from metropolis.host.linux.debian.packages import Fetcher
from metropolis.image.enrolment import enrolment_files
from metropolis.image.initrd import pack
from metropolis.image.kernel_image import KernelImage, unified_kernel
from metropolis.image.keys import open_keys
from metropolis.image.licences import licence_files
from metropolis.image.manifest import MANIFEST_FILE, ImageInputs, manifest_json
from metropolis.image.product import os_release, product_info, read_revision
from metropolis.image.sbom import SBOM_FILE, sbom_json
from metropolis.image.steps import Say, digest_of
from metropolis.image.system import SYSTEM_FILE, SystemPartition, compress_initrd, make_system
from metropolis.image.workshop import (
    initrd_trees,
    open_wheels,
    open_workshop,
    python_tree,
    root_tree,
)

KERNEL_FILE: Final = "kernel.efi"
DESCRIPTION_FILE: Final = "image.json"
PUBLIC_KEY_FILE: Final = "pcr-public.pem"
ENROLMENT: Final = "enrolment"
_STUB: Final = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """What to build, and where.

    Attributes:
        checkout: Holds `src/`, `images/` and `requirements.lock`.
        output: Directory of the image; replaced as a whole.
        cache: Directory of build steps.
        keys: Directory of the builder's keys.
        is_debug: With the debug service, and called so.
        fetcher: Gets the Debian packages.
        say: Told one line per step that takes time.
    """

    checkout: Path
    output: Path
    cache: Path
    keys: Path
    is_debug: bool
    fetcher: Fetcher
    say: Say


def build_image(request: BuildRequest) -> Mapping[str, object]:
    """Build; return what image.json says.

    Raises:
        MetropolisError: an input is missing, differs from its lock, or a tool failed.
    """
    keys = open_keys(request.keys, checkout=request.checkout)
    shop = open_workshop(
        checkout=request.checkout, cache=request.cache, fetcher=request.fetcher, say=request.say
    )
    info = product_info(
        read_revision(request.checkout),
        components={"linux": shop.kernel.version},
        is_debug=request.is_debug,
    )
    wheels = open_wheels(shop)
    python, recording = python_tree(shop, wheels, is_debug=request.is_debug)
    root = root_tree(shop, python, info)
    system = make_system(root, shop.sysroot, identity=shop.identity, steps=shop.steps)
    parts = initrd_trees(shop, python, recording)
    initrd = b"".join(
        compress_initrd(pack(part), shop.sysroot, identity=shop.identity, steps=shop.steps)
        for part in parts
    )
    kernel = unified_kernel(
        stub=shop.sysroot.path(_STUB).read_bytes(),
        kernel=shop.kernel.image,
        kernel_version=shop.kernel.version,
        initrd=initrd,
        os_release=os_release(info),
        seal=system.seal,
        keys=keys,
    )
    description = _describe(info, system, kernel)
    inputs = ImageInputs(
        packages=shop.packages,
        wheels=wheels,
        root=root,
        initrd=sorted(path for part in parts for path in part.entries),
        declaration=shop.declaration,
    )
    listed = manifest_json(inputs)
    files = {
        KERNEL_FILE: kernel.content,
        DESCRIPTION_FILE: json.dumps(description, indent=1, sort_keys=True).encode() + b"\n",
        MANIFEST_FILE: listed,
        SBOM_FILE: sbom_json(inputs, json.loads(listed), info),
        PUBLIC_KEY_FILE: keys["pcr"].public_pem,
        **licence_files(inputs, checkout=request.checkout),
    }
    files |= {f"{ENROLMENT}/{name}": each for name, each in enrolment_files(keys).items()}
    _publish(request.output, system=system, files=files)
    return description


def _describe(
    info: Mapping[str, object], system: SystemPartition, kernel: KernelImage
) -> Mapping[str, object]:
    with system.path.open("rb") as file:
        system_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    unsigned = hashlib.sha256(kernel.unsigned).hexdigest()
    return {
        "format": 1,
        "product_info": info,
        "root_hash": system.seal.root_hash,
        "data_blocks": system.seal.data_blocks,
        "salt": system.seal.salt,
        "command_line": system.seal.command_line,
        "pcr11": kernel.pcr11,
        # Equal for everybody who builds the same sources, whatever their keys.
        "digest_without_signatures": digest_of(system_sha256, unsigned),
        "files": {
            SYSTEM_FILE: {"sha256": system_sha256, "size_bytes": system.path.stat().st_size},
            KERNEL_FILE: {
                "sha256": hashlib.sha256(kernel.content).hexdigest(),
                "size_bytes": len(kernel.content),
            },
        },
    }


def _publish(output: Path, *, system: SystemPartition, files: Mapping[str, bytes]) -> None:
    """Replace the output directory: readers see the old image or the new one."""
    output.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}-"))
    try:
        shutil.copyfile(system.path, scratch / SYSTEM_FILE)
        for name, content in files.items():
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            (scratch / name).write_bytes(content)
        scratch.chmod(0o755)
        if output.exists():
            old = scratch.with_name(f"{scratch.name}.old")
            output.rename(old)
            scratch.rename(output)
            shutil.rmtree(old)
        else:
            scratch.rename(output)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
