# SPDX-License-Identifier: Apache-2.0
"""The keeper: one process per cluster that holds its rack. `metropolis launch` starts it.

    root
    ├── log        what this tree says, into keeper.log
    ├── proxy      the operator's way in
    ├── control    what commands ask for
    ├── …          what the driver needs in the rack: a DHCP server for virtual machines
    └── machines
          ├── node0 … node8

It ends when it is asked to (`stop`, SIGTERM), after it has put every machine away in order. When it
is killed, the kernel kills the machines, and with their last process their namespaces end.
"""

import asyncio
import compileall
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import uvloop

import metropolis
from metropolis.base.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    MetropolisError,
    NotFoundError,
)
from metropolis.base.ports import CLIENT_TCP_PORTS
from metropolis.host.linux.capabilities import is_root
from metropolis.host.linux.clock import LinuxClock
from metropolis.host.linux.detached import try_lock
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.host.linux.links import configure_links, link_names
from metropolis.host.linux.namespaces import (
    Namespaces,
    adopt_grandchildren,
    become_root_inside,
    enter_new_namespaces,
)
from metropolis.host.linux.processes import LinuxProcesses
from metropolis.lab import network
from metropolis.lab.console import ConsoleLog
from metropolis.lab.control import Answer, serve_control
from metropolis.lab.driver import Cable
from metropolis.lab.drivers import make_driver
from metropolis.lab.machine import Machine, Power
from metropolis.lab.model import Rack
from metropolis.lab.proxy import Proxy, open_listener
from metropolis.lab.socks5 import Rules
from metropolis.lab.state import ClusterDirectory
from metropolis.supervision import Context, LogTree, ReadOptions, Supervisor
from metropolis.supervision.entries import Missed
from metropolis.supervision.log_text import format_entry

_LOOK_AGAIN_S: Final = 0.01


class Keeper:
    """One rack: its machines, its network, its proxy."""

    def __init__(self, rack: Rack, directory: ClusterDirectory, listener: socket.socket) -> None:
        self._rack = rack
        self._directory = directory
        self._listener = listener
        self._clock = LinuxClock()
        self._stop = asyncio.Event()
        self._parts: Sequence[Sequence[int]] = (tuple(rack.numbers),)
        self._bridges = 1
        self._links = dict.fromkeys(rack.numbers, True)
        self._ids: dict[int, str] = dict(rack.node_ids)
        processes = LinuxProcesses()
        processes.adopt_orphans()  # a TPM outlives its machine by a moment
        self._driver = make_driver(rack, directory, processes)
        self._machines = {
            number: Machine(
                self._driver.wiring(number, partial(self._cable, number)),
                processes=processes,
                clock=self._clock,
                console=ConsoleLog(directory.console(number)),
                power=Power.ON if self._driver.is_prepared(number) else Power.OFF,
            )
            for number in rack.numbers
        }
        self._commands: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
            "status": self._status,
            "power": self._power,
            "link": self._link,
            "split": self._split,
            "names": self._names,
            "readdress": self._readdress,
            "stop": self._request_stop,
        }

    async def run(self, *, ready: Callable[[], None]) -> None:
        """Hold the rack until `stop` or SIGTERM."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        supervisor = Supervisor(
            partial(self._root, ready=ready),
            log_tree=LogTree(clock=self._clock),
            clock=self._clock,
            rng=LinuxEntropy().jitter(),
        )
        async with asyncio.TaskGroup() as tasks:
            tree = tasks.create_task(supervisor.run())
            await self._stop.wait()
            async with asyncio.TaskGroup() as shutdown:
                for machine in self._machines.values():
                    shutdown.create_task(machine.put_away())
            tree.cancel()

    async def _root(self, ctx: Context, *, ready: Callable[[], None]) -> None:
        ctx.run("log", _write_log)
        ctx.run("proxy", Proxy(self._listener, self._rules, is_on=self._is_on).run)
        control = partial(
            serve_control,
            socket_name=self._directory.keeper_socket.name,
            handler=self._handle,
            serving=ready,
        )
        ctx.run("control", control)
        for name, service in self._driver.services().items():
            ctx.run(name, service)
        ctx.run("machines", self._run_machines)
        ctx.healthy()
        ctx.log.info("cluster %s: proxy on port %d", self._rack.name, self._rack.proxy_tcp_port)
        await ctx.wait_cancelled()

    async def _run_machines(self, ctx: Context) -> None:
        for number, machine in self._machines.items():
            ctx.run(f"node{number}", machine.run)
        ctx.healthy()
        await ctx.wait_cancelled()

    def _cable(self, number: int) -> Cable:
        return Cable(part=self._part_of(number), is_up=self._links[number])

    def _is_on(self, address: str) -> bool:
        return any(
            self._rack.address(number) == address and machine.status.is_running
            for number, machine in self._machines.items()
        )

    def _rules(self) -> Rules:
        addresses = {
            self._rack.address(number): self._rack.address(number) for number in self._rack.numbers
        }
        addresses |= {node_id: self._rack.address(number) for number, node_id in self._ids.items()}
        return Rules(addresses=addresses, tcp_ports=frozenset(CLIENT_TCP_PORTS))

    async def _handle(self, request: Mapping[str, Any]) -> Answer:
        command = self._commands.get(str(request.get("command")))
        if command is None:
            raise InvalidArgumentError(
                f"unknown command {str(request.get('command'))[:64]!r}",
                remedy=f"Use one of {', '.join(self._commands)}.",
            )
        answer: Answer = await command(request)
        return answer

    async def _status(self, _request: Mapping[str, Any]) -> Answer:
        nodes: list[Answer] = []
        for number, machine in self._machines.items():
            status = machine.status
            nodes.append(
                {
                    "number": number,
                    "address": self._rack.address(number),
                    "id": self._ids.get(number),
                    "power": str(status.power),
                    "running": status.is_running,
                    "boots": status.boots,
                    "last_exit": status.last_exit,
                    "running_s": round(status.running_s, 3),
                    "link": "up" if self._links[number] else "down",
                }
            )
        return {
            "name": self._rack.name,
            "pid": os.getpid(),
            "proxy_tcp_port": self._rack.proxy_tcp_port,
            "parts": [list(part) for part in self._parts],
            "nodes": nodes,
        }

    async def _power(self, request: Mapping[str, Any]) -> Answer:
        machine = self._machines[self._number(request)]
        match request.get("to"):
            case "on":
                await machine.switch_on()
            case "off":
                await machine.switch_off(is_orderly=True)
            case "kill":
                await machine.switch_off(is_orderly=False)
            case "cycle":
                await machine.switch_off(is_orderly=False)
                await machine.switch_on()
            case _:
                raise InvalidArgumentError(
                    "power goes to nowhere", remedy="Give `to` as on, off, kill or cycle."
                )
        return {}

    async def _link(self, request: Mapping[str, Any]) -> Answer:
        number = self._number(request)
        if request.get("to") not in {"up", "down"}:
            raise InvalidArgumentError("a link goes to nowhere", remedy="Give `to` as up or down.")
        is_up = request["to"] == "up"
        self._links[number] = is_up
        for member, port in await self._plugged_in():
            if member == number:
                configure_links([network.set_link(port, is_up=is_up)], is_tolerant=True)
        return {}

    async def _split(self, request: Mapping[str, Any]) -> Answer:
        parts = _parts_of(request.get("parts"), count=self._rack.count)
        configure_links(network.split(parts, bridges_now=self._bridges, address=self._rack.address))
        self._bridges = max(self._bridges, len(parts))
        self._parts = parts
        moves = [
            network.move_port(port, part=self._part_of(number))
            for number, port in await self._plugged_in()
        ]
        configure_links(moves, is_tolerant=True)
        return {}

    def _part_of(self, number: int) -> int:
        return next(part for part, members in enumerate(self._parts) if number in members)

    async def _plugged_in(self) -> Sequence[tuple[int, str]]:
        """Machines that run and their ports, after those that boot right now were plugged in."""
        while True:
            links = link_names()
            ports = {
                number: network.port_name(number, start=machine.status.starts)
                for number, machine in self._machines.items()
                if machine.status.is_running
            }
            if all(port in links for port in ports.values()):
                return list(ports.items())
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def _names(self, request: Mapping[str, Any]) -> Answer:
        given = request.get("ids")
        if not isinstance(given, dict):
            raise InvalidArgumentError("names need ids", remedy="Give `ids` by node number.")
        ids = cast("dict[str, object]", given)
        self._ids = {self._number({"node": int(number)}): str(ids[number]) for number in ids}
        return {}

    async def _readdress(self, request: Mapping[str, Any]) -> Answer:
        """Give a machine another address. A running one would have two: it must be off."""
        number = self._number(request)
        status = self._machines[number].status
        if status.power is not Power.OFF or status.is_running:
            raise FailedPreconditionError(
                f"node {number} is running", remedy="Switch its power off first."
            )
        # The file may know more than we do: commands write it, too.
        rack = self._directory.read().readdressed(number, str(request.get("address")))
        self._directory.write(rack)
        self._rack = replace(self._rack, addresses=rack.addresses)
        self._driver.readdressed(self._rack)
        configure_links(
            network.split(self._parts, bridges_now=self._bridges, address=self._rack.address)
        )
        return {}

    async def _request_stop(self, _request: Mapping[str, Any]) -> Answer:
        self._stop.set()
        return {}

    def _number(self, request: Mapping[str, Any]) -> int:
        number = request.get("node")
        if not isinstance(number, int) or number not in self._machines:
            raise NotFoundError(
                f"there is no node {str(number)[:32]}",
                remedy=f"Name a node from 0 to {self._rack.count - 1}.",
            )
        return number


def _parts_of(parts: object, *, count: int) -> Sequence[Sequence[int]]:
    """Check the parts of a split: every node once, no part empty."""
    if isinstance(parts, list) and parts:
        found = [_numbers_of(part) for part in cast("list[object]", parts)]
        if all(found) and sorted(number for part in found for number in part) == list(range(count)):
            return found
    raise InvalidArgumentError(
        "a split names every node once", remedy="Give `parts` as [[0], [1, 2]]."
    )


def _numbers_of(part: object) -> Sequence[int]:
    """Return the numbers of one part; nothing if it is no list of numbers."""
    if not isinstance(part, list):
        return ()
    listed = cast("list[object]", part)
    numbers = [number for number in listed if isinstance(number, int) and number is not True]
    return tuple(numbers) if len(numbers) == len(listed) else ()


async def _write_log(ctx: Context) -> None:
    """Print what the tree logs; standard error is keeper.log."""
    options = ReadOptions(with_children=True, backlog=None, stream=True)
    reader = ctx.log_tree.read("root", options)
    ctx.healthy()
    try:
        for entry in reader.backlog:
            print(format_entry(entry), file=sys.stderr, flush=True)
        while True:
            item = await reader.receive()
            text = f"{item.count} lost" if isinstance(item, Missed) else format_entry(item)
            print(text, file=sys.stderr, flush=True)
    finally:
        reader.close()


def _set_up(directory: ClusterDirectory) -> tuple[Rack, socket.socket]:
    """Take the lock, open the proxy's port in the computer's network, and leave that network.

    Whoever is not root here becomes root of a user namespace, to which all the others belong.
    """
    if try_lock(directory.keeper_lock) is None:
        raise FailedPreconditionError(
            "the cluster has a keeper already", remedy="Use `metropolis status` to see it."
        )
    rack = directory.read()
    listener = open_listener(rack.proxy_tcp_port)
    adopt_grandchildren()
    if not is_root():
        become_root_inside()
    enter_new_namespaces(Namespaces.NETWORK)
    configure_links(network.create_network())
    package = Path(metropolis.__file__).parent
    compileall.compile_dir(package, quiet=2)  # machines cannot write it, and each would repeat it
    rack = replace(rack, proxy_tcp_port=listener.getsockname()[1])
    directory.write(rack)
    return rack, listener


def main(arguments: Sequence[str]) -> int:
    """Be a keeper. Arguments: the cluster's directory, the pipe that hears of the start."""
    directory = ClusterDirectory(Path(arguments[0]))
    pipe = int(arguments[1])
    os.set_inheritable(pipe, False)
    words = os.fdopen(pipe, "wb")

    def say(answer: Mapping[str, Any]) -> None:
        if not words.closed:  # only the first words are waited for
            words.write(json.dumps(answer).encode())
            words.close()

    try:
        os.chdir(directory.path)
        rack, listener = _set_up(directory)
        keeper_run = _run(rack, directory, listener, say)
    except MetropolisError as error:
        say({"ok": False, "code": error.code, "error": str(error), "remedy": error.remedy})
        return 1
    with contextlib.suppress(asyncio.CancelledError):
        uvloop.run(keeper_run)
    directory.keeper_socket.unlink(missing_ok=True)
    return 0


async def _run(
    rack: Rack,
    directory: ClusterDirectory,
    listener: socket.socket,
    say: Callable[[Mapping[str, Any]], None],
) -> None:
    keeper = Keeper(rack, directory, listener)
    await keeper.run(ready=lambda: say({"ok": True}))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
