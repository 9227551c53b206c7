# SPDX-License-Identifier: Apache-2.0
"""A cluster of the lab as a library: what the command line, tests and benchmarks use.

cluster = LabCluster(ClusterDirectory(path))
cluster.create(count=3)
await cluster.start()            # the keeper and, with it, every machine that was set up
await cluster.power(1, "kill")   # a power cut
await cluster.destroy()
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from metropolis.base.errors import (
    BY_GRPC_STATUS,
    FailedPreconditionError,
    InternalError,
    MetropolisError,
    UnavailableError,
)
from metropolis.host.linux.capabilities import check_namespaces, check_owner
from metropolis.host.linux.clock import LinuxClock
from metropolis.host.linux.detached import is_locked, start_detached, try_lock
from metropolis.lab import leftovers
from metropolis.lab.console import last_lines, plain
from metropolis.lab.control import connect_keeper
from metropolis.lab.model import NAMESPACE_DRIVER, PROXY_TCP_PORT, QEMU_DRIVER, Rack
from metropolis.lab.state import ClusterDirectory

NODE_PROGRAM: Final = (sys.executable, "-m", "metropolis.node")
STOP_TIMEOUT_S: Final = 90.0  # virtual machines write their memory down
_BY_CODE: Final = {kind.code: kind for kind in BY_GRPC_STATUS.values()}

PowerChange = Literal["on", "off", "kill", "cycle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """One machine as its keeper sees it; see `MachineStatus`.

    Attributes:
        node_id: None while it is not known.
        link: "up" or "down".
    """

    number: int
    address: str
    node_id: str | None
    power: str
    is_running: bool
    boots: int
    last_exit: int | None
    running_s: float
    link: str


class LabCluster:
    """One cluster: its directory, and its keeper when it runs."""

    def __init__(self, directory: ClusterDirectory, *, dies_with_us: bool = False) -> None:
        """Point at a cluster, which may not exist yet.

        Args:
            dies_with_us: A keeper that we start ends when this thread ends: for tests.
        """
        self.directory = directory
        self._dies_with_us = dies_with_us
        self._keeper_pid: int | None = None

    @property
    def rack(self) -> Rack:
        """What the cluster is.

        Raises:
            NotFoundError: there is none.
        """
        return self.directory.read()

    @property
    def is_running(self) -> bool:
        """Whether a keeper holds it."""
        return is_locked(self.directory.keeper_lock)

    @contextlib.contextmanager
    def exclusively(self) -> Generator[None, None, None]:
        """Keep other commands from changing the cluster while the block runs.

        Raises:
            UnavailableError: another command is at it.
        """
        self.directory.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = try_lock(self.directory.operation_lock)
        if lock is None:
            raise UnavailableError(
                f"another metropolis command works on cluster {self.directory.path.name!r}",
                remedy="Wait for it, then run this one again.",
            )
        try:
            yield
        finally:
            os.close(lock)

    def create(
        self,
        *,
        count: int,
        driver: str = NAMESPACE_DRIVER,
        program: Sequence[str] = NODE_PROGRAM,
        proxy_tcp_port: int = PROXY_TCP_PORT,
        is_blank: bool = False,
    ) -> Rack:
        """Make the directory of a new cluster; an existing one of the same kind is kept.

        Args:
            program: Process 1 of a machine of the namespace driver.
            is_blank: Of virtual machines that the operator installs.

        Raises:
            FailedPreconditionError: it exists, with another number of nodes or another driver, or
                made by the other command.
        """
        if self.directory.exists:
            rack = self.rack
            if rack.is_blank != is_blank:
                raise _made_otherwise(rack)
            if rack.count != count:
                raise FailedPreconditionError(
                    f"cluster {rack.name!r} exists and has {rack.count} nodes, not {count}",
                    remedy=f"Give --nodes {rack.count}, another --name, "
                    f"or run `metropolis destroy --name {rack.name}` first.",
                )
            if rack.driver != driver:
                raise FailedPreconditionError(
                    f"cluster {rack.name!r} exists and is made with driver {rack.driver}",
                    remedy=f"Give --driver {rack.driver} (DRIVER={rack.driver}), another --name, "
                    f"or run `metropolis destroy --name {rack.name}` first.",
                )
        else:
            rack = Rack(
                name=self.directory.path.name,
                count=count,
                proxy_tcp_port=proxy_tcp_port,
                program=tuple(program),
                created=LinuxClock().wall().isoformat(timespec="seconds"),
                driver=driver,
                is_blank=is_blank,
                node_ids={},
            )
        self.directory.create(rack)
        return rack

    def start(self) -> Rack:
        """Start the keeper if none runs; with it every machine that has its parameters.

        Raises:
            NotFoundError: there is no such cluster.
            FailedPreconditionError: somebody else's cluster, or no namespaces here.
        """
        rack = self.rack
        if self.is_running:
            return rack
        check_owner(self.directory.path)
        check_namespaces()
        pid, message = start_detached(
            [sys.executable, "-m", "metropolis.lab.keeper", str(self.directory.path)],
            environment={**os.environ, **leftovers.marker(self.directory)},
            working_directory=self.directory.path,
            log_path=self.directory.keeper_log,
            dies_with_us=self._dies_with_us,
        )
        self._keeper_pid = pid
        if not message:
            raise self._keeper_died()
        answer = json.loads(message)
        if not answer["ok"]:
            kind = _BY_CODE.get(answer["code"], MetropolisError)
            raise kind(answer["error"], remedy=answer["remedy"])
        return self.rack  # the keeper may have found another port for the proxy

    async def status(self) -> Sequence[NodeStatus]:
        """Ask the keeper about its machines.

        Raises:
            UnavailableError: the cluster does not run.
        """
        answer = await self._call("status")
        return [
            NodeStatus(
                number=node["number"],
                address=node["address"],
                node_id=node["id"],
                power=node["power"],
                is_running=node["running"],
                boots=node["boots"],
                last_exit=node["last_exit"],
                running_s=node["running_s"],
                link=node["link"],
            )
            for node in answer["nodes"]
        ]

    async def power(self, number: int, to: PowerChange) -> None:
        """Press a machine's power switch: "kill" is a power cut, "cycle" a cut and on again."""
        await self._call("power", node=number, to=to)

    async def plug_in(self, number: int, medium: Path | None) -> None:
        """Put a stick into a virtual machine that is off, or take out the one that is in (None).

        Raises:
            FailedPreconditionError: the machine is on, or cannot have a stick.
            InvalidArgumentError: the medium is no file.
        """
        from metropolis.lab.qemu import blank  # noqa: PLC0415  # only the driver qemu needs it

        machine = (await self.status())[number]
        if machine.power != "off" or machine.is_running:
            raise FailedPreconditionError(
                f"node {number} is on, and a stick goes in while it is off",
                remedy=f"Run `metropolis power {number} off --name {self.rack.name}` first.",
            )
        place = self.directory.node(number)
        if medium is None:
            blank.pull_out(place)
        elif self.rack.driver != QEMU_DRIVER:
            raise FailedPreconditionError(
                "a machine that is a process has no socket for a stick",
                remedy="Make virtual machines with `metropolis rack`.",
            )
        else:
            await asyncio.to_thread(blank.plug_in, place, medium)

    async def link(self, number: int, to: Literal["up", "down"]) -> None:
        """Pull a machine's network cable, or put it back. Nobody reaches it while it is out."""
        await self._call("link", node=number, to=to)

    async def split(self, parts: Sequence[Sequence[int]]) -> None:
        """Divide the network: parts cannot reach each other, the operator reaches all of them.

        One part with every node heals the network.
        """
        await self._call("split", parts=[list(part) for part in parts])

    async def readdress(self, number: int, address: str) -> None:
        """Give a machine another address, for good; its power must be off.

        Raises:
            FailedPreconditionError: it is on.
            InvalidArgumentError: no machine, or another one, can have the address.
        """
        await self._call("readdress", node=number, address=address)

    async def learn_node_ids(self, node_ids: Mapping[int, str]) -> None:
        """Write down which node is which; the proxy takes ids as names from now on."""
        rack = self.rack
        if dict(rack.node_ids) != dict(node_ids):
            self.directory.write(replace(rack, node_ids=dict(node_ids)))
        await self._call("names", ids={str(number): name for number, name in node_ids.items()})

    def console(self, number: int, *, lines: int) -> Sequence[str]:
        """The newest lines that a machine printed."""
        return [plain(line) for line in last_lines(self.directory.console(number), lines)]

    async def stop(self) -> bool:
        """Shut every machine down in order and end the keeper; say whether it ran.

        What does not end in time, or was left over by a killed keeper, is killed.
        """
        was_running = self.is_running
        if was_running:
            with contextlib.suppress(UnavailableError):
                await self._call("stop")
            await self._wait_keeper_gone()
        was_running |= bool(await leftovers.end_processes(self.directory))
        self._reap()
        self.directory.keeper_socket.unlink(missing_ok=True)
        return was_running

    async def destroy(self) -> None:
        """End everything, in no order, and delete the cluster's directory."""
        await leftovers.end_processes(self.directory)
        self._reap()
        self.directory.remove()

    async def _wait_keeper_gone(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                while self.is_running:  # noqa: ASYNC110  # a lock of another process
                    await asyncio.sleep(0.02)

    async def _call(self, command: str, **arguments: object) -> Mapping[str, Any]:
        async with connect_keeper(self.directory.keeper_socket) as keeper:
            return await keeper.call(command, **arguments)

    def _reap(self) -> None:
        if self._keeper_pid is not None:
            leftovers.reap(self._keeper_pid)

    def _keeper_died(self) -> MetropolisError:
        last = last_lines(self.directory.keeper_log, 1)
        return InternalError(
            f"the cluster's keeper did not start: {last[0] if last else 'it said nothing'}",
            remedy=f"Read {self.directory.keeper_log}, and report what it says.",
        )


def _made_otherwise(rack: Rack) -> MetropolisError:
    other = "launch" if rack.is_blank else "rack"
    kind = "is a rack of blank machines" if rack.is_blank else "was launched"
    return FailedPreconditionError(
        f"cluster {rack.name!r} exists and {kind}",
        remedy=f"Give another --name, or run `metropolis destroy --name {rack.name}` "
        f"before `metropolis {other}`.",
    )
