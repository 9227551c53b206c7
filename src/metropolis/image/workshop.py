# SPDX-License-Identifier: Apache-2.0
"""The inputs of a build, opened, and the trees that are made of them."""

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from metropolis.base.errors import FailedPreconditionError
from metropolis.host.linux.debian.packages import Fetcher
from metropolis.image.compiling import Compiler
from metropolis.image.declaration import DECLARATION_FILE, Declaration, parse_declaration
from metropolis.image.initrd import imported_files, split_initrd
from metropolis.image.kernel_modules import INDEX_FILE, PLACE, ModuleCollection, ModuleSelection
from metropolis.image.manifest import PackageInput, WheelInput
from metropolis.image.product import os_release, product_info_json
from metropolis.image.ready_code import (
    INITRD,
    PACK_PLACE,
    Recording,
    pack_tree,
    record_imports,
    table_tree,
)
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
from metropolis.image.tree import File, Tree
from metropolis.image.wheels import choose, fetch_wheels, normal_name, wheel_tree

_KERNEL_PACKAGE: Final = re.compile(r"linux-image-\d.*-amd64")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """Debian's kernel."""

    version: str
    image: bytes
    modules: ModuleCollection


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """Everything that parts of an image are made of and with.

    Attributes:
        checkout: Holds `src/`, `images/` and `requirements.lock`.
        identity: Digest of the packages, part of the keys of what they make.
    """

    checkout: Path
    declaration: Declaration
    steps: Steps
    sysroot: Sysroot
    compiler: Compiler
    kernel: Kernel
    identity: str
    packages: Sequence[PackageInput]


def open_workshop(*, checkout: Path, cache: Path, fetcher: Fetcher, say: Say) -> Workshop:
    """Fetch and unpack what is not at hand yet.

    Args:
        cache: Directory of build steps.

    Raises:
        MetropolisError: an input is missing, or differs from its lock.
    """
    text = (checkout / DECLARATION_FILE).read_text(encoding="utf-8")
    declaration = parse_declaration(text)
    steps = Steps(directory=cache, say=say)
    kernel = _kernel_package(fetcher)
    names = [*declaration.packages, *declaration.tools]
    trees = fetcher.fetch_all([*names, kernel], pointers={kernel: declaration.kernel})
    identity = digest_of(*(trees[name].name for name in sorted(names)))
    root = steps.done(
        "sysroot",
        digest_of(identity, "merged places are links"),
        lambda scratch: merge_packages([trees[name] for name in names], scratch),
        title=f"unpacking {len(names)} packages",
    )
    sysroot = Sysroot(root=root)
    uses = {**dict.fromkeys(declaration.packages, "image"), kernel: "kernel"}
    return Workshop(
        checkout=checkout,
        declaration=declaration,
        steps=steps,
        sysroot=sysroot,
        compiler=Compiler(
            sysroot=sysroot,
            cache=cache / "bytecode",
            identity=trees["python3.13-minimal"].name,
            say=say,
        ),
        kernel=_open_kernel(trees[kernel], declaration, cache),
        identity=identity,
        packages=[
            PackageInput(
                package=fetcher.identify(name), tree=trees[name], use=uses.get(name, "tool")
            )
            for name in sorted(trees)
        ],
    )


def _kernel_package(fetcher: Fetcher) -> str:
    """Name of the locked kernel: Debian has the version in it."""
    for package in fetcher.locked():
        if _KERNEL_PACKAGE.fullmatch(package.name):
            return package.name
    raise FailedPreconditionError(
        "the package lock has no kernel", remedy="Run `make lock-packages`."
    )


def _open_kernel(tree: Path, declaration: Declaration, cache: Path) -> Kernel:
    (image,) = (tree / "boot").glob("vmlinuz-*")
    version = image.name.removeprefix("vmlinuz-")
    places = [tree / "usr/lib/modules" / version, tree / "lib/modules" / version]
    place = next(each for each in places if each.is_dir())
    modules = ModuleCollection(
        place=place,
        unpacked=cache / "kernel-modules" / tree.name,
        before=declaration.modules_before,
    )
    return Kernel(version=version, image=image.read_bytes(), modules=modules)


def open_wheels(shop: Workshop) -> Sequence[WheelInput]:
    """The locked wheels, fetched if need be."""
    lock = (shop.checkout / "requirements.lock").read_text(encoding="utf-8")
    chosen = choose(lock, shop.declaration.wheels)
    files = fetch_wheels(chosen, platforms=shop.declaration.wheel_platforms, steps=shop.steps)
    by_name = {normal_name(path.name.partition("-")[0]): path for path in files}
    return [
        WheelInput(name=each.name, version=each.version, file=by_name[each.name]) for each in chosen
    ]


def python_tree(
    shop: Workshop, wheels: Sequence[WheelInput], *, is_debug: bool
) -> tuple[Tree, Recording]:
    """The interpreter's library, wheels and our code, compiled; and what programs import of it."""
    declaration = shop.declaration
    sources = [
        stdlib_tree(shop.sysroot, declaration),
        wheel_tree([each.file for each in wheels], declaration),
        code_tree(shop.checkout / "src", declaration, is_debug=is_debug),
    ]
    compiled = shop.compiler.compiled(merged(sources))
    with tempfile.TemporaryDirectory(prefix="metropolis-ready-") as scratch:
        recording = record_imports(
            shop.compiler, compiled, site=declaration.site, scratch=Path(scratch)
        )
    tables = shop.compiler.compiled(table_tree(recording, site=declaration.site))
    python = merged([compiled, tables])
    return merged([python, pack_tree(recording, python, site=declaration.site)]), recording


def root_tree(shop: Workshop, python: Tree, info: Mapping[str, object]) -> Tree:
    """The whole root file system.

    Args:
        python: See `python_tree`.
        info: See `metropolis.image.product`.
    """
    declaration = shop.declaration
    selection = ModuleSelection(
        collection=shop.kernel.modules,
        always=declaration.boot_modules,
        hardware=[*declaration.hardware_modules, *declaration.initrd_hardware],
        on_demand=declaration.demanded_modules,
    )
    programs = program_tree(shop.sysroot, declaration)
    identity: dict[str, bytes] = {
        f"{PLACE}/{INDEX_FILE}": selection.index(),
        "etc/metropolis/product-info.json": product_info_json(info),
        "etc/os-release": os_release(info),
    }
    trees = [
        programs,
        library_tree([programs, python], shop.sysroot, declaration),
        python,
        selection.tree(),
        certificate_tree(shop.sysroot),
        declared_tree(declaration),
        Tree({path: File(content=content) for path, content in identity.items()}),
    ]
    return merged(trees)


def initrd_trees(shop: Workshop, python: Tree, recording: Recording) -> Sequence[Tree]:
    """The initrd's parts, in the order of unpacking.

    Args:
        python: See `python_tree`.
        recording: What the first program imports is in its pack, and in no file of its own.
    """
    declaration = shop.declaration
    imported = imported_files(shop.compiler, declaration, shop.checkout / "src")
    packed = {each.path for each in recording.modules[INITRD] if each.path.endswith(".pyc")}
    files = [name for name in map(_compiled_name, imported) if name not in packed]
    files.append(f"{declaration.site}/{PACK_PLACE.format(INITRD)}")
    programs = program_tree(shop.sysroot, declaration).entries
    wanted = Tree({name: python.entries[name] for name in files})
    interpreter = Tree(
        {name: entry for name, entry in programs.items() if name.endswith("/python3.13")}
    )
    libraries = library_tree([wanted, interpreter], shop.sysroot, declaration)
    selection = ModuleSelection(
        collection=shop.kernel.modules,
        always=declaration.initrd_kernel_modules,
        hardware=declaration.initrd_hardware,
    )
    return split_initrd(merged([wanted, interpreter, libraries]), selection, declaration)


def _compiled_name(source: str) -> str:
    return source.removesuffix(".py") + ".pyc" if source.endswith(".py") else source
