# SPDX-License-Identifier: Apache-2.0
"""The runbooks, followed to the letter on one cluster of real nodes that everything befalls."""

import asyncio
import base64
import io
import json
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import uvloop

from e2e.cluster.site import CALM_S, Site
from e2e.lab.clusters import LAUNCH_TIMEOUT_S, NAME, Launched
from e2e.runbooks.reader import Reader
from metropolis.api import management_pb2
from metropolis.api.rpc_management import Management
from metropolis.ctl import nodes
from metropolis.lab import parameters
from metropolis.lab.cluster import LabCluster
from metropolis.lab.faults import HICCUP_S, Faults
from metropolis.lab.launch import Launch
from metropolis.lab.model import address_of
from metropolis.lab.progress import Progress
from metropolis.lab.state import ClusterDirectory

FIRST = "First, look"
NODE = "A node is lost"
LEADER = "The leader is lost"
QUORUM = "The quorum is lost"
SPLIT = "The network is split"
FULL = "A disk is full"
SLOW = "A disk is slow"
CLOCK = "A clock is wrong"
LAPTOP = "A laptop is lost, or a certificate was revoked"
TICKET = "The register ticket leaked"
AUDIT = "The audit chain is broken"
REFUSED = "A machine is refused at enrolment"
UNHEALTHY = "A node never becomes HEALTHY"
WRONG = "The wrong cluster answers"
STUCK = "A decommission does not end"
OWNER = "The owner's key is lost"

STATUS = "metroctl consensus status"
LIST = "metroctl node list"
DISK_BYTES = 256 << 20
ALL_VOTE = "3 of 3 voting members can be reached"


class Machines:
    """The hands of whoever stands before the machines."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def kill(self, *numbers: int) -> None:
        for number in numbers:
            asyncio.run(self._site.cluster.power(number, "kill"))

    def switch_on(self, *numbers: int) -> None:
        for number in numbers:
            asyncio.run(self._site.cluster.power(number, "on"))

    def slow_disk(self, number: int) -> AbstractContextManager[None]:
        """Let a machine's consensus member wait for its disk while the block runs."""
        return self._lasting(self._site.faults.slow_disk(number, stall_s=HICCUP_S))

    def full_disk(self, number: int) -> AbstractContextManager[None]:
        """Leave no byte free on a machine's disk while the block runs."""
        return self._lasting(self._site.faults.full_disk(number))

    @contextmanager
    def _lasting(self, fault: AbstractAsyncContextManager[None]) -> Iterator[None]:
        """Let a fault last while the block runs programs."""
        over = threading.Event()

        async def hold() -> None:
            async with fault:
                await asyncio.to_thread(over.wait)

        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(asyncio.run, hold())
            try:
                yield
            finally:
                over.set()
            held.result()

    def split(self, parts: Sequence[Sequence[int]]) -> None:
        asyncio.run(self._site.cluster.split(parts))

    def install(self, number: int, *, ticket: bytes) -> None:
        """Empty a machine's disk, and put parameters on it that hold this ticket."""

        async def act() -> None:
            async with self._site.operator() as owner:
                info = await owner.channel.call(
                    Management.GET_CLUSTER_INFO, management_pb2.GetClusterInfoRequest()
                )
            storage = self._site.cluster.directory.storage(number)
            shutil.rmtree(storage / "data", ignore_errors=True)
            shutil.rmtree(storage / "esp", ignore_errors=True)
            made = parameters.register_parameters(info, ticket=ticket)
            await parameters.write_parameters(self._site.cluster.directory, number, made)

        uvloop.run(act())

    def wait_console(self, number: int, text: str) -> None:
        async def problem() -> str | None:
            return None if text in self._site.printed(number) else f"no {text!r} on the console"

        uvloop.run(self._site.eventually(text, problem))

    def ticket(self) -> bytes:
        async def act() -> bytes:
            async with self._site.operator() as owner:
                return await nodes.register_ticket(owner.channel, timeout_s=10)

        return uvloop.run(act())

    def ids(self) -> dict[int, str]:
        found = uvloop.run(self._site.nodes())
        return {number: node.id for number, node in found.items()}

    def calm(self) -> None:
        async def act() -> None:
            await self._site.wait_calm()

        uvloop.run(act())


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """Three HEALTHY nodes, and an operator whose only context is theirs."""
    cluster = LabCluster(ClusterDirectory(tmp_path / "clusters" / NAME), dies_with_us=True)
    made = Launched(cluster, tmp_path / "x" / "metroctl")
    try:
        cluster.create(count=3, proxy_tcp_port=0)
        Faults(cluster).give_disks(size_bytes=DISK_BYTES)
        uvloop.run(
            Launch(
                cluster=cluster,
                contexts_root=made.contexts_root,
                progress=Progress(io.StringIO(), title="test"),
                timeout_s=LAUNCH_TIMEOUT_S,
            ).run()
        )
        yield Reader(Site(made), tmp_path)
    finally:
        Faults(cluster).take_disks()
        asyncio.run(cluster.destroy())


@pytest.mark.timeout(300)  # about ninety programs, one after the other; the machine may be busy
def test_every_command_of_the_runbooks_does_what_the_page_says(reader: Reader) -> None:
    machines = Machines(reader.site)
    ids = machines.ids()
    lose_the_owner_key(reader)
    move_the_consensus(reader, machines, ids)
    fill_a_disk(reader, machines, ids)
    split_the_network(reader, machines)
    give_room_back(reader)
    lost = lose_the_leader(reader, machines)
    lose_the_quorum(reader, machines, lost)
    # One node is still away: here people work on while the leader counts the silence.
    look_around(reader, next(node_id for number, node_id in ids.items() if number != lost))
    lose_a_laptop(reader)
    replace_a_node(reader, machines, lost, ids)
    assert reader.left == []
    assert reader.do(AUDIT, "metroctl audit verify").out


def look_around(reader: Reader, node_id: str) -> None:
    for heading, line in (
        (FIRST, LIST),
        (FIRST, STATUS),
        (FIRST, "metroctl explain NODE_ID"),
        (CLOCK, "metroctl node set labels NODE_ID clock=checked"),
        (CLOCK, "metroctl audit list --newest-first --limit 1"),
        (CLOCK, "metroctl node set labels NODE_ID clock-"),
        (AUDIT, "metroctl audit verify"),
        (AUDIT, "metroctl audit list -o json --output-file audit.json"),
        (AUDIT, "metroctl audit head --output-file head.txt"),
        (AUDIT, "metroctl audit verify --since @head.txt"),
        (WRONG, "metroctl context list"),
        (WRONG, "metroctl context show"),
        (WRONG, "metroctl context use lab"),
        (WRONG, "metroctl whoami"),
    ):
        reader.do(heading, line, NODE_ID=node_id)
    assert reader.site.metroctl("cluster", "backup", "keygen").status == 0
    reader.do(FULL, "metroctl cluster backup schedule --every 12h --keep 3")
    reader.do(FULL, "metroctl cluster backup list")
    assert json.loads((reader.home / "audit.json").read_text())


def lose_a_laptop(reader: Reader) -> None:
    """Ann's computer is lost; she goes on with another one, and leaves one day."""
    site = reader.site
    assert site.metroctl("user", "create", "ann", "--role", "viewer").status == 0
    new_context = ("user", "login", "ann", "--new-context")
    password = reader.do(LAPTOP, "metroctl user password ann").out
    assert reader.aside(*new_context, "laptop", stdin=password).status == 0
    assert reader.aside("--context", "laptop", "whoami").out.startswith("name    ann\n")
    reader.do(LAPTOP, "metroctl user revoke-certificates ann --all")
    refused = reader.answer("--context", "laptop", "whoami")
    assert refused.status == 1
    assert "the certificate was revoked" in refused.err
    password = reader.do(LAPTOP, "metroctl user password ann").out
    assert reader.aside(*new_context, "another", stdin=password).status == 0
    assert reader.aside("--context", "another", "whoami").status == 0
    assert "user ann" in reader.do(LAPTOP, "metroctl audit list --user ann").out
    reader.do(LAPTOP, "metroctl user delete ann")
    assert reader.answer("--context", "another", "whoami").status == 1


def lose_the_owner_key(reader: Reader) -> None:
    """The key comes back from its copy, and is replaced."""
    keys = reader.home / "x" / "metroctl" / "contexts" / NAME
    copy = (keys / "owner-key.pem").read_bytes()
    for name in ("owner-key.pem", "owner.pem"):
        (keys / name).unlink()
    assert reader.aside("whoami").status == 1
    (keys / "owner-key.pem").write_bytes(copy)
    (keys / "owner-key.pem").chmod(0o600)
    reader.do(OWNER, "metroctl takeownership 10.1.0.2")
    assert reader.do(OWNER, "metroctl whoami").out.startswith("name    owner\n")
    reader.do(LAPTOP, "metroctl auth rotate-owner-key")
    assert (keys / "owner-key.pem").read_bytes() != copy
    assert reader.do(OWNER, "metroctl whoami").out.startswith("name    owner\n")


def move_the_consensus(reader: Reader, machines: Machines, ids: dict[int, str]) -> None:
    """The member with the slow disk gives its place away; later its new disk gets it back."""
    number = uvloop.run(reader.site.store_leader())
    slow = ids[number]
    with machines.slow_disk(number):
        logs = "metroctl node logs NODE_ID --severity warning --backlog 50"
        reader.wait(SLOW, logs, lambda outcome: "from slow disk" in outcome.out, NODE_ID=slow)
        reader.do(SLOW, STATUS)
        for role in ("KubernetesController", "ConsensusMember"):
            reader.do(SLOW, f"metroctl node remove role {role} NODE_ID", NODE_ID=slow)
    assert "2 of 2 voting members" in reader.do(FIRST, STATUS).err
    add = "metroctl node add role ConsensusMember NEW_NODE_ID"
    reader.wait(SLOW, add, lambda _: True, NEW_NODE_ID=slow)
    reader.wait(FIRST, STATUS, lambda outcome: ALL_VOTE in outcome.err)
    machines.calm()


def fill_a_disk(reader: Reader, machines: Machines, ids: dict[int, str]) -> None:
    """What etcd has allocated lasts for a while, but not beyond a restart of its machine."""
    number = uvloop.run(reader.site.leader())
    explain = "metroctl explain NODE_ID"
    logs = "metroctl node logs NODE_ID --severity error --backlog 20"
    with machines.full_disk(number):
        reader.site.kill(number)
        is_said = "[DISK_FULL]"
        reader.wait(FULL, explain, lambda told: is_said in told.out, NODE_ID=ids[number])
        reader.do(FULL, logs, NODE_ID=ids[number])
    reader.wait(FIRST, STATUS, lambda outcome: ALL_VOTE in outcome.err)
    machines.calm()


def split_the_network(reader: Reader, machines: Machines) -> None:
    """The node at 10.1.0.4 is alone, and still answers who asks it; it does not lead."""
    machines.split([[0, 1], [2]])
    minority = "metroctl --endpoints 10.1.0.4 --timeout 3 consensus status"
    deadline = 20
    while (alone := reader.try_(SPLIT, minority)).status == 0 and deadline:
        deadline -= 1  # until its lease has ended, it may lead
    assert alone.status == 2, alone
    majority = "metroctl --endpoints 10.1.0.2,10.1.0.3 consensus status"
    seen = reader.wait(SPLIT, majority, lambda outcome: "2 of 3 voting members" in outcome.err)
    assert "etcdserver: no leader" in seen.out
    machines.split([[0, 1, 2]])
    reader.wait(SPLIT, majority, lambda outcome: ALL_VOTE in outcome.err)
    machines.calm()


def give_room_back(reader: Reader) -> None:
    for line in (
        "metroctl consensus defragment",
        "metroctl consensus defragment 10.1.0.2 10.1.0.3 10.1.0.4",
    ):
        assert reader.do(FULL, line).out.count("metropolis-") == 3


def lose_the_leader(reader: Reader, machines: Machines) -> int:
    """Cut the power of the machine that leads. Returns its number; it stays off."""
    leader = uvloop.run(reader.site.leader())
    machines.kill(leader)
    reader.wait(LEADER, STATUS, lambda outcome: "2 of 3 voting members" in outcome.err)
    reader.do(LEADER, "metroctl audit list --newest-first --limit 5")
    return leader


def lose_the_quorum(reader: Reader, machines: Machines, lost: int) -> None:
    """One more machine loses power; the one that is left knows no leader. Then it comes back."""
    survivor, other = (number for number in reader.site.numbers if number != lost)
    machines.kill(other)
    ask = "metroctl --endpoints 10.1.0.2 --timeout 3 node list"
    whom = {"10.1.0.2": address_of(survivor)}
    deadline_s = time.monotonic() + CALM_S
    while "knows none" not in (alone := reader.try_(QUORUM, ask, **whom)).err:
        assert time.monotonic() < deadline_s, alone  # until the lease of the leader has ended
    assert alone.status == 2
    machines.switch_on(other)
    reader.wait(FIRST, STATUS, lambda outcome: "2 of 3 voting members" in outcome.err)


def replace_a_node(reader: Reader, machines: Machines, lost: int, ids: dict[int, str]) -> None:
    gone = ids[lost]
    ill = "metroctl node list --filter 'node.health != HEALTH_HEALTHY'"
    reader.wait(NODE, ill, lambda outcome: f"{gone} " in outcome.out and "TIMEOUT" in outcome.out)
    explained = reader.do(UNHEALTHY, "metroctl explain NODE_ID", NODE_ID=gone)
    assert "[HEARTBEAT_TIMEOUT]" in explained.out
    force = "metroctl node decommission NODE_ID --force --yes"
    assert "Decommissioned node" in reader.do(STUCK, force, NODE_ID=gone).err
    reader.do(NODE, force, NODE_ID=gone)
    assert "DECOMMISSIONED" in reader.do(STUCK, "metroctl explain NODE_ID", NODE_ID=gone).out
    reader.do(NODE, "metroctl node delete NODE_ID --yes", NODE_ID=gone)
    new = _enrol_another_machine(reader, machines, lost)
    add = "metroctl node add role ConsensusMember NEW_NODE_ID"
    reader.wait(NODE, add, lambda _: True, NEW_NODE_ID=new)
    reader.wait(FIRST, STATUS, lambda outcome: ALL_VOTE in outcome.err)
    machines.calm()
    reader.do(UNHEALTHY, "metroctl node logs NODE_ID --backlog 50", NODE_ID=new)


def _enrol_another_machine(reader: Reader, machines: Machines, number: int) -> str:
    """With an old ticket, then without permission, then as the page says. Returns its id."""
    machines.install(number, ticket=machines.ticket())
    rotated = "metroctl cluster ticket rotate --output-file ticket"
    reader.do(TICKET, rotated)
    machines.switch_on(number)
    machines.wait_console(number, "registerticket invalid")
    ask = "metroctl approve"
    assert reader.do(REFUSED, ask).out == ""
    waiting = _register_again(reader, machines, number)
    reader.do(TICKET, "metroctl node delete NODE_ID --yes", NODE_ID=waiting)
    machines.wait_console(number, "somebody deleted it")
    waiting = _register_again(reader, machines, number)
    assert reader.do(NODE, ask).out.strip() == waiting
    explained = reader.do(UNHEALTHY, "metroctl explain NODE_ID", NODE_ID=waiting)
    assert "[NOT_APPROVED]" in explained.out
    reader.do(NODE, "metroctl approve NEW_NODE_ID", NEW_NODE_ID=waiting)
    healthy = "metroctl explain NODE_ID"
    reader.wait(
        UNHEALTHY,
        healthy,
        lambda outcome: "Nothing keeps it from doing its work." in outcome.out,
        NODE_ID=waiting,
    )
    return waiting


def _register_again(reader: Reader, machines: Machines, number: int) -> str:
    """Install a machine with the ticket that the page tells how to get. Returns its id."""
    machines.kill(number)
    reader.do(REFUSED, "metroctl cluster ticket --output-file ticket")
    reader.do(REFUSED, "metroctl cluster get")
    machines.install(number, ticket=base64.b64decode((reader.home / "ticket").read_text()))
    machines.switch_on(number)
    ask = "metroctl approve"
    return reader.wait(TICKET, ask, lambda outcome: bool(outcome.out)).out.strip()
