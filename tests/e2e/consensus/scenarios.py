# SPDX-License-Identifier: Apache-2.0
"""Real etcd members in a network and mount namespace of their own. A program, not a test module.

    unshare --net --mount python scenarios.py NAME DIRECTORY

Each member has a loopback address, a directory and a supervision tree; names resolve through a
hosts file that is mounted over /etc/hosts. Certificates, ports and names are the product's own.
"""

import asyncio
import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from random import Random
from typing import TypeVar

from metropolis.base.errors import MetropolisError
from metropolis.base.ids import node_id_from_public_key
from metropolis.consensus.fetch.binary import etcd_binary
from metropolis.consensus.member.files import MemberFiles, wipe
from metropolis.consensus.member.member import EtcdMember, MemberConfig
from metropolis.consensus.member.start import (
    Bootstrap,
    ExistingPeer,
    Join,
    PeerIdentity,
    Restart,
    Start,
    peer_url,
)
from metropolis.consensus.member.status import ConsensusStatus
from metropolis.consensus.store import Compare, Put, Target
from metropolis.host.linux.machine import linux_host
from metropolis.host.linux.processes import LinuxProcesses
from metropolis.pki import certificates
from metropolis.pki.keys import generate_key, raw_public_key
from metropolis.rpc.grpc import dial_unix
from metropolis.supervision import (
    LeveledEntry,
    LogTree,
    ReadOptions,
    Severity,
    Supervisor,
    Value,
)

ROOT = "etcd"
CRL_KEY = b"crl"
WAIT_S = 40.0
T = TypeVar("T")


class Node:
    """One machine with, at times, a member on it."""

    def __init__(self, directory: Path, number: int) -> None:
        self.address = f"127.0.1.{number}"
        self.host = linux_host(
            storage=directory / f"n{number}/storage",
            ephemeral=directory / f"n{number}/e",
            hosts_path=Path("/etc/hosts"),
            addresses=[self.address],
        )
        key_file = directory / f"n{number}.key"
        if not key_file.exists():
            key_file.write_bytes(self.host.entropy.token_bytes(32))
        self.key = generate_key(_Fixed(key_file.read_bytes()))
        self.node_id = node_id_from_public_key(raw_public_key(self.key))
        self.status: Value[ConsensusStatus | None] = Value(None)
        self.log_tree = LogTree(clock=self.host.clock)

    @contextlib.asynccontextmanager
    async def running(self, start: Start) -> AsyncIterator["Node"]:
        """Run the member while the block runs."""
        config = MemberConfig(
            node_id=self.node_id,
            binary=str(etcd_binary()),
            start=start,
            listen_host=self.address,
            metrics_host=self.address,
            root=ROOT,
            crl_key=CRL_KEY,
        )
        member = EtcdMember(config, host=self.host, dial=dial_unix, status=self.status)
        supervisor = Supervisor(
            member.run,
            log_tree=self.log_tree,
            clock=self.host.clock,
            rng=self.host.entropy.jitter(),
            root_name="consensus",
        )
        self.states = supervisor.states
        task = asyncio.get_running_loop().create_task(supervisor.run())
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def ready(self) -> ConsensusStatus:
        async with asyncio.timeout(WAIT_S):
            status = await self.status.wait_for(lambda value: value is not None)
        assert status is not None
        return status

    async def logged(self, text: str) -> None:
        """Wait until some entry contains `text`."""
        options = ReadOptions(with_children=True, backlog=None, stream=True)
        reader = self.log_tree.read("consensus", options)
        try:
            if any(text in str(entry) for entry in reader.backlog):
                return
            async with asyncio.timeout(WAIT_S):
                while text not in str(await reader.receive()):
                    pass
        finally:
            reader.close()

    async def failed_with(self, text: str) -> None:
        """Wait until a runnable has failed with an error that contains `text`."""
        async with asyncio.timeout(WAIT_S):
            while not any(text in (s.last_error or "") for s in self.states().values()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    def print_log(self) -> None:
        options = ReadOptions(with_children=True, backlog=60, minimum_severity=Severity.WARNING)
        for entry in self.log_tree.read("consensus", options).backlog:
            if isinstance(entry, LeveledEntry):
                text = " ".join(entry.lines)
                sys.stderr.write(f"{self.address} {entry.timestamp:%T.%f} {entry.dn} {text}\n")

    def kill_etcd(self) -> None:
        processes = self.host.processes
        assert isinstance(processes, LinuxProcesses)
        (pid,) = processes._running
        os.kill(pid, signal.SIGKILL)


class _Fixed:
    """Entropy that is one stored seed, so that a node that starts again is the same node."""

    def __init__(self, seed: bytes) -> None:
        self._seed = seed

    def token_bytes(self, count: int) -> bytes:
        assert count == len(self._seed)
        return self._seed

    def jitter(self) -> Random:
        return Random(self._seed)


class Cluster:
    """The consensus CA, and what the control plane would do with it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        seed = directory / "ca.key"
        if not seed.exists():
            seed.write_bytes(os.urandom(32))
        key = generate_key(_Fixed(seed.read_bytes()))
        self.authority = certificates.issue_etcd_ca(key, serial=1)
        self.revoked: list[int] = []
        self.nodes: list[Node] = []

    def node(self, number: int) -> Node:
        node = Node(self.directory, number)
        self.nodes.append(node)
        return node

    def crl(self) -> bytes:
        return certificates.build_crl(self.authority, self.revoked, number=len(self.revoked) + 1)

    def identity(self, node: Node, *, serial: int) -> PeerIdentity:
        certificate = certificates.issue_etcd_peer(
            self.authority, raw_public_key(node.key), serial=serial
        )
        return PeerIdentity(
            ca_certificate=self.authority.certificate,
            certificate=certificate,
            initial_crl=self.crl(),
            key=node.key,
        )

    async def name(self, *nodes: Node) -> None:
        """Make node ids resolve, everywhere."""
        await nodes[0].host.names.set_hosts({node.node_id: node.address for node in nodes})

    async def invite(self, leader: Node, node: Node, *, serial: int) -> Join:
        """Add a learner; etcd wants all members connected for 5 s first."""
        membership = (await leader.ready()).membership
        peers = tuple(
            ExistingPeer(name=member.name, url=member.peer_urls[0])
            for member in await membership.members()
        )
        await patiently(lambda: membership.add_learner(peer_url(node.node_id)))
        return Join(identity=self.identity(node, serial=serial), peers=peers)


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Call until it works: after a change of leader or members etcd refuses for a while."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                return await call()
            except MetropolisError as error:
                sys.stderr.write(f"again: {error}\n")
                await asyncio.sleep(0.5)


async def put(node: Node, key: bytes, value: bytes) -> None:
    async def once() -> None:
        await (await node.ready()).store.transact([], [Put(key, value)])

    await patiently(once)


async def get(node: Node, key: bytes) -> bytes | None:
    async def once() -> bytes | None:
        found = await (await node.ready()).store.get(key)
        return None if found is None else found.value

    return await patiently(once)


async def one_member_restarts(cluster: Cluster) -> None:
    """Bootstrap; then from its disk, by Bootstrap, Join and Restart alike; then after kill -9."""
    node = cluster.node(1)
    await cluster.name(node)
    bootstrap = Bootstrap(identity=cluster.identity(node, serial=1))
    async with node.running(bootstrap):
        await put(node, b"k", b"1")
        (member,) = await (await node.ready()).membership.members()
        assert (member.name, member.peer_urls) == (node.node_id, (peer_url(node.node_id),))
        node.kill_etcd()
        await node.status.wait_for(lambda status: status is None)
        assert await get(node, b"k") == b"1"
    assert node.status.current is None
    for start in (bootstrap, Join(identity=bootstrap.identity, peers=()), Restart()):
        async with node.running(start):
            assert await get(node, b"k") == b"1"


async def three_members_live_on_without_one(cluster: Cluster) -> None:
    """Learners are promoted; one is killed, one is removed, refused, and invited again."""
    first, second, third = nodes = [cluster.node(number) for number in (1, 2, 3)]
    await cluster.name(*nodes)
    async with contextlib.AsyncExitStack() as stack:
        bootstrap = Bootstrap(identity=cluster.identity(first, serial=11))
        await stack.enter_async_context(first.running(bootstrap))
        await put(first, b"k", b"1")
        join = await cluster.invite(first, second, serial=12)
        await stack.enter_async_context(second.running(join))
        await second.ready()
        join = await cluster.invite(first, third, serial=13)
        join = dataclasses.replace(join, peers=join.peers[:1])  # as if one had come since
        async with third.running(join):
            membership = (await third.ready()).membership
            assert [m.is_learner for m in await membership.members()] == [False] * 3
            await third.logged("Waiting for the promotion of this learner")
            await first.logged("Promoted learner")
            assert [await get(node, b"k") for node in nodes] == [b"1"] * 3
            third.kill_etcd()
            await third.status.wait_for(lambda status: status is None)
            await put(second, b"k", b"2")
            assert await get(third, b"k") == b"2"
            member_id = (await third.ready()).member_id
        # Removed while it was off: the others refuse it at the handshake, and it never learns why.
        membership = (await first.ready()).membership
        await patiently(lambda: membership.remove(member_id))
        cluster.revoked.append(13)
        await put(first, CRL_KEY, cluster.crl())
        for node in (first, second):
            await node.logged("new list of refused peers, 1 long")
        async with third.running(Restart()):
            await first.logged("rejected connection")
            await first.logged("certificate serial")
            assert third.status.current is None
        await put(first, b"k", b"3")
        # Invited anew, with another certificate, while its disk still holds the old member.
        join = await cluster.invite(first, third, serial=14)
        async with third.running(join):
            await third.logged("starting without it")
            assert await get(third, b"k") == b"3"
            again = (await third.ready()).member_id
            assert again != member_id
            # Removed while it runs: it hears so from the others, and keeps nothing.
            await patiently(lambda: membership.remove(again))
            async with asyncio.timeout(WAIT_S):
                await third.status.wait_for(lambda status: status is None)
            await third.failed_with("other members now")
            assert not await MemberFiles(third.host.storage, root=ROOT).has_data()
        await wipe(third.host.storage, root=ROOT)
        assert not await third.host.storage.exists(ROOT)
        assert await get(second, b"k") == b"3"


async def a_foreign_disk_is_refused(cluster: Cluster) -> None:
    """Data of another cluster or another node is left alone, and the error says what to do."""
    node, other = cluster.node(1), cluster.node(2)
    await cluster.name(node, other)
    mine = cluster.identity(node, serial=1)
    async with node.running(Bootstrap(identity=mine)):
        await put(node, b"k", b"1")
    elsewhere = cluster.directory / "elsewhere"
    elsewhere.mkdir()
    theirs = Cluster(elsewhere).identity(node, serial=1)
    for start in (Bootstrap(identity=theirs), Join(identity=theirs, peers=())):
        async with node.running(start):
            await node.failed_with("belongs to another cluster")
    node.node_id = other.node_id
    async with node.running(Restart()):
        await node.failed_with("belongs to metropolis-")
    node = cluster.node(1)
    async with node.running(Bootstrap(identity=mine)):
        assert await get(node, b"k") == b"1"


async def lost_data_is_not_replaced_by_an_empty_consensus(cluster: Cluster) -> None:
    node = cluster.node(1)
    await cluster.name(node)
    bootstrap = Bootstrap(identity=cluster.identity(node, serial=1))
    async with node.running(bootstrap):
        await put(node, b"k", b"1")
    await node.host.storage.remove_tree(MemberFiles(node.host.storage, root=ROOT).data)
    for start in (bootstrap, Restart()):
        async with node.running(start):
            await node.failed_with("data of this node is gone")


async def bootstrap_once(cluster: Cluster) -> None:
    """What `test_member` kills: at the storage write KILL_AT_WRITE, or when etcd made its log.

    A real etcd that dies right after that often waits for ever when it is started again: its log
    exists, but has no member in it.
    """
    node = cluster.node(1)
    await cluster.name(node)
    _kill_at_write(int(os.environ.get("KILL_AT_WRITE", "0")))
    async with node.running(Bootstrap(identity=cluster.identity(node, serial=1))):
        if "KILL_AT_LOG" in os.environ:
            log = cluster.directory / "n1/storage/etcd/data/member/wal"
            while log.exists():  # noqa: ASYNC110  # of the run before; started over
                await asyncio.sleep(0)
            while not log.exists():  # noqa: ASYNC110  # the kernel does not call us
                await asyncio.sleep(0)
            os.kill(os.getpid(), signal.SIGKILL)
        store = (await node.ready()).store
        before = await store.get(b"founded")
        absent = Compare(b"founded", Target.CREATE_REVISION, 0)
        await store.transact([absent], [Put(b"founded", os.urandom(8).hex().encode())])
        found = await store.get(b"founded")
        assert found is not None
        assert before is None or before.value == found.value
        sys.stdout.write(f"FOUNDED {found.value.decode()}\n")


def _kill_at_write(number: int) -> None:
    """Die by SIGKILL right before the rename that makes the number-th write visible."""
    writes = 0
    rename = Path.rename

    def counting(self: Path, target: Path) -> Path:
        nonlocal writes
        if self.name.endswith(".__metropolis_tmp") and "storage" in self.parts:
            writes += 1
            if writes == number:
                os.kill(os.getpid(), signal.SIGKILL)
        return rename(self, target)

    Path.rename = counting  # type: ignore[assignment, method-assign]


SCENARIOS: dict[str, Callable[[Cluster], Awaitable[None]]] = {
    scenario.__name__: scenario
    for scenario in (
        one_member_restarts,
        three_members_live_on_without_one,
        a_foreign_disk_is_refused,
        lost_data_is_not_replaced_by_an_empty_consensus,
        bootstrap_once,
    )
}


def main() -> None:
    """Set up the namespaces we are in, then run one scenario."""
    name, directory = sys.argv[1], Path(sys.argv[2])
    hosts = directory / "hosts"
    hosts.touch()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)

    async def run() -> None:
        cluster = Cluster(directory)
        try:
            await SCENARIOS[name](cluster)
        except BaseException:
            for node in cluster.nodes:
                node.print_log()
            raise

    asyncio.run(run())


if __name__ == "__main__":
    main()
