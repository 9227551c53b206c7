# SPDX-License-Identifier: Apache-2.0
"""Kernel modules: which files a wish needs, in which order, and which hardware asks for them.

There is no modprobe on a node: everything that it would find out at run time is found out here and
written beside the modules. Modules stay as Debian signed them, only unpacked.
"""

import lzma
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from metropolis.base.errors import NotFoundError
from metropolis.formats import module_list
from metropolis.image.elf import section
from metropolis.image.tree import File, Tree

PLACE: Final = "usr/lib/modules"
INDEX_FILE: Final = module_list.FILE
INITRD_INDEX_FILE: Final = "initrd.json"
_SUFFIX: Final = ".ko.xz"
_BUSES: Final = frozenset(
    {"acpi", "auxiliary", "pci", "platform", "scsi", "usb", "virtio", "vmbus"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelModule:
    """One module file.

    Attributes:
        name: As the kernel shows it, with underscores.
        content: The file, unpacked; the signature is at its end.
        depends: Names of modules to load before.
        wishes: Names that are loaded before if this kernel has them as modules.
        aliases: Patterns (fnmatch) of bus names that ask for it.
    """

    name: str
    content: bytes
    depends: Sequence[str]
    wishes: Sequence[str]
    aliases: Sequence[str]

    @property
    def file_name(self) -> str:
        """Its name on a node."""
        return f"{self.name}.ko"


@dataclass(slots=True)
class ModuleCollection:
    """The modules of one kernel package.

    Attributes:
        place: Its directory `usr/lib/modules/<version>`.
        unpacked: A directory that keeps what was unpacked; it depends on the package alone.
        before: What else to load before a module: algorithms that it asks the kernel for by name.
    """

    place: Path
    unpacked: Path
    before: Mapping[str, str] = field(default_factory=dict[str, str])
    _read: dict[str, KernelModule] = field(default_factory=dict[str, KernelModule])
    _paths: dict[str, Path] = field(default_factory=dict[str, Path])
    _builtin: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for path in sorted(self.place.glob(f"kernel/**/*{_SUFFIX}")):
            self._paths[_plain(path.name.removesuffix(_SUFFIX))] = path
        listed = (self.place / "modules.builtin").read_text(encoding="utf-8").split()
        self._builtin = frozenset(_plain(Path(line).stem) for line in listed)

    def module(self, name: str) -> KernelModule:
        """One module by name.

        Raises:
            NotFoundError: this kernel does not have it.
        """
        plain = _plain(name)
        if plain not in self._read:
            if plain not in self._paths:
                raise NotFoundError(
                    f"the kernel {self.place.name} has no module {name}",
                    remedy="Correct the name in images/node.toml.",
                )
            self._read[plain] = _parse(plain, self._content(plain))
        return self._read[plain]

    def _content(self, plain: str) -> bytes:
        kept = self.unpacked / f"{plain}.ko"
        if kept.exists():
            return kept.read_bytes()
        content = lzma.decompress(self._paths[plain].read_bytes())
        self.unpacked.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=self.unpacked)
        with os.fdopen(descriptor, "wb") as output:
            output.write(content)
        Path(temporary).rename(kept)
        return content

    def in_order(self, name: str) -> Sequence[KernelModule]:
        """The module and what it needs, dependencies first; nothing if it is built in.

        Raises:
            NotFoundError: this kernel does not have it.
        """
        if _plain(name) in self._builtin:
            return ()
        ordered: dict[str, KernelModule] = {}
        self._append(_plain(name), ordered)
        return tuple(ordered.values())

    def _append(self, name: str, ordered: dict[str, KernelModule]) -> None:
        module = self.module(name)
        wishes = [wish for wish in module.wishes if wish in self._paths]
        for needed in (*module.depends, *wishes, *self.before.get(name, "").split()):
            if needed not in self._builtin and needed not in ordered:
                self._append(needed, ordered)
        ordered[name] = module


@dataclass(frozen=True, kw_only=True)
class ModuleSelection:
    """What an image takes of a collection.

    Attributes:
        always: Loaded by name.
        hardware: Loaded when a bus name asks for it.
        on_demand: Loaded when somebody asks for it by name.
    """

    collection: ModuleCollection
    always: Sequence[str]
    hardware: Sequence[str]
    on_demand: Sequence[str] = ()

    @cached_property
    def orders(self) -> Mapping[str, Sequence[KernelModule]]:
        """For every wanted module: itself and what it needs, dependencies first."""
        wanted = sorted({*self.always, *self.hardware, *self.on_demand})
        return {_plain(name): self.collection.in_order(name) for name in wanted}

    def tree(self) -> Tree:
        """The module files, below `PLACE`."""
        files = Tree()
        for modules in self.orders.values():
            for each in modules:
                files.add(f"{PLACE}/{each.file_name}", File(content=each.content))
        return files

    def index(self) -> bytes:
        """The list of modules for a node, see `metropolis.formats.module_list`."""
        hardware = {_plain(name) for name in self.hardware}
        return module_list.encode(
            module_list.ModuleList(
                boot=[_plain(name) for name in self.always],
                modules={
                    name: module_list.KernelModule(
                        files=[each.file_name for each in modules],
                        aliases=modules[-1].aliases if name in hardware and modules else (),
                    )
                    for name, modules in self.orders.items()
                },
            )
        )


def _parse(name: str, content: bytes) -> KernelModule:
    fields: list[tuple[str, str]] = []
    for each in section(content, ".modinfo").split(b"\0"):
        key, equals, value = each.decode(errors="replace").partition("=")
        if equals:
            fields.append((key, value))
    depends = [other for key, value in fields if key == "depends" for other in value.split(",")]
    wishes = [other for key, value in fields if key == "softdep" for other in _before(value)]
    return KernelModule(
        name=name,
        content=content,
        depends=tuple(_plain(other) for other in depends if other),
        wishes=tuple(map(_plain, wishes)),
        aliases=tuple(_aliases(value for key, value in fields if key == "alias")),
    )


def _aliases(values: Iterable[str]) -> Iterator[str]:
    """Those of real buses: others are for a modprobe that the kernel would start."""
    for value in values:
        alias = value.replace("acpi*:", "acpi:", 1)  # devices only ever say "acpi:"
        if alias.partition(":")[0] in _BUSES:
            yield alias


def _before(softdep: str) -> Sequence[str]:
    """Names after `pre:`; what comes after `post:` loads when somebody asks for it."""
    return softdep.partition("pre:")[2].partition("post:")[0].split()


def _plain(name: str) -> str:
    return name.replace("-", "_")
