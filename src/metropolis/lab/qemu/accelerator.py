# SPDX-License-Identifier: Apache-2.0
"""Whether KVM runs guests here. Many computers have the device and then abort: so one is booted.

The guest is sixty-four kibibytes of ROM whose only program writes one byte to a port that ends
QEMU with that byte. What was found holds until the computer boots again, and is kept in a cache.
"""

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from metropolis.base.errors import InvalidArgumentError, UnavailableError
from metropolis.host.linux.programs import run_program
from metropolis.lab.qemu.arguments import QEMU, Accelerator, processor

VARIABLE: Final = "METROPOLIS_ACCELERATOR"
_DEVICE: Final = Path("/dev/kvm")
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_PROBE_TIMEOUT_S: Final = 10.0
_ROM_BYTES: Final = 64 * 1024
_RESET_VECTOR: Final = _ROM_BYTES - 16  # where a processor begins
_PORT: Final = 0x501
_WORD: Final = 42
_EXIT_CODE: Final = _WORD << 1 | 1  # of QEMU, when its guest writes the word there
# wait; fninit; cpuid (what firmware does early, and half a KVM cannot);
# mov dx, port; mov al, word; out dx, al; hlt
_PROGRAM: Final = b"\x9b\xdb\xe3\x0f\xa2\xba%b\xb0%c\xee\xf4" % (_PORT.to_bytes(2, "little"), _WORD)
_SAID: Final = f"failed with exit code {_EXIT_CODE}"


def choose_accelerator(environment: Mapping[str, str]) -> Accelerator:
    """Return how guests run best on this computer.

    Raises:
        InvalidArgumentError: METROPOLIS_ACCELERATOR names nothing that exists.
    """
    if chosen := environment.get(VARIABLE):
        try:
            return Accelerator(chosen)
        except ValueError as cause:
            raise InvalidArgumentError(
                f"{VARIABLE} is {chosen[:32]!r}",
                remedy=f"Set {VARIABLE} to kvm or tcg, or unset it.",
            ) from cause
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        return Accelerator.EMULATION
    base = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return remembered_or(
        lambda: runs_guests(Accelerator.KVM),
        cache=Path(base) / "metropolis" / "accelerator.json",
        this_boot=_BOOT_ID.read_text(encoding="ascii").strip(),
    )


def remembered_or(runs_on_kvm: Callable[[], bool], *, cache: Path, this_boot: str) -> Accelerator:
    """Return what was found since the computer booted; find it out and remember it otherwise."""
    try:
        record = json.loads(cache.read_bytes())
        if record["boot"] == this_boot:
            return Accelerator(record["accelerator"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # never found out, or by somebody who wrote it differently
    found = Accelerator.KVM if runs_on_kvm() else Accelerator.EMULATION
    with contextlib.suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        cache.write_text(json.dumps({"boot": this_boot, "accelerator": found}), encoding="ascii")
    return found


def runs_guests(accelerator: Accelerator) -> bool:
    """Boot the smallest guest with this accelerator; say whether it ran."""
    rom = os.memfd_create("probe")
    try:
        os.write(rom, probe_rom())
        # fmt: off
        argv = [
            QEMU, *processor(accelerator), "-m", "64",
            "-nodefaults", "-no-user-config", "-display", "none", "-vga", "none",
            "-bios", f"/proc/{os.getpid()}/fd/{rom}",
            "-device", f"isa-debug-exit,iobase={_PORT:#x},iosize=1",
        ]
        # fmt: on
        run_program(argv, timeout_s=_PROBE_TIMEOUT_S)
    except UnavailableError as error:
        return _SAID in str(error)
    finally:
        os.close(rom)
    return False  # nothing but our guest's byte ends it, and that is never 0


def probe_rom() -> bytes:
    """The smallest guest."""
    return (bytes(_RESET_VECTOR) + _PROGRAM).ljust(_ROM_BYTES, b"\0")
