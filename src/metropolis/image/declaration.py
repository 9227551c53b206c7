# SPDX-License-Identifier: Apache-2.0
"""What images/node.toml says, as values. A word that nobody reads is an error, not a silence."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from metropolis.base.errors import InvalidArgumentError

DECLARATION_FILE: Final = "images/node.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """One image's inputs. Paths are relative to the root of the image.

    Attributes:
        text: The declaration as it was written, for cache keys.
        packages: Debian packages whose files may come into the image.
        tools: Debian packages that are only run, or only lie beside the image.
        kernel: Package that leads to the newest kernel's.
        programs: Executable files, by their path in their package.
        library_places: Directories in which shared libraries are looked for.
        stdlib: Directory of Python's standard library.
        stdlib_without: Glob patterns relative to it.
        wheels: Names of distributions in requirements.lock.
        wheel_platforms: Tags of pip, the oldest C library first.
        site: Directory of wheels and our own code.
        wheels_without: Glob patterns of names of files and directories in wheels.
        rooms: Rooms of our own code.
        code_without: Paths relative to our package, which a node never runs.
        code_debug: Paths relative to our package that only a debug image has.
        initrd_module: The first program.
        initrd_imports: Sequence[str]
    initrd_kernel_modules: Kernel modules it loads always.
        initrd_hardware: Kernel modules of disks that it loads for the buses of this machine.
        boot_modules: Kernel modules loaded by name later.
        demanded_modules: Kernel modules loaded by name when somebody wants what they do.
        hardware_modules: Kernel modules loaded for the buses of this machine later.
        modules_before: What else to load before a kernel module, separated by spaces.
        files: Content by path.
        links: Targets by path.
        directories: Directories that are empty on the image.
    """

    text: str
    packages: Sequence[str]
    tools: Sequence[str]
    kernel: str
    programs: Sequence[str]
    library_places: Sequence[str]
    stdlib: str
    stdlib_without: Sequence[str]
    wheels: Sequence[str]
    wheel_platforms: Sequence[str]
    site: str
    wheels_without: Sequence[str]
    rooms: Sequence[str]
    code_without: Sequence[str]
    code_debug: Sequence[str]
    initrd_module: str
    initrd_imports: Sequence[str]
    initrd_kernel_modules: Sequence[str]
    initrd_hardware: Sequence[str]
    boot_modules: Sequence[str]
    demanded_modules: Sequence[str]
    hardware_modules: Sequence[str]
    modules_before: Mapping[str, str]
    files: Mapping[str, str]
    links: Mapping[str, str]
    directories: Sequence[str]


def parse_declaration(text: str) -> Declaration:
    """Read a declaration.

    Raises:
        InvalidArgumentError: a table or a word is missing, unknown or of the wrong type.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as cause:
        raise InvalidArgumentError(
            f"{DECLARATION_FILE} is not TOML: {cause}", remedy="Correct it."
        ) from cause
    reader = _Reader(tables)
    declaration = Declaration(
        text=text,
        packages=reader.names("packages", "names"),
        tools=reader.names("packages", "tools"),
        kernel=reader.text("packages", "kernel"),
        programs=reader.names("programs", "names"),
        library_places=reader.names("programs", "library_places"),
        stdlib=reader.text("python", "place"),
        stdlib_without=reader.names("python", "without"),
        wheels=reader.names("wheels", "names"),
        wheel_platforms=reader.names("wheels", "platforms"),
        site=reader.text("wheels", "place"),
        wheels_without=reader.names("wheels", "without"),
        rooms=reader.names("code", "rooms"),
        code_without=reader.names("code", "without"),
        code_debug=reader.names("code", "debug"),
        initrd_module=reader.text("initrd", "module"),
        initrd_imports=reader.names("initrd", "imports"),
        initrd_kernel_modules=reader.names("initrd", "kernel_modules"),
        initrd_hardware=reader.names("initrd", "hardware"),
        boot_modules=reader.names("kernel_modules", "boot"),
        demanded_modules=reader.names("kernel_modules", "on_demand"),
        hardware_modules=reader.names("kernel_modules", "hardware"),
        modules_before=reader.mapping("kernel_modules_before"),
        files=reader.mapping("files"),
        links=reader.mapping("links"),
        directories=reader.names("directories", "names"),
    )
    reader.refuse_the_rest()
    return declaration


class _Reader:
    """Takes words out of tables, and knows what was not taken."""

    def __init__(self, tables: Mapping[str, object]) -> None:
        self._tables: dict[str, dict[str, object]] = {}
        for name, table in tables.items():
            if not isinstance(table, dict):
                raise _wrong(name)
            self._tables[name] = {str(key): value for key, value in table.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  # of a TOML file: checked right here

    def text(self, table: str, word: str) -> str:
        value = self._take(table, word)
        if not isinstance(value, str) or not value:
            raise _wrong(f"{table}.{word}")
        return value

    def names(self, table: str, word: str) -> Sequence[str]:
        value = self._take(table, word)
        if not isinstance(value, list):
            raise _wrong(f"{table}.{word}")
        names = [each for each in value if isinstance(each, str)]  # pyright: ignore[reportUnknownVariableType]  # of a TOML file: checked right here
        if len(names) != len(value) or len(set(names)) != len(names):  # pyright: ignore[reportUnknownArgumentType]  # of a TOML file: checked right here
            raise _wrong(f"{table}.{word}")
        return tuple(names)

    def mapping(self, table: str) -> Mapping[str, str]:
        taken = self._tables.pop(table, {})
        texts = {word: value for word, value in taken.items() if isinstance(value, str)}
        if len(texts) != len(taken):
            raise _wrong(table)
        return texts

    def refuse_the_rest(self) -> None:
        for table, words in self._tables.items():
            for word in words:
                raise _wrong(f"{table}.{word}")

    def _take(self, table: str, word: str) -> object:
        try:
            return self._tables[table].pop(word)
        except KeyError:
            raise _wrong(f"{table}.{word}") from None


def _wrong(where: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"{where} in {DECLARATION_FILE} is missing, unknown or of another kind than expected",
        remedy="Compare it with the attributes of metropolis.image.declaration.Declaration.",
    )
