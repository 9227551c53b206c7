# SPDX-License-Identifier: Apache-2.0
"""The machine under us, as narrow protocols. `linux` is real; `sim` is the verified fake.

Refuses policy: nothing here decides, retries or logs. `main` builds one `Host` and hands it down;
nobody imports an edge. Both implementations pass the same contract tests.

    Clock      monotonic seconds for durations, wall time for people and certificates
    Entropy    random bytes
    Directory  a subtree of files, written atomically and durably
    Processes  external programs with captured output, killed with their whole group
    Names      this machine's host name and what names resolve to
    KernelFigures  what the kernel says of itself, for metrics
    KernelTracer  which functions of the kernel run, for debug images
    Tpm        a trusted platform module that answers one command at a time
    FileSystems  on block devices: mounted, unmounted, overwritten
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Final, Protocol

STANDARD_INPUT_BYTES_MAX: Final = 32 << 10  # a pipe takes it at once, whoever reads it when


class Clock(Protocol):
    """Time. Durations come from `monotonic_s`; `wall` is for certificates and people.

    Waiting is done on the running event loop, whose time is virtual in a simulation.
    """

    def monotonic_s(self) -> float:
        """Seconds since an arbitrary start; never goes back, unaffected by clock steps."""
        ...

    def wall(self) -> datetime:
        """The current time, aware and in UTC. May step in either direction."""
        ...


class Entropy(Protocol):
    """Randomness: of the kernel on a machine, of the seed in a simulation."""

    def token_bytes(self, count: int) -> bytes:
        """Return `count` bytes fit for keys and secrets."""
        ...

    def jitter(self) -> Random:
        """Return a new generator for back-off jitter: never for secrets."""
        ...


class Directory(Protocol):
    """A subtree of files that one owner keeps. Paths are relative, with `/`, without `..`.

    A write is atomic and durable: after it returns a power cut leaves the new content, before
    that the old one, never a mixture. Missing files raise `FileNotFoundError`, a full disk
    raises `OSError` (ENOSPC).
    """

    async def read(self, path: str) -> bytes: ...

    async def write(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Create or replace a file; parents are created with mode 0700."""
        ...

    async def overwrite(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Replace a file's content where it lies: durably, but a power cut may tear it.

        For one of two copies on a file system without a journal, where other writers' way, a new
        file renamed over the old one, risks more than that file.
        """
        ...

    async def remove(self, path: str) -> None:
        """Remove a file, durably. Removing a file that is not there is fine."""
        ...

    async def remove_tree(self, path: str) -> None:
        """Remove a directory and everything in it. Not there is fine."""
        ...

    async def exists(self, path: str) -> bool: ...

    async def list(self, path: str) -> Sequence[str]:
        """Names inside a directory, sorted; empty when it does not exist."""
        ...

    async def make_directory(self, path: str, *, mode: int = 0o700) -> None: ...

    async def free_bytes(self) -> int:
        """How much more can be written."""
        ...

    def absolute(self, path: str) -> str:
        """The path as another program of this machine must spell it."""
        ...


class Process(Protocol):
    """A running program, leader of its own process group."""

    pid: int

    async def receive_line(self) -> tuple[str, bytes] | None:
        """Return ("stdout" | "stderr", line without its newline), or None after both closed.

        Lines are cut at 16 KiB. Cancel-safe. Exactly one reader at a time.
        """
        ...

    async def wait(self) -> int:
        """Wait for the exit; negative numbers are signals, as in the standard library."""
        ...

    def terminate(self) -> None:
        """Send SIGTERM to the whole group; harmless after the exit."""
        ...

    def kill(self) -> None:
        """Send SIGKILL to the whole group; harmless after the exit."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """What to run. Arguments are public (every process of the machine can read them).

    Attributes:
        environment: The whole of it; nothing is inherited.
        standard_input: What the program reads until its end, None for nothing: the way for a
            secret. At most `STANDARD_INPUT_BYTES_MAX`.
    """

    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    working_directory: str | None = None
    standard_input: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        assert len(self.standard_input or b"") <= STANDARD_INPUT_BYTES_MAX


class Processes(Protocol):
    """Starts external programs."""

    async def spawn(self, spec: ProcessSpec) -> Process:
        """Start a program.

        Raises:
            UnavailableError: it cannot be executed; the message names the program.
        """
        ...


class Names(Protocol):
    """Host name and static name resolution of this machine."""

    async def set_host_name(self, name: str) -> None: ...

    async def set_hosts(self, addresses: Mapping[str, str]) -> None:
        """Replace what names resolve to: name -> literal IP address."""
        ...


class Tpm(Protocol):
    """A trusted platform module, version 2. What it is told and answers is `protocols.tpm2`."""

    async def transact(self, command: bytes) -> bytes:
        """Send a command and return its response, whatever the response says. One at a time.

        Raises:
            UnavailableError: the device does not answer.
        """
        ...


class FileSystems(Protocol):
    """File systems on block devices."""

    async def mount(
        self, device: str, target: str, kind: str, *, flags: Sequence[str], options: str = ""
    ) -> None:
        """Mount a device at a directory, which is created if it is missing.

        Args:
            flags: Some of nodev, noexec, nosuid, ro.
            options: What the file system itself understands, separated by commas.

        Raises:
            FailedPreconditionError: the kernel refuses.
        """
        ...

    async def unmount(self, target: str) -> None:
        """Unmount a directory, for whoever still uses it, too. Nothing mounted there is fine."""
        ...

    async def zero(self, device: str, *, offset_bytes: int, size_bytes: int) -> None:
        """Write zeros to a range of a device, durably; also while another range is mounted.

        Raises:
            UnavailableError: the device fails.
        """
        ...

    async def device_bytes(self, device: str) -> int:
        """How large a device is.

        Raises:
            UnavailableError: there is no such device.
        """
        ...

    async def usage(self, target: str) -> tuple[int, int]:
        """How much of its device a mounted XFS uses, and how much of that is free, in bytes."""
        ...

    async def file_bytes(self, path: str) -> int | None:
        """How large a file is; None when there is none."""
        ...

    async def set_file_bytes(self, path: str, size_bytes: int) -> None:
        """Make a file as large as that, durably, and have the disk keep room for all of it.

        Raises:
            ResourceExhaustedError: there is not so much room. The file is empty, then.
        """
        ...

    async def grow_xfs(self, target: str, size_bytes: int) -> None:
        """Let a mounted XFS use more of its device.

        Raises:
            FailedPreconditionError: the kernel refuses.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSystemFigures:
    """Room of a mounted file system: bytes and inodes, in all, free, and free for programs."""

    size_bytes: int
    free_bytes: int
    available_bytes: int
    inodes: int
    free_inodes: int
    is_read_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockFigures:
    """How the kernel keeps time, as adjtimex(2) says.

    Attributes:
        offset_s: Between the clock and its reference, as far as not yet slewed.
        frequency_ratio: How fast the clock is made to run; 1 is its own pace.
        is_synchronized: Whether a program has disciplined it lately.
        tai_offset_s: TAI minus UTC.
    """

    offset_s: float
    frequency_ratio: float
    maximum_error_s: float
    estimated_error_s: float
    status: int
    time_constant: int
    tick_s: float
    tai_offset_s: float
    is_synchronized: bool


class KernelFigures(Protocol):
    """What the kernel says of itself. Quick: nothing here waits for a disk or a network."""

    def read(self, path: str) -> str:
        """Return a file below /proc or /sys.

        Raises:
            OSError: this kernel has no such file, or does not tell now.
        """
        ...

    def list(self, path: str) -> Sequence[str]:
        """Names in a directory below /proc or /sys, sorted; empty when it does not exist."""
        ...

    def file_system(self, mount_point: str) -> FileSystemFigures:
        """Ask a mounted file system for its room.

        Raises:
            OSError: there is none, or it does not answer.
        """
        ...

    def clock(self) -> ClockFigures:
        """Ask how the clock is kept.

        Raises:
            OSError: the kernel does not tell.
        """
        ...

    def system(self) -> Mapping[str, str]:
        """Return what uname(2) says: sysname, nodename, release, version, machine, domainname."""
        ...


class KernelTracer(Protocol):
    """Traces the kernel's functions, for whoever debugs it. One trace at a time."""

    def trace(
        self, tracer: str, *, functions: Sequence[str], graph_functions: Sequence[str]
    ) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """Trace while the block runs; yields lines as the kernel writes them.

        Args:
            tracer: One that this kernel has, e.g. "function_graph".
            functions: Only these; empty: all.
            graph_functions: Only these and what they call; empty: all.

        Raises:
            FailedPreconditionError: the kernel has no such tracer or function, or no tracing.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Everything a node may touch. Built once in `main`, then handed down; never a global."""

    clock: Clock
    entropy: Entropy
    storage: Directory  # persistent: the declared tree of metropolis.node.storage
    ephemeral: Directory  # gone at every start: sockets, run-time files
    processes: Processes
    names: Names
    addresses: Sequence[str]  # literal IP addresses of this node, the external one first
    boot_id: bytes  # 16 bytes, new at every start of the node
