# SPDX-License-Identifier: Apache-2.0
"""A control plane as a process, and simulated machines in the test that know only its sockets."""

import asyncio
import contextlib
import http.client
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from metropolis.base.errors import UnavailableError
from metropolis.metal.access.hmac import signature
from metropolis.metal.boot.authority import Subject, issue
from metropolis.metal.messages.subscribing import Subscribing
from metropolis.metal.seed import LARGE, PARTITION, RACKS, SHOP, SHOP_NETWORK
from metropolis.metal.simulated.agent import BmcAgent
from metropolis.metal.simulated.blueprint import blueprint
from metropolis.metal.simulated.machine import Assignment, Character, SimulatedMachine
from metropolis.rpc.grpc.mutual import dial_mutual
from metropolis.rpc.transport import Endpoint

PATIENCE_S = 40.0
SSH_KEY = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA somebody"
)
REQUEST = {
    "projectid": SHOP,
    "partitionid": PARTITION,
    "sizeid": LARGE,
    "imageid": "ubuntu-24.04",
    "networks": [{"networkid": SHOP_NETWORK, "autoacquire": True}],
    "ssh_pub_keys": [SSH_KEY],
    "name": "shop",
    "hostname": "shop",
}


def free_tcp_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass(kw_only=True)
class Program:
    """A replica that can be killed and started again, on the same ports."""

    directory: Path
    database: str | None = None
    seeded: bool = True
    http_port: int = field(default_factory=free_tcp_port)
    grpc_port: int = field(default_factory=free_tcp_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            sys.executable, "-m", "metropolis.lab.main", "metal", "serve", "--no-check-urls",
            "--directory", str(self.directory),
            "--listen", f"127.0.0.1:{self.http_port}",
            "--grpc-listen", f"127.0.0.1:{self.grpc_port}",
        ]  # fmt: skip
        if self.seeded:
            command.append("--seed")
        if self.database:
            command += ["--database", self.database]
        with (self.directory / f"log-{self.http_port}").open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=log)

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE_S)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(PATIENCE_S) == 0, self.log

    @property
    def log(self) -> str:
        return (self.directory / f"log-{self.http_port}").read_text()

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """Call the REST API as an administrator."""
        return await asyncio.to_thread(self._call, method, path, body)

    def _call(self, method: str, path: str, body: Any) -> Any:
        key = (self.directory / "hmac-admin.key").read_bytes().strip()
        date, salt = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), secrets.token_hex(12)
        signed = signature(key, date=date, method=method, salt=salt)
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=PATIENCE_S)
        try:
            connection.request(
                method,
                path,
                body=None if body is None else msgspec.json.encode(body),
                headers={
                    "X-Date": date,
                    "X-Data-Salt": salt,
                    "Authorization": f"Metal-Admin {signed}",
                    "Content-Type": "application/json",
                },
            )
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(f"no answer: {error}", remedy="Try again.") from error
        finally:
            connection.close()
        assert response.status == 200, (response.status, answer)
        return msgspec.json.decode(answer)

    async def is_ready(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                assert self.process is not None
                assert self.process.poll() is None, self.log
                try:
                    await self.call("GET", "/v1/version")
                except (UnavailableError, FileNotFoundError):
                    await asyncio.sleep(0.1)
                else:
                    return

    async def machines(self) -> dict[str, Any]:
        """The machines of the size that is simulated."""
        found = await self.call("GET", "/v1/machine")
        return {each["id"]: each for each in found if each.get("size", {}).get("id") == LARGE}

    async def until_allocatable(self, machine_ids: Iterable[str]) -> None:
        """Wait until the control plane says that these can be allocated at once."""
        async with asyncio.timeout(PATIENCE_S):
            for machine_id in machine_ids:
                verdict = ""
                while verdict != "allocatable":
                    await asyncio.sleep(0.1)
                    with contextlib.suppress(UnavailableError):
                        told = await self.call("GET", f"/v1/machine/{machine_id}/explain")
                        verdict = told["verdict"]

    async def until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Look at the machines until something is true of them."""
        found: dict[str, Any] = {}
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not found or not condition(found):
                    await asyncio.sleep(0.1)
                    try:
                        found = await self.machines()
                    except UnavailableError:
                        continue
        except TimeoutError:
            states = {key: (newest(each), allocation(each)) for key, each in found.items()}
            raise AssertionError(f"{states}\n{self.log}") from None
        return found


def newest(machine: Any) -> str:
    log = machine["events"]["log"]
    return str(log[0]["event"]) if log else ""


def allocation(machine: Any) -> Any:
    return machine.get("allocation")


def waits(machine: Any) -> bool:
    return newest(machine) == "Waiting" and not allocation(machine)


def is_in_use(machine: Any) -> bool:
    held = allocation(machine)
    return newest(machine) == "Phoned Home" and held is not None and bool(held["succeeded"])


@asynccontextmanager
async def partition(programs: list[Program], count: int) -> AsyncIterator[list[SimulatedMachine]]:
    """Machines, each at one of the replicas, and their agent, at the last."""
    directory = programs[0].directory / "grpc"
    now = datetime.now(UTC)
    machine_tls = issue(directory, Subject(name="machine"), now=now)
    agent_tls = issue(directory, Subject(name="bmc-agent", partition_id=PARTITION), now=now)
    racks = [(leaves[0], leaves[1]) for leaves in RACKS.values()]
    async with AsyncExitStack() as stack:

        def dial(program: Program, tls: Any) -> Any:
            endpoint = Endpoint("127.0.0.1", program.grpc_port)
            channel = dial_mutual(endpoint, tls=tls, server_name="localhost")
            stack.push_async_callback(channel.close)
            return channel

        machines: list[SimulatedMachine] = []
        for number in range(count):
            program = programs[number % len(programs)]

            async def read_assignment(
                machine_id: str, program: Program = program
            ) -> Assignment | None:
                held = allocation(await program.call("GET", f"/v1/machine/{machine_id}"))
                return None if held is None else Assignment(reinstall=held["reinstall"])

            machines.append(
                SimulatedMachine(
                    blueprint(number, partition_id=PARTITION, racks=racks),
                    dial(program, machine_tls),
                    read_assignment=read_assignment,
                    jitter=Random(number),
                    character=Character(step_s=0.1),
                )
            )
        async with asyncio.TaskGroup() as group:
            agent = Subscribing(dial(programs[-1], agent_tls), BmcAgent(machines))
            tasks = [group.create_task(each.run()) for each in machines]
            tasks.append(group.create_task(agent.run()))
            yield machines
            for task in tasks:
                task.cancel()
