# SPDX-License-Identifier: Apache-2.0
"""A machine without parameters waits for its hypervisor's, over a real channel."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from metropolis.api import configuration_pb2
from metropolis.host.linux.clock import LinuxClock
from metropolis.host.linux.directory import LinuxDirectory
from metropolis.host.linux.virtio_port import VirtioPort, find_port
from metropolis.lab.qemu.arguments import PARAMETERS_PORT
from metropolis.lab.qemu.late_parameters import hand_over
from metropolis.node.boot.awaited_parameters import Pace, lacks_parameters, wait_for_parameters
from metropolis.node.boot.parameters_port import PORT_NAME
from metropolis.node.parameters import PARAMETERS_BYTES_MAX
from metropolis.node.storage import (
    COPY_SUFFIX,
    ENROLMENT_RECORD,
    FAREWELL,
    PARAMETERS,
    SEALED_CONFIGURATION,
    NodeStorage,
    Place,
)
from metropolis.supervision import LogTree

GOOD = configuration_pb2.NodeParameters(
    cluster_bootstrap=configuration_pb2.NodeParameters.ClusterBootstrap(owner_public_key=bytes(32))
).SerializeToString()


PACE = Pace(look_s=0.001, silence_s=0.05, say_again_s=0.02)


def framed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "little") + data


class Wire:
    """The machine's end of a channel to which the hypervisor comes and goes, as of virtio-serial.

    A socket per visit; with nobody there it reads an end of file and drops what is written.
    """

    def __init__(self) -> None:
        self._ours: socket.socket | None = None
        self._all: list[socket.socket] = []

    def visit(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        theirs.settimeout(5)
        self._all.append(theirs)
        self.plug(ours)
        return theirs

    def plug(self, ours: socket.socket) -> None:
        ours.setblocking(False)
        self._all.append(ours)
        self._ours = ours

    def close(self) -> None:
        for each in self._all:
            each.close()

    def read(self, size: int) -> bytes | None:
        if self._ours is None:
            return b""
        try:
            return self._ours.recv(size)
        except BlockingIOError:
            return None

    def write(self, data: bytes) -> None:
        if self._ours is not None:
            self._ours.send(data)


def converse(tmp_path: Path, visitor: Callable[[Wire], Awaitable[None]]) -> bytes | None:
    """Let a machine wait and somebody visit it; return the parameters that it has then."""
    storage = NodeStorage(LinuxDirectory(tmp_path / "store"))
    wire = Wire()

    async def scenario() -> bytes | None:
        log = LogTree(clock=LinuxClock()).leveled("machine")
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            tasks.create_task(wait_for_parameters(storage, wire, log=log, pace=PACE))
            await visitor(wire)
        return await storage.read(PARAMETERS)

    try:
        return asyncio.run(scenario())
    finally:
        wire.close()


async def hear(theirs: socket.socket, words: bytes) -> bytes:
    """Read lines until one begins so."""
    with theirs.makefile("rb") as lines:
        while not (line := await asyncio.to_thread(lines.readline)).startswith(words):
            assert line
    return line


def test_parameters_are_on_the_disk_when_the_machine_says_so(tmp_path: Path) -> None:
    async def visitor(wire: Wire) -> None:
        theirs = wire.visit()
        await hear(theirs, b"waiting for node parameters")
        message = framed(GOOD)
        theirs.send(message[:7])
        await asyncio.sleep(0.01)
        theirs.send(message[7:])
        await hear(theirs, b"taken")
        assert (tmp_path / "store" / PARAMETERS.path).read_bytes() == GOOD

    assert converse(tmp_path, visitor) == GOOD


@pytest.mark.parametrize(
    "bad", [framed(b""), framed(b"\xff" * 9), (PARAMETERS_BYTES_MAX + 1).to_bytes(4, "little")]
)
def test_bad_parameters_are_refused_and_good_ones_awaited(tmp_path: Path, bad: bytes) -> None:
    async def visitor(wire: Wire) -> None:
        with wire.visit() as theirs:
            theirs.send(bad)
            await hear(theirs, b"refused: node parameters")
            theirs.send(framed(GOOD))  # nobody knows where this begins
        await asyncio.sleep(0.01)
        assert not (tmp_path / "store" / PARAMETERS.path).exists()
        theirs = wire.visit()
        theirs.send(framed(GOOD))
        await hear(theirs, b"taken")

    assert converse(tmp_path, visitor) == GOOD


@pytest.mark.parametrize("is_noticed", [True, False])
def test_half_a_message_of_a_sender_that_went_away_is_forgotten(
    tmp_path: Path, *, is_noticed: bool
) -> None:
    async def visitor(wire: Wire) -> None:
        theirs = wire.visit()
        await hear(theirs, b"waiting")
        theirs.send(framed(GOOD)[:9])
        if is_noticed:
            theirs.close()
            await asyncio.sleep(0.01)
            theirs = wire.visit()
        await hear(theirs, b"waiting")
        theirs.send(framed(GOOD))
        await hear(theirs, b"taken")

    assert converse(tmp_path, visitor) == GOOD


def test_the_lab_hands_them_over_to_a_machine_that_comes_later(tmp_path: Path) -> None:
    path = tmp_path / PARAMETERS_PORT

    async def visitor(wire: Wire) -> None:
        async with asyncio.TaskGroup() as tasks:
            handing = tasks.create_task(hand_over(tmp_path, GOOD))
            await asyncio.sleep(0.01)  # it is off
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(str(path))
                server.listen()
                cut, _ = await asyncio.to_thread(server.accept)
                cut.close()  # it lost its power
                accepted, _ = await asyncio.to_thread(server.accept)
            accepted.send(b"what a firmware shows\n")
            wire.plug(accepted)
            await handing

    assert converse(tmp_path, visitor) == GOOD


def lacks(tmp_path: Path) -> bool:
    return asyncio.run(lacks_parameters(NodeStorage(LinuxDirectory(tmp_path))))


def test_a_fresh_machine_lacks_parameters(tmp_path: Path) -> None:
    assert lacks(tmp_path)


@pytest.mark.parametrize("place", [PARAMETERS, SEALED_CONFIGURATION, ENROLMENT_RECORD, FAREWELL])
def test_a_machine_that_was_told_or_was_a_node_never_listens(tmp_path: Path, place: Place) -> None:
    names = (place.path, place.path + COPY_SUFFIX) if place.is_kept_twice else (place.path,)
    for name in names:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"something")
        assert not lacks(tmp_path)
        file.unlink()
    assert lacks(tmp_path)


def test_the_port_is_found_by_its_name(tmp_path: Path) -> None:
    assert find_port(PORT_NAME, ports=tmp_path / "none") is None
    for device, name in (("vport0p1", "org.example\n"), ("vport1p1", f"{PORT_NAME}\n")):
        (tmp_path / device).mkdir()
        (tmp_path / device / "name").write_text(name)
    (tmp_path / "vport0p0").mkdir()  # a console has no name
    found = find_port(PORT_NAME, ports=tmp_path, devices=Path("/dev"))
    assert found == Path("/dev/vport1p1")
    assert find_port("org.other", ports=tmp_path) is None


def test_an_open_port_never_blocks() -> None:
    ours, theirs = os.openpty()
    port = VirtioPort(Path(os.ttyname(theirs)))
    assert port.read(10) is None
    port.write(b"hello")
    assert os.read(ours, 5) == b"hello"
    os.write(ours, b"answer\n")
    assert port.read(100) == b"answer\n"
    port.close()
    os.close(ours)
    os.close(theirs)
