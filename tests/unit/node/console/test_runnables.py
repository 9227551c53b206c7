# SPDX-License-Identifier: Apache-2.0
import asyncio
from collections.abc import AsyncGenerator
from functools import partial

import pyte

from metropolis.host.linux.clock import LinuxClock
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.node.console.display import display
from metropolis.node.console.facts import Facts
from metropolis.node.console.serial import serial
from metropolis.supervision import LogTree, Runnable, Supervisor
from metropolis.supervision.value import Value

FACTS = Facts(product="Metropolis Node 1.2.3", variant="x86_64", ca_fingerprint="ab" * 32)


class MemoryTerminal:
    """Draws into memory; `typed` is what somebody types."""

    def __init__(self) -> None:
        self.screen = pyte.Screen(80, 20)
        self._stream = pyte.Stream(self.screen)
        self.typed: Value[bytes] = Value()
        self.drawn: Value[int] = Value(0)

    def size(self) -> tuple[int, int]:
        return 20, 80

    def write(self, text: str) -> None:
        self._stream.feed(text)
        self.drawn.set(self.drawn.current + 1)

    async def keys(self) -> AsyncGenerator[bytes, None]:
        watcher = self.typed.watch()
        while True:
            yield await watcher.receive()

    def shows(self, text: str) -> bool:
        return any(text in line for line in self.screen.display)


async def _run(log_tree: LogTree, runnable: Runnable, until: "asyncio.Future[None]") -> None:
    supervisor = Supervisor(
        runnable, log_tree=log_tree, clock=LinuxClock(), rng=LinuxEntropy().jitter()
    )
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        running = group.create_task(supervisor.run())
        await until
        running.cancel()


def test_tab_turns_the_page_and_nothing_else_does() -> None:
    async def scenario() -> None:
        log_tree, terminal = LogTree(clock=LinuxClock()), MemoryTerminal()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def person() -> None:
            await terminal.drawn.wait_for(lambda _: terminal.shows("[Status]"))
            log_tree.leveled("root.role").info("hello from a node")
            terminal.typed.set(b"q")
            assert not terminal.shows("hello from a node")
            terminal.typed.set(b"\t")
            await terminal.drawn.wait_for(lambda _: terminal.shows("hello from a node"))
            assert terminal.shows("[Log]")
            terminal.typed.set(b"\t")
            await terminal.drawn.wait_for(lambda _: terminal.shows("[Status]"))
            done.set_result(None)

        runnable = partial(display, terminal=terminal, facts=lambda: FACTS, clock=LinuxClock())
        async with asyncio.TaskGroup() as group:
            group.create_task(person())
            group.create_task(_run(log_tree, runnable, done))

    asyncio.run(scenario())


def test_the_serial_line_has_facts_and_what_an_operator_wants_of_the_log() -> None:
    async def scenario() -> list[str]:
        log_tree = LogTree(clock=LinuxClock())
        lines: list[str] = []
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        announced = asyncio.Event()

        def write(line: str) -> None:
            lines.append(line)
            if line.startswith("cluster CA"):
                announced.set()
            if line.endswith("the end") and not done.done():
                done.set_result(None)

        log_tree.leveled("machine.kernel").error("kernel noise")
        log_tree.raw("root.role").line(b"raw noise")
        log_tree.leveled("root.role.controlplane.consensus.etcd").warning("etcd noise")
        log_tree.leveled("root.role.controlplane.consensus.etcd").error("etcd burns")
        log_tree.leveled("root.enrolment").info("Waiting for approval")

        async def later() -> None:
            await announced.wait()
            log_tree.leveled("root.role").info("the end")

        async with asyncio.TaskGroup() as group:
            group.create_task(later())
            group.create_task(
                _run(log_tree, partial(serial, write=write, facts=lambda: FACTS), done)
            )
        return lines

    lines = asyncio.run(scenario())
    assert lines[0] == "Metropolis Node 1.2.3 (x86_64)"
    assert f"cluster CA sha256:{'ab' * 32}" in lines
    assert not [line for line in lines if "noise" in line]
    assert [line for line in lines if line.endswith("etcd burns")]
    assert [line for line in lines if line.endswith("I Waiting for approval")]
