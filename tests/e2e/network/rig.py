# SPDX-License-Identifier: Apache-2.0
"""Network namespaces for tests: one that the test is in, others with servers at the far end.

test's thread: [ port0 ]────veth────[ far0 ] neighbour's namespace: dnsmasq, chronyd, a scanner
"""

import asyncio
import contextlib
import shutil
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from metropolis.host.linux.namespaces import Namespaces, enter_new_namespaces

T = TypeVar("T")


def in_new_network(scenario: Callable[[], Awaitable[T]]) -> T:
    """Run a scenario on a loop of its own, in a thread that has a network of its own."""
    results: list[T] = []
    errors: list[BaseException] = []

    async def bounded() -> T:
        async with asyncio.timeout(30):
            return await scenario()

    def body() -> None:
        try:
            enter_new_namespaces(Namespaces.NETWORK)
            ip("link set lo up")
            results.append(asyncio.run(bounded()))
        except BaseException as error:  # noqa: BLE001  # carried to the test's own thread
            errors.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def ip(*commands: str) -> None:
    """Run `ip` here."""
    for command in commands:
        subprocess.run(["ip", *command.split()], check=True, capture_output=True)


class Neighbour:
    """Another machine. Its programs end with it."""

    def __init__(self) -> None:
        unshare = shutil.which("unshare")
        assert unshare is not None
        self._holder = subprocess.Popen(
            [unshare, "--net", "sh", "-c", "echo ready; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n"
        self._programs: list[subprocess.Popen[str]] = []
        self.ip("link set lo up")

    def cable(self, near: str, far: str, *addresses: str) -> None:
        """Plug a cable in between a new link here and a new link there; ours stays down."""
        ip(f"link add {near} type veth peer name {far} netns {self._holder.pid}")
        for address in addresses:
            self.ip(f"addr add {address} dev {far}")
        self.ip(f"link set {far} up")

    def ip(self, *commands: str) -> None:
        """Run `ip` there."""
        for command in commands:
            self.run(["ip", *command.split()])

    def run(self, argv: Sequence[str]) -> str:
        """Run a program there to its end; return what it printed."""
        done = subprocess.run(
            [*self._enter(), *argv], check=True, capture_output=True, text=True, timeout=60
        )
        return done.stdout

    def start(self, argv: Sequence[str], *, ready: str) -> "subprocess.Popen[str]":
        """Start a program there; wait until a line of its output contains `ready`."""
        program = subprocess.Popen(
            [*self._enter(), *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._programs.append(program)
        assert program.stdout is not None
        seen: list[str] = []
        for line in program.stdout:
            seen.append(line)
            if ready in line:
                return program
        raise AssertionError(f"{argv[0]} ended: {''.join(seen)}")

    def stop(self, program: "subprocess.Popen[str]") -> None:
        """End a program that `start` gave."""
        program.kill()
        program.communicate()
        self._programs.remove(program)

    def close(self) -> None:
        """Switch the machine off."""
        for program in [*self._programs]:
            self.stop(program)
        self._holder.kill()
        self._holder.communicate()

    def _enter(self) -> list[str]:
        return ["nsenter", "--target", str(self._holder.pid), "--net"]


@contextlib.contextmanager
def neighbour() -> Iterator[Neighbour]:
    """A neighbour that is gone afterwards."""
    machine = Neighbour()
    try:
        yield machine
    finally:
        machine.close()


# Prints the DHCP client's datagrams and the gratuitous ARP that come in.
SNIFF = """
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
s.bind((sys.argv[1], 3))
print("listening", flush=True)
while True:
    data, (_, kind, direction, *_) = s.recvfrom(65536)
    if direction == socket.PACKET_OUTGOING:
        continue
    if kind == 0x0806 and data[14:18] == data[24:28]:
        print("ARP", socket.inet_ntoa(data[14:18]), socket.inet_ntoa(data[24:28]), flush=True)
    if kind == 0x0800 and data[9] == 17 and data[22:24] == b"\\0\\x43":
        assert data[1] == 0xE0
        print("UDP", data[28:].decode("ascii", "replace"), flush=True)
"""
