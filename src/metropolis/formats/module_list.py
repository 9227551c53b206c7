# SPDX-License-Identifier: Apache-2.0
"""Which kernel modules an image has, and which of them a machine loads: modules.json, initrd.json.

    {"boot": ["dm_verity", …],                        loaded on every machine
     "modules": {"virtio_net": {"files": ["failover.ko", "net_failover.ko", "virtio_net.ko"],
                                "aliases": ["virtio:d00000001v*"]}, …}}

`files` are in the order of loading, the module itself last. What is not in `boot` is loaded where
a device's modalias matches one of the module's aliases (kernel, scripts/mod/file2alias.c); what has
no aliases here is loaded when somebody asks for it by name.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from metropolis.base.errors import DataLossError

FILE: Final = "modules.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelModule:
    """A module and what it needs.

    Attributes:
        files: Names of files, dependencies first, its own last.
        aliases: Patterns of the devices that it drives, with the kernel's `*`, `?` and `[…]`.
    """

    files: Sequence[str]
    aliases: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleList:
    """All modules of one root file system, by name with underscores.

    Attributes:
        boot: Names of those that every machine loads, in this order.
    """

    boot: Sequence[str]
    modules: Mapping[str, KernelModule]


def encode(modules: ModuleList) -> bytes:
    """Return the file; equal lists give equal bytes."""
    assert all(name in modules.modules for name in modules.boot)
    content = {
        "boot": list(modules.boot),
        "modules": {
            name: {"files": list(each.files), "aliases": list(each.aliases)}
            for name, each in sorted(modules.modules.items())
        },
    }
    return json.dumps(content, indent=1, sort_keys=True).encode("ascii")


def decode(data: bytes) -> ModuleList:
    """Read the file.

    Raises:
        DataLossError: it is none of ours.
    """
    try:
        content = json.loads(data)
        return ModuleList(
            boot=tuple(content["boot"]),
            modules={
                name: KernelModule(files=tuple(each["files"]), aliases=tuple(each["aliases"]))
                for name, each in content["modules"].items()
            },
        )
    except (ValueError, KeyError, TypeError, AttributeError) as cause:
        raise DataLossError(
            "the list of kernel modules is damaged", remedy="Install this node's image again."
        ) from cause


def files_to_load(modules: ModuleList, names: Iterable[str]) -> Sequence[str]:
    """Return the files of these modules, dependencies first, each once. Unknown names are none."""
    files: dict[str, None] = {}
    for name in names:
        module = modules.modules.get(name)
        if module is not None:
            files.update(dict.fromkeys(module.files))
    return tuple(files)


def buses(modules: ModuleList) -> Sequence[str]:
    """Return on which buses devices can be for which a module is chosen, sorted."""
    found = {alias.partition(":")[0] for each in modules.modules.values() for alias in each.aliases}
    return tuple(sorted(found))


def matching(modules: ModuleList, modaliases: Iterable[str]) -> Sequence[str]:
    """Return the names of the modules that drive any of these devices, sorted."""
    by_bus: dict[str, list[str]] = {}
    for modalias in modaliases:
        by_bus.setdefault(modalias.partition(":")[0], []).append(modalias)
    texts = {bus: "\n" + "\n".join(dict.fromkeys(each)) for bus, each in by_bus.items()}
    return tuple(
        name
        for name, module in sorted(modules.modules.items())
        if any(_matches(alias, texts.get(alias.partition(":")[0], "")) for alias in module.aliases)
    )


def _matches(alias: str, text: str) -> bool:
    """Tell whether the alias matches any line of the text; each line follows a newline."""
    # Nearly every alias of the thousands is ruled out by what it begins with: to compile them all
    # took an emulated processor a second and more, at every look.
    literal = alias.partition("*")[0].partition("?")[0].partition("[")[0]
    if f"\n{literal}" not in text:
        return False
    pattern = re.escape(alias).replace(r"\*", ".*").replace(r"\?", ".")
    pattern = pattern.replace(r"\[", "[").replace(r"\]", "]").replace(r"\-", "-")
    return re.search(f"^{pattern}$", text, re.MULTILINE) is not None
