# SPDX-License-Identifier: Apache-2.0
"""A cluster of real nodes, looked at from all sides: through the API, one node, its machines.

Waiting asks for a condition again and again; when that does not come, the failure shows what was
missing and what every machine printed last.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import uvloop

from e2e.lab.clusters import NAME, Launched, launched
from metropolis.api import curator_pb2
from metropolis.api.management_pb2 import Node
from metropolis.api.rpc_curator import Curator
from metropolis.base.errors import MetropolisError, chain
from metropolis.base.ports import CURATOR_TCP_PORT
from metropolis.ctl import credentials, members, nodes
from metropolis.ctl.connection import Cluster, connect
from metropolis.lab.cluster import LabCluster
from metropolis.lab.faults import Faults
from metropolis.lab.launch import Launch
from metropolis.lab.leftovers import find_processes
from metropolis.lab.state import ClusterDirectory
from metropolis.pki.identity import server_verifier
from metropolis.rpc.channel import Channel
from metropolis.rpc.resolver import ClusterChannel
from metropolis.rpc.transport import Endpoint

METROCTL = Path(sys.executable).parent / "metroctl"
CALL_TIMEOUT_S = 5.0
LOOK_AGAIN_S = 0.1
CALM_S = 40.0  # after the last disturbance every node is HEALTHY within this, on a busy computer
SCENARIO_S = 110.0
CONSOLE_LINES = 25

NOBODY: Mapping[int, Node] = {}

Problem = Callable[[], Awaitable[str | None]]  # what is missing; None: nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a program ended."""

    status: int
    out: str
    err: str


class Site:
    """A launched cluster."""

    def __init__(self, made: Launched) -> None:
        self._made = made

    @property
    def cluster(self) -> LabCluster:
        return self._made.cluster

    @property
    def faults(self) -> Faults:
        return Faults(self.cluster)

    @property
    def owner_key(self) -> bytes:
        """The owner's private key, raw."""
        return credentials.read_owner_key(self._made.context).private_bytes_raw()

    @property
    def numbers(self) -> Sequence[int]:
        return self.cluster.rack.numbers

    def run(self, scenario: Callable[[], Awaitable[None]], *, limit_s: float = SCENARIO_S) -> None:
        """Run a test's scenario on the loop that programs use."""

        async def bounded() -> None:
            async with asyncio.timeout(limit_s):
                await scenario()

        try:
            uvloop.run(bounded())
        except (TimeoutError, MetropolisError) as error:
            raise AssertionError(f"{type(error).__name__}: {error}\n{self.consoles()}") from error

    async def eventually(
        self,
        what: str,
        problem: Problem,
        *,
        within_s: float = CALM_S,
        every_s: float = LOOK_AGAIN_S,
    ) -> None:
        """Wait until nothing is missing any more; errors that may pass count as missing."""
        missing: str | None = "nobody looked"
        try:
            async with asyncio.timeout(within_s):
                while (missing := await _ask(problem)) is not None:  # noqa: ASYNC110  # of a process
                    await asyncio.sleep(every_s)
        except TimeoutError:
            raise AssertionError(
                f"waited {within_s:.0f} s for {what}: {missing}\n{self.consoles()}"
            ) from None

    def launch(self) -> Launch:
        """A launch of the cluster, from wherever the last one was interrupted."""
        return self._made.launch()

    def printed(self, number: int) -> str:
        """Everything that a machine printed, of all boots."""
        path = self.cluster.directory.console(number)
        return path.read_text(errors="replace") if path.exists() else ""

    def consoles(self, lines: int = CONSOLE_LINES) -> str:
        """The last words of every machine, for people."""
        return "\n".join(
            f"--- machine {number}\n"
            + "\n".join(line[:300] for line in self.cluster.console(number, lines=lines))
            for number in self.numbers
        )

    @asynccontextmanager
    async def operator(self, *numbers: int) -> AsyncIterator[Cluster]:
        """Connect as the owner, who knows the addresses of these machines; of all by default."""
        rack = self.cluster.rack
        addresses = [rack.address(number) for number in numbers or rack.numbers]
        context = replace(self._made.context, endpoints=tuple(addresses))
        async with connect(context, timeout_s=CALL_TIMEOUT_S) as connection:
            yield connection

    @asynccontextmanager
    async def node(self, number: int) -> AsyncIterator[Channel]:
        """Connect as the owner to one node and nobody else, whoever leads."""
        async with self.operator(number) as connection:
            channel = connection.transport.dial(
                Endpoint(self.cluster.rack.address(number), CURATOR_TCP_PORT),
                credentials=connection.credentials,
                verify=server_verifier(connection.ca),
            )
            try:
                yield channel
            finally:
                await channel.close()

    async def leader(self) -> int:
        """Which machine leads."""
        async with self.operator() as connection:
            await nodes.list_nodes(connection.channel, timeout_s=CALM_S)
            channel = connection.channel
            assert isinstance(channel, ClusterChannel)
            assert channel.leader is not None
            return self._number_of(channel.leader.host)

    async def store_leader(self) -> int:
        """Which machine's consensus member leads the others; it may be another one."""
        async with self.operator() as connection:
            found = await nodes.list_nodes(connection.channel, timeout_s=CALM_S)
            said = await members.ask_members(connection, found)
        (leader,) = [each.id for each in said if each.is_leader]
        (address,) = [node.status.external_address for node in found if node.id == leader]
        return self._number_of(address)

    async def nodes(self, *numbers: int) -> dict[int, Node]:
        """The nodes that reported an address, by machine, as the cluster tells them."""
        async with self.operator(*numbers) as connection:
            found = await nodes.list_nodes(connection.channel, timeout_s=CALM_S)
        return {self._number_of(node.status.external_address): node for node in found}

    async def wait_calm(
        self, *, count: int | None = None, voters: int = 3, restarted: Mapping[int, Node] = NOBODY
    ) -> dict[int, Node]:
        """Wait until every machine is one HEALTHY node, and so many vote.

        Args:
            restarted: What machines were before their last start: the cluster must know of it.
        """
        wanted = len(self.numbers) if count is None else count
        async with self.operator() as connection:

            async def problem() -> str | None:
                found = await nodes.list_nodes(connection.channel, timeout_s=CALL_TIMEOUT_S)
                unwell = [node.id for node in found if node.health != Node.HEALTH_HEALTHY]
                if unwell or len(found) != wanted:
                    return f"{len(found)} of {wanted} nodes, not HEALTHY: {unwell}"
                known = {node.status.boot_id for node in found}
                old = [each for each, node in restarted.items() if node.status.boot_id in known]
                if old:
                    return f"the restart of {old} was not reported"
                votes = await count_voters(connection)
                return None if votes == voters else f"{votes} of {voters} members vote"

            await self.eventually(f"{wanted} HEALTHY nodes", problem)
        return await self.nodes()

    async def boots(self, number: int) -> int:
        """How often a machine was started."""
        return (await self.cluster.status())[number].boots

    def process_1(self, number: int) -> int:
        """The process id, on this computer, of a machine's process 1."""
        try:
            return self.faults.process_1(number)
        except LookupError as error:
            raise AssertionError(f"{error}\n{self.consoles()}") from error

    def kill(self, number: int) -> None:
        """Kill -9 a machine's process 1, and with it everything on the machine. It reboots."""
        os.kill(self.process_1(number), signal.SIGKILL)

    def flags(self, *endpoints: int) -> list[str]:
        """What metroctl needs to be the owner, who knows the addresses of these machines."""
        flags = ["--config", str(self._made.context.directory)]
        for number in endpoints:
            flags += ["--endpoints", self.cluster.rack.address(number)]
        return [*flags, "--proxy", self.cluster.rack.proxy]

    def metroctl(self, *words: str, endpoints: Sequence[int] = ()) -> Outcome:
        """Run metroctl as a program."""
        done = subprocess.run(
            [METROCTL, *self.flags(*(endpoints or self.numbers)), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CALM_S,
            check=False,
        )
        return Outcome(status=done.returncode, out=done.stdout, err=done.stderr)

    def _number_of(self, address: str) -> int:
        """The machine at an address; -1 for none."""
        rack = self.cluster.rack
        return next((number for number in rack.numbers if rack.address(number) == address), -1)


@contextmanager
def launched_site(path: Path, *, count: int = 3, disk_bytes: int = 0) -> Iterator[Site]:
    """Launch a cluster of HEALTHY nodes; see `launched`. Afterwards nothing of it is left."""
    with launched(path, count=count, disk_bytes=disk_bytes) as made:
        yield Site(made)


@contextmanager
def unlaunched_site(path: Path, *, count: int, program: Sequence[str]) -> Iterator[Site]:
    """Set a rack up whose machines run `program`; nothing has happened yet."""
    cluster = LabCluster(ClusterDirectory(path / "clusters" / NAME), dies_with_us=True)
    site = Site(Launched(cluster, path / "config"))
    try:
        cluster.create(count=count, program=program, proxy_tcp_port=0)
        yield site
    finally:
        asyncio.run(cluster.destroy())
    assert find_processes(cluster.directory) == []


async def count_voters(connection: Cluster) -> int:
    """How many members of the consensus vote, as it says itself."""
    status = await connection.channel.call(
        Curator.GET_CONSENSUS_STATUS,
        curator_pb2.GetConsensusStatusRequest(),
        timeout_s=CALL_TIMEOUT_S,
    )
    full = curator_pb2.GetConsensusStatusResponse.EtcdMember.STATUS_FULL
    return sum(member.status == full for member in status.etcd_member)


async def _ask(problem: Problem) -> str | None:
    try:
        return await problem()
    except MetropolisError as error:
        if not error.retryable:
            raise
        return chain(error)
