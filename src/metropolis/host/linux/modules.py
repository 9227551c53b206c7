# SPDX-License-Identifier: Apache-2.0
"""Kernel modules, loaded by their files. No modprobe: what depends on what was listed before."""

import ctypes
import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from metropolis.base.errors import FailedPreconditionError
from metropolis.formats import module_list

# Of init_module(2): finit_module has IMA hash the file a second time and extend PCR 10 by it, which
# says nothing that PCR 11 and dm-verity have not said. The signature is checked either way.
_SYS_INIT_MODULE: Final = {"x86_64": 175, "aarch64": 105}

IMAGE_MODULES: Final = Path("/usr/lib/modules")
_PARAMETERS: Final = {"bonding.ko": "max_bonds=0"}  # else it makes a bond0 that nobody asked for
_BUSES: Final = Path("/sys/bus")
_LOADED: Final = Path("/proc/modules")
_MODALIAS_BYTES_MAX: Final = 4096

_libc: Final = ctypes.CDLL(None, use_errno=True)


def load_module(path: Path, parameters: str = "") -> bool:
    """Load one module, whose dependencies are loaded already.

    Returns:
        False if it was loaded before, or the machine has nothing that it drives.

    Raises:
        FailedPreconditionError: the kernel refuses it; the message names the module.
    """
    number = _SYS_INIT_MODULE[os.uname().machine]
    try:
        image = path.read_bytes()
    except OSError as cause:
        raise _refused(path, cause) from cause
    result = _libc.syscall(
        ctypes.c_long(number),
        ctypes.c_char_p(image),
        ctypes.c_ulong(len(image)),
        ctypes.c_char_p(parameters.encode("ascii")),
    )
    code = ctypes.get_errno()
    if result == 0:
        return True
    if code in {errno.EEXIST, errno.ENODEV}:
        return False
    refusal = OSError(code, os.strerror(code))
    raise _refused(path, refusal) from refusal


def loaded_modules(*, place: Path = _LOADED) -> frozenset[str]:
    """Names of the modules that the kernel has, with underscores; none where it cannot load any."""
    try:
        lines = place.read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return frozenset()
    return frozenset(line.partition(" ")[0] for line in lines)


def load_on_demand(name: str, *, place: Path = IMAGE_MODULES) -> None:
    """Load a module that few machines need, with what it needs.

    Elsewhere than on a system image this does nothing: there the kernel finds modules by itself.

    Raises:
        FailedPreconditionError: the kernel refuses it.
    """
    try:
        listed = module_list.decode((place / module_list.FILE).read_bytes())
    except FileNotFoundError:
        return
    for file in module_list.files_to_load(listed, [name]):
        load_module(place / file, _PARAMETERS.get(file, ""))


def modaliases(buses: Iterable[str], *, place: Path = _BUSES) -> Iterator[str]:
    """Yield what these buses say of every device on them, whether it has a driver or not."""
    for bus in buses:
        try:
            devices = os.listdir(place / bus / "devices")  # noqa: PTH208  # names are wanted
        except OSError:
            continue  # this machine has no such bus
        for device in devices:
            try:
                descriptor = os.open(
                    f"{place}/{bus}/devices/{device}/modalias", os.O_RDONLY | os.O_CLOEXEC
                )
            except OSError:
                continue  # not every device has one
            try:
                yield os.read(descriptor, _MODALIAS_BYTES_MAX).decode("ascii", "replace").strip()
            finally:
                os.close(descriptor)


def _refused(path: Path, cause: OSError) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"cannot load the kernel module {path.name}: {cause.strerror}",
        remedy="Install an image again whose kernel and modules were built together.",
    )
