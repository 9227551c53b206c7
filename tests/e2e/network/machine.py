# SPDX-License-Identifier: Apache-2.0
"""The network's runnables of a machine, on the links of the namespace that the test is in."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path

from metropolis.host.linux.clock import LinuxClock
from metropolis.host.linux.directory import LinuxDirectory
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.host.linux.network_links import LinuxKernelSettings, LinuxLinks
from metropolis.host.linux.packet_socket import LinuxDhcpSockets
from metropolis.node.network.edges import NetworkEdges
from metropolis.node.network.runnable import network
from metropolis.node.network.status import NetworkStatus
from metropolis.node.storage import NodeStorage
from metropolis.supervision import Context, LogTree, ReadOptions, Runnable, Supervisor, Value
from metropolis.supervision.log_text import format_entry


class Machine:
    """A machine under test."""

    def __init__(
        self,
        root: Path,
        runnables: Mapping[str, Runnable] | None = None,
        *,
        is_guarded: bool = True,
    ) -> None:
        self._guarded = Value(is_guarded)
        self.clock = LinuxClock()
        self.run_path = root / "run"
        self.edges = NetworkEdges(
            clock=self.clock,
            entropy=LinuxEntropy(),
            links=LinuxLinks(),
            dhcp=LinuxDhcpSockets(),
            settings=LinuxKernelSettings(),
            storage=NodeStorage(LinuxDirectory(root / "storage")),
            run=LinuxDirectory(self.run_path),
            status=Value(None),
            is_guarded=self._guarded,
            device_kinds=frozenset({"", "veth"}),
        )
        self.log_tree = LogTree(clock=self.clock)
        self._runnables = runnables or {"network": partial(network, edges=self.edges)}

    def close_firewall(self) -> None:
        """Say that the firewall is closed."""
        self._guarded.set(True)

    async def status(
        self, predicate: Callable[[NetworkStatus], bool] = lambda _: True
    ) -> NetworkStatus:
        """Wait for a status that fits."""
        found = await self.edges.status.wait_for(
            lambda status: status is not None and predicate(status)
        )
        assert found is not None
        return found

    async def wait_lost(self) -> None:
        """Wait until there is no network."""
        await self.edges.status.wait_for(lambda status: status is None)

    async def wait_log(self, text: str) -> None:
        """Wait until a line of the log contains a text."""
        options = ReadOptions(with_children=True, backlog=None, stream=True)
        reader = self.log_tree.read("root", options)
        try:
            if any(text in format_entry(each) for each in reader.backlog):
                return
            while text not in str(await reader.receive()):
                pass
        finally:
            reader.close()

    def _print_log(self) -> None:
        options = ReadOptions(with_children=True, backlog=None)
        for entry in self.log_tree.read("root", options).backlog:
            sys.stdout.write(f"{format_entry(entry)}\n")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Machine"]:
        """Switch it on for the time of a block."""

        async def root(ctx: Context) -> None:
            for name, runnable in self._runnables.items():
                ctx.run(name, runnable)
            ctx.healthy()
            await ctx.wait_cancelled()

        supervisor = Supervisor(
            root,
            log_tree=self.log_tree,
            clock=self.clock,
            rng=self.edges.entropy.jitter(),
        )
        async with asyncio.TaskGroup() as group:
            running = group.create_task(supervisor.run())
            try:
                yield self
            except BaseException:
                self._print_log()
                raise
            finally:
                running.cancel()
