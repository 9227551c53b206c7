# SPDX-License-Identifier: Apache-2.0
"""The initrd: the interpreter, what the first program imports, and modules of the boot disk.

What it imports is found by importing it, with the image's Python on the build machine.
"""

import json
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from metropolis.formats.cpio import CpioEntry, build
from metropolis.image.compiling import PYTHON, Compiler
from metropolis.image.declaration import Declaration
from metropolis.image.kernel_modules import INITRD_INDEX_FILE, PLACE, ModuleSelection
from metropolis.image.tree import DIRECTORY_MODE, FILE_MODE, PROGRAM_MODE, File, Folder, Link, Tree

INIT: Final = "init"
_INIT_TEXT: Final = """\
#!/{python} -IS
import sys
sys.path.append("/{site}")
from metropolis.node.boot.ready_modules import offer, withdraw
found = offer("initrd")
from metropolis.node.boot.ready_code import use
use("initrd")
from {module} import main
withdraw(found)
del found
main()
"""
# Beside what the kernel makes itself; the loader looks for libraries in /lib/x86_64-linux-gnu, too.
_LINKS: Final = {"bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64", "sbin": "usr/sbin"}
_FOLDERS: Final = ("dev", "proc", "root", "run", "sys")
_CONSOLE: Final = CpioEntry(path="dev/console", mode=stat.S_IFCHR | 0o600, device=(5, 1))
# Printed are the files of every module that was loaded from one, by their place.
_TRACE: Final = """\
import importlib, json, sys
sys.path.append(sys.argv[1])
for name in sys.argv[2:]:
    importlib.import_module(name)
specs = [module.__spec__ for module in list(sys.modules.values()) if module.__spec__]
print(json.dumps(sorted(spec.origin for spec in specs if spec.has_location)))
"""
# The interpreter finds its library by this file, which it otherwise has inside.
_LANDMARK: Final = "os.py"


def imported_files(compiler: Compiler, declaration: Declaration, source: Path) -> Sequence[str]:
    """Paths on the image of the sources and extension modules that the first program loads.

    Args:
        source: The directory that holds our package.
    """
    names = [declaration.initrd_module, *declaration.initrd_imports]
    printed = compiler.run("-c", _TRACE, str(source), *names)
    library = compiler.sysroot.root / declaration.stdlib
    found = [f"{declaration.stdlib}/{_LANDMARK}"]
    for text in json.loads(printed):
        path = Path(text)
        if path.is_relative_to(library):
            found.append(f"{declaration.stdlib}/{path.relative_to(library)}")
        else:
            found.append(f"{declaration.site}/{path.relative_to(source)}")
    return tuple(dict.fromkeys(found))


def split_initrd(
    python_files: Tree, modules: ModuleSelection, declaration: Declaration
) -> tuple[Tree, Tree]:
    """The initrd in two: what changes with packages only, and our own code.

    The kernel unpacks one after the other; so a change of our code packs little again.

    Args:
        python_files: Interpreter, libraries, bytecode and extension modules.
    """
    ours = Tree(
        {
            path: entry
            for path, entry in python_files.entries.items()
            if path.startswith(f"{declaration.site}/")
        }
    )
    text = _INIT_TEXT.format(python=PYTHON, site=declaration.site, module=declaration.initrd_module)
    ours.add(INIT, File(content=text.encode(), is_program=True))
    theirs = Tree(
        {path: entry for path, entry in python_files.entries.items() if path not in ours.entries}
    ).merged(modules.tree())
    theirs.add(f"{PLACE}/{INITRD_INDEX_FILE}", File(content=modules.index()))
    for path, target in _LINKS.items():
        theirs.add(path, Link(target=target))
    for path in _FOLDERS:
        theirs.add(path, Folder())
    return theirs, ours


def pack(tree: Tree) -> bytes:
    """The archive that the kernel unpacks, not compressed."""
    entries = [_entry(path, each) for path, each in tree.walk()]
    for at, each in enumerate(entries):
        if each.path == "dev":
            entries.insert(at + 1, _CONSOLE)
            break
    return build(entries)


def _entry(path: str, entry: File | Link | Folder) -> CpioEntry:
    match entry:
        case File(is_program=is_program):
            mode = PROGRAM_MODE if is_program else FILE_MODE
            return CpioEntry(path=path, mode=stat.S_IFREG | mode, data=entry.read())
        case Link(target=target):
            return CpioEntry(path=path, mode=stat.S_IFLNK | 0o777, data=target.encode())
        case Folder():
            return CpioEntry(path=path, mode=stat.S_IFDIR | DIRECTORY_MODE | stat.S_IWUSR)
