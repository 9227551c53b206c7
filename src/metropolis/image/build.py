# SPDX-License-Identifier: Apache-2.0
"""Builds an image: locked inputs in, `system.img`, `kernel.efi` and `image.json` out."""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from metropolis.base.errors import FailedPreconditionError
from metropolis.host.linux.debian.packages import Fetcher
from metropolis.image.compiling import Compiler
from metropolis.image.declaration import DECLARATION_FILE, Declaration, parse_declaration
from metropolis.image.enrolment import enrolment_files
from metropolis.image.initrd import imported_files, initrd_trees, pack
from metropolis.image.kernel_image import KernelImage, unified_kernel
from metropolis.image.kernel_modules import (
    INDEX_FILE,
    PLACE,
    ModuleCollection,
    ModuleSelection,
)
from metropolis.image.keys import open_keys
from metropolis.image.product import os_release, product_info, product_info_json, read_revision
from metropolis.image.root_tree import (
    certificate_tree,
    code_tree,
    declared_tree,
    library_tree,
    merged,
    program_tree,
    stdlib_tree,
)
from metropolis.image.steps import Say, Steps, digest_of
from metropolis.image.sysroot import Sysroot, merge_packages
from metropolis.image.system import SYSTEM_FILE, SystemPartition, compress_initrd, make_system
from metropolis.image.tree import File, Tree
from metropolis.image.wheels import choose, fetch_wheels, wheel_tree

KERNEL_FILE: Final = "kernel.efi"
DESCRIPTION_FILE: Final = "image.json"
_STUB: Final = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
_KERNEL_PACKAGE: Final = re.compile(r"linux-image-\d.*(?<!cloud)-amd64")
_TOOLS_IDENTITY: Final = "tools"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kernel:
    version: str
    image: bytes
    modules: ModuleCollection


@dataclass(frozen=True, slots=True, kw_only=True)
class _Workshop:
    """What every part of the build needs."""

    request: BuildRequest
    declaration: Declaration
    steps: Steps
    sysroot: Sysroot
    compiler: Compiler
    kernel: _Kernel
    identity: str


def build_image(request: BuildRequest) -> Mapping[str, object]:
    """Build; return what image.json says.

    Raises:
        MetropolisError: an input is missing, differs from its lock, or a tool failed.
    """
    keys = open_keys(request.keys, checkout=request.checkout)
    shop = _open_workshop(request)
    info = product_info(
        read_revision(request.checkout),
        components={"linux": shop.kernel.version},
        is_debug=request.is_debug,
    )
    python = _python_tree(shop)
    system = make_system(
        _root(shop, python, info), shop.sysroot, identity=shop.identity, steps=shop.steps
    )
    initrd = b"".join(
        compress_initrd(archive, shop.sysroot, identity=shop.identity, steps=shop.steps)
        for archive in _initrd(shop, python)
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
    _publish(
        request.output,
        system=system,
        files={
            KERNEL_FILE: kernel.content,
            DESCRIPTION_FILE: json.dumps(description, indent=1, sort_keys=True).encode() + b"\n",
            "pcr-public.pem": keys["pcr"].public_pem,
            **{f"enrolment/{name}": each for name, each in enrolment_files(keys).items()},
        },
    )
    return description


def _open_workshop(request: BuildRequest) -> _Workshop:
    text = (request.checkout / DECLARATION_FILE).read_text(encoding="utf-8")
    declaration = parse_declaration(text)
    steps = Steps(directory=request.cache, say=request.say)
    kernel_package = _kernel_package(request.fetcher)
    names = [*declaration.packages, *declaration.tools]
    trees = request.fetcher.fetch_all([*names, kernel_package])
    identity = digest_of(*(trees[name].name for name in sorted(names)))
    root = steps.done(
        "sysroot",
        identity,
        lambda scratch: merge_packages([trees[name] for name in names], scratch),
        title=f"unpacking {len(names)} packages",
    )
    sysroot = Sysroot(root=root)
    compiler = Compiler(
        sysroot=sysroot,
        cache=request.cache / "bytecode",
        identity=trees["python3.13-minimal"].name,
        say=request.say,
    )
    kernel = _open_kernel(trees[kernel_package], declaration)
    return _Workshop(
        request=request,
        declaration=declaration,
        steps=steps,
        sysroot=sysroot,
        compiler=compiler,
        kernel=kernel,
        identity=identity,
    )


def _kernel_package(fetcher: Fetcher) -> str:
    """Name of the locked kernel: Debian has the version in it."""
    for package in fetcher.locked():
        if _KERNEL_PACKAGE.fullmatch(package.name):
            return package.name
    raise FailedPreconditionError(
        "the package lock has no kernel", remedy="Run `make lock-packages`."
    )


def _open_kernel(tree: Path, declaration: Declaration) -> _Kernel:
    (image,) = (tree / "boot").glob("vmlinuz-*")
    version = image.name.removeprefix("vmlinuz-")
    places = [tree / "usr/lib/modules" / version, tree / "lib/modules" / version]
    place = next(each for each in places if each.is_dir())
    modules = ModuleCollection(place=place, before=declaration.modules_before)
    return _Kernel(version=version, image=image.read_bytes(), modules=modules)


def _python_tree(shop: _Workshop) -> Tree:
    """The interpreter's library, wheels and our code, compiled."""
    declaration, request = shop.declaration, shop.request
    lock = (request.checkout / "requirements.lock").read_text(encoding="utf-8")
    wheels = fetch_wheels(
        choose(lock, declaration.wheels), platforms=declaration.wheel_platforms, steps=shop.steps
    )
    sources = merged(
        [
            stdlib_tree(shop.sysroot, declaration),
            wheel_tree(wheels, declaration),
            code_tree(request.checkout / "src", declaration, is_debug=request.is_debug),
        ]
    )
    return shop.compiler.compiled(sources)


def _root(shop: _Workshop, python: Tree, info: Mapping[str, object]) -> Tree:
    declaration = shop.declaration
    selection = ModuleSelection(
        collection=shop.kernel.modules,
        always=declaration.boot_modules,
        hardware=[*declaration.hardware_modules, *declaration.initrd_hardware],
    )
    programs = program_tree(shop.sysroot, declaration)
    identity = Tree(
        {
            f"{PLACE}/{INDEX_FILE}": File(content=selection.index()),
            "etc/metropolis/product-info.json": File(content=product_info_json(info)),
            "etc/os-release": File(content=os_release(info)),
        }
    )
    return merged(
        [
            programs,
            library_tree([programs, python], shop.sysroot, declaration),
            python,
            selection.tree(),
            certificate_tree(shop.sysroot),
            declared_tree(declaration),
            identity,
        ]
    )


def _initrd(shop: _Workshop, python: Tree) -> Sequence[bytes]:
    declaration = shop.declaration
    imported = imported_files(shop.compiler, declaration, shop.request.checkout / "src")
    wanted = Tree({name: python.entries[name] for name in map(_compiled_name, imported)})
    interpreter = Tree(
        {
            name: entry
            for name, entry in program_tree(shop.sysroot, declaration).entries.items()
            if name.endswith("/python3.13")
        }
    )
    libraries = library_tree([wanted, interpreter], shop.sysroot, declaration)
    selection = ModuleSelection(
        collection=shop.kernel.modules,
        always=declaration.initrd_kernel_modules,
        hardware=declaration.initrd_hardware,
    )
    files = merged([wanted, interpreter, libraries])
    return [pack(tree) for tree in initrd_trees(files, selection, declaration)]


def _compiled_name(source: str) -> str:
    return source.removesuffix(".py") + ".pyc" if source.endswith(".py") else source


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
