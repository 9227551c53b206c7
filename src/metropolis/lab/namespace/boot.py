# SPDX-License-Identifier: Apache-2.0
"""Turns a machine on: makes its namespaces, plugs it in, and becomes process 1 inside.

Run by the keeper as a program of its own, with one argument: the JSON of a `BootSpec`. It ends
when process 1 ends, with its exit code (128 + n after signal n).
"""

import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, NoReturn

from metropolis.base.errors import FailedPreconditionError, MetropolisError
from metropolis.host.linux import mounts
from metropolis.host.linux.links import configure_links
from metropolis.host.linux.namespaces import Namespaces, die_with_parent, enter_new_namespaces
from metropolis.lab import network

# Inside a machine these are the same everywhere, and short: unix sockets have 107 characters.
RUN: Final = Path("/run")
STORAGE: Final = RUN / "node" / "storage"
EPHEMERAL: Final = RUN / "node" / "ephemeral"
TEMPORARY: Final = RUN / "tmp"
HOSTS: Final = Path("/etc/hosts")

_RUN_OPTIONS: Final = "mode=0755,size=256m"
_ETC: Final[Mapping[str, str]] = {
    "hosts": "127.0.0.1 localhost\n::1 localhost ip6-localhost\n",
    "resolv.conf": "# The lab has no name server: nodes know each other through the hosts file.\n",
}
_GO: Final = b"1"


@dataclass(frozen=True, slots=True, kw_only=True)
class BootSpec:
    """What a machine is made of. Public: it is an argument.

    Attributes:
        number: The node's number.
        address: Its literal IP address.
        port: What the rack's end of its cable is called.
        part: Which part of the network it is plugged into.
        is_link_up: Whether its cable is in.
        host_name: What the kernel answers before the node says otherwise.
        storage: Directory of this computer that is the machine's disk.
        hidden: Directory that the machine must not see: other machines' disks are in it.
        argv: What process 1 becomes.
        environment: Its whole environment.
    """

    number: int
    address: str
    port: str
    part: int
    is_link_up: bool
    host_name: str
    storage: str
    hidden: str
    argv: Sequence[str]
    environment: Mapping[str, str]

    def to_argument(self) -> str:
        """Spell it as the program's one argument."""
        return json.dumps(asdict(self))


def main() -> NoReturn:
    """Boot the machine that the argument describes."""
    spec = BootSpec(**json.loads(sys.argv[1]))
    try:
        code = _boot(spec)
    except MetropolisError as error:
        print(f"error: {error}\nremedy: {error.remedy}", file=sys.stderr)
        code = 1
    sys.exit(code)


def _boot(spec: BootSpec) -> int:
    """Stay outside until process 1 ends; return its exit code."""
    # The keeper signals our whole group: process 1 is meant, we only wait for it.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    ready_read, ready_write = os.pipe()
    go_read, go_write = os.pipe()
    enter_new_namespaces(Namespaces.PID)  # from here on our children live inside the machine
    process_id = os.fork()
    if process_id == 0:
        os.close(ready_read)
        os.close(go_write)
        _become_process_1(spec, ready=ready_write, go=go_read)
    os.close(ready_write)
    os.close(go_read)
    if os.read(ready_read, 1) == _GO:
        configure_links(
            network.plug_in_process(
                spec.number, port=spec.port, part=spec.part, is_up=spec.is_link_up
            )
        )
        os.write(go_write, _GO)
    _, status = os.waitpid(process_id, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _become_process_1(spec: BootSpec, *, ready: int, go: int) -> NoReturn:
    """Set the machine up from inside, then replace ourselves by the node's program."""
    try:
        die_with_parent()
        enter_new_namespaces(
            Namespaces.MOUNT | Namespaces.NETWORK | Namespaces.UTS | Namespaces.IPC
        )
        os.write(ready, _GO)
        if os.read(go, 1) != _GO:
            os._exit(1)  # whoever booted us died; we may have missed the signal
        configure_links(network.set_up_machine(spec.address))
        socket.sethostname(spec.host_name)
        _set_up_mounts(spec)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.chdir("/")
        os.execvpe(spec.argv[0], list(spec.argv), dict(spec.environment))  # noqa: S606
    except (MetropolisError, OSError) as error:
        print(f"error: the machine cannot boot: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def _set_up_mounts(spec: BootSpec) -> None:
    """A machine sees the host's files read-only, its own disk, and memory for the rest."""
    mounts.keep_mounts_private()
    disk = os.open(spec.storage, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            mounts.set_read_only(Path("/"), recursive=True)
        except FailedPreconditionError as error:  # an old kernel, or a container's locked mounts
            print(f"warning: the host's files stay writable: {error}", file=sys.stderr, flush=True)
        mounts.mount_new("proc", Path("/proc"), flags=_NO_PROGRAMS)
        mounts.mount_new("tmpfs", RUN, flags=_NO_DEVICES, options=_RUN_OPTIONS)
        for directory in (STORAGE, EPHEMERAL, TEMPORARY):
            directory.mkdir(mode=0o700, parents=True)
        mounts.bind(Path(f"/proc/self/fd/{disk}"), STORAGE)
        mounts.set_writable(STORAGE)
        mounts.mount_new("tmpfs", Path(spec.hidden), flags=_NO_DEVICES, options="mode=0700,size=4k")
    finally:
        os.close(disk)
    _set_up_etc(spec)


def _set_up_etc(spec: BootSpec) -> None:
    """Give the machine names of its own; files that this host lacks are not missed."""
    own = RUN / "etc"
    own.mkdir()
    for name, text in {**_ETC, "hostname": f"{spec.host_name}\n"}.items():
        target = Path("/etc") / name
        if not os.path.lexists(target):
            continue
        (own / name).write_text(text, encoding="ascii")
        place = target.resolve()
        if place.is_relative_to(RUN):  # a link into the host's /run, which is hidden
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
        mounts.bind(own / name, place)


_NO_DEVICES: Final = mounts.MS_NOSUID | mounts.MS_NODEV
_NO_PROGRAMS: Final = _NO_DEVICES | mounts.MS_NOEXEC


if __name__ == "__main__":
    main()
