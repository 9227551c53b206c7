# SPDX-License-Identifier: Apache-2.0
"""Turns a virtual machine on: opens its cable, starts its TPM, and becomes QEMU.

Run by the keeper, in the rack's network, as a program of its own with one argument: the JSON of a
`BootSpec`. QEMU takes our place, so whoever started us sees it end; the TPM is its child and dies
with it.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from metropolis.base.errors import FailedPreconditionError, MetropolisError
from metropolis.host.linux.links import configure_links
from metropolis.host.linux.namespaces import die_with_parent
from metropolis.host.linux.taps import open_tap
from metropolis.lab.qemu.arguments import (
    MEMORY,
    MONITOR,
    PARAMETERS_PORT,
    TPM_STATE,
    Accelerator,
    Disk,
    Hardware,
    qemu_argv,
    swtpm_argv,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BootSpec:
    """What to switch on. Public: it is an argument.

    Attributes:
        directory: The machine's own; every path in `hardware` is relative to it.
        links: `ip` commands that plug the cable in, after it exists.
    """

    directory: str
    hardware: Hardware
    links: Sequence[str] = ()

    def to_argument(self) -> str:
        """Spell it as the program's one argument."""
        return json.dumps(asdict(self))


def argv(spec: BootSpec) -> Sequence[str]:
    """The command that switches a machine on."""
    return (sys.executable, "-m", "metropolis.lab.qemu.boot", spec.to_argument())


def spec_from_argument(text: str) -> BootSpec:
    """Read what `to_argument` wrote."""
    record: Mapping[str, Any] = json.loads(text)
    hardware = dict(record["hardware"])
    hardware["disks"] = tuple(Disk(**disk) for disk in hardware["disks"])
    hardware["forward"] = tuple((ours, guests) for ours, guests in hardware["forward"])
    hardware["accelerator"] = Accelerator(hardware["accelerator"])
    return BootSpec(
        directory=record["directory"],
        hardware=Hardware(**hardware),
        links=tuple(record["links"]),
    )


def main() -> NoReturn:
    """Boot the machine that the argument describes."""
    spec = spec_from_argument(sys.argv[1])
    try:
        os.chdir(spec.directory)
        for name in (MONITOR, PARAMETERS_PORT):  # of a machine that was cut: whoever asks must wait
            Path(name).unlink(missing_ok=True)
        _become_qemu(spec)
    except (MetropolisError, OSError) as error:
        print(f"error: the machine cannot be switched on: {error}", file=sys.stderr, flush=True)
    sys.exit(1)


def _become_qemu(spec: BootSpec) -> NoReturn:
    tap = open_tap(spec.hardware.tap) if spec.hardware.tap else None
    if spec.links:
        configure_links(spec.links)
    tpm = _start_tpm() if spec.hardware.has_tpm else None
    words = qemu_argv(
        spec.hardware,
        tpm_descriptor=tpm,
        tap_descriptor=tap,
        memory_descriptor=_take_memory(),
    )
    os.execvp(words[0], list(words))  # noqa: S606  # no shell is wanted


def _take_memory() -> int | None:
    """Open what the machine was doing when it was put away, and forget it.

    It must never go on there twice: its disk has gone on since.
    """
    try:
        descriptor = os.open(MEMORY, os.O_RDONLY)
    except FileNotFoundError:
        return None
    Path(MEMORY).unlink()
    os.set_inheritable(descriptor, True)
    return descriptor


def _start_tpm() -> int:
    """Start the TPM as our child; return our end of its control socket."""
    if not Path(TPM_STATE).is_dir():
        raise FailedPreconditionError(
            "the machine has no TPM", remedy="Delete the cluster and launch it again."
        )
    ours, theirs = socket.socketpair()
    words = list(swtpm_argv(control_descriptor=theirs.fileno()))
    if shutil.which(words[0]) is None:
        raise FailedPreconditionError(f"cannot run {words[0]}", remedy="Run `make setup`.")
    # QEMU has our process id, so the kernel ends the TPM with it. A terminal's ^C is not for it.
    subprocess.Popen(  # noqa: S603  # its arguments are ours
        words,
        stdin=subprocess.DEVNULL,
        pass_fds=(theirs.fileno(),),
        preexec_fn=_prepare_tpm,  # noqa: PLW1509  # two system calls, before any thread exists
    )
    theirs.close()
    ours.set_inheritable(True)
    return ours.detach()


def _prepare_tpm() -> None:
    die_with_parent()
    # Asked to end, the group ends: QEMU first, and the TPM with its connection.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


if __name__ == "__main__":
    main()
