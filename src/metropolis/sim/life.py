# SPDX-License-Identifier: Apache-2.0
"""The life of a cluster in a simulated world: founded, grown and used while things break.

m1 founds ─▶ ownership ─▶ ┌ m2, m3, … register, are approved, get the consensus role ┐
                          │ then roles change, nodes are deleted and come back anew  │ ─▶ calm
                          │ labels are set, one after the other                      │
                          └ the nemesis breaks things                                ┘
calm: every node is UP and HEALTHY, those with the role vote, and no others; every acknowledged
label is there
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar, final

from metropolis.api.management_pb2 import Node
from metropolis.base.errors import MetropolisError
from metropolis.cluster.lifecycle import NodeState
from metropolis.cluster.state import keys
from metropolis.consensus.memory.keyspace import Keyspace
from metropolis.host.sim.disk import CAPACITY_BYTES
from metropolis.node.storage import PARAMETERS
from metropolis.rpc.channel import Channel
from metropolis.sim.changes import Changes, MembershipLedger
from metropolis.sim.invariants import (
    Approvals,
    OnlyTheLeaderWrites,
    node_records,
    records_are_readable,
)
from metropolis.sim.loop import note
from metropolis.sim.nemesis import Nemesis
from metropolis.sim.operator import NodeParameters, Operator, retry
from metropolis.sim.world import Machine, World

T = TypeVar("T")

FOUNDING_S: Final = 300.0  # without faults it takes a few seconds
ENROLMENT_S: Final = 1200.0  # with faults all the way
CALM_S: Final = 600.0  # after the last fault everything must be well within this
APPROVED_AT_ONCE: Final = 0.7  # probability per node and look; the operator is in no hurry
UNINVITED: Final = "uninvited"  # label of the machine that nobody approves
AT_ONCE_MAX: Final = 4  # labels that are set at the same time
LABELS_MAX: Final = 100  # of one node; the cluster allows 128
GUARDED: Final = (
    keys.NODES,
    keys.JOIN_KEYS,
    keys.CONFIGURATION,
    keys.INITIAL_OWNER,
    keys.REGISTER_TICKET,
    keys.CLUSTER_PKI,
    keys.CONSENSUS_PKI,
)


@dataclass(slots=True)
class Ledger:
    """What the operator was told.

    Attributes:
        labels: Node id -> keys of the labels whose setting was acknowledged. Nobody removes any,
            but with the node.
        membership: Of deletions and settings.
        calls: Requests that were acknowledged.
        refusals: Requests that failed.
    """

    labels: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    membership: MembershipLedger = field(default_factory=MembershipLedger)
    calls: int = 0
    refusals: int = 0

    def check(self, keyspace: Keyspace) -> str | None:
        """Compare the store with what was acknowledged."""
        if not self.labels:
            return None
        try:
            stored = {record.node_id: record.labels for record in node_records(keyspace)}
        except MetropolisError:
            return None  # another check says so
        for node_id, names in self.labels.items():
            labels = next((found for each, found in stored.items() if each == node_id), None)
            if labels is None and node_id in self.membership.doomed:
                continue
            labels = labels or {}
            lost = [name for name in names if name not in labels]
            if lost:
                return f"labels {lost} of {node_id} were acknowledged and are gone"
        return None


@final
class ClusterLife:
    """One cluster from its founding to its calm."""

    def __init__(self, world: World, nemesis: Nemesis) -> None:
        self.world = world
        self.ledger = Ledger()
        self._nemesis = nemesis
        self._rng = world.fork_rng()
        self._approvals = Approvals()
        self._operator = Operator(
            world.operator_transport(),
            addresses=[machine.address for machine in world.machines],
            rng=world.fork_rng(),
        )
        self.changes = Changes(
            world,
            self._operator,
            nemesis,
            approvals=self._approvals,
            ledger=self.ledger.membership,
            reinstall=self._reinstall,
            is_ours=lambda node: not _is_uninvited(node),
        )
        self._members = world.rng.randint(1, len(world.machines) - 1)  # in the end
        writes = OnlyTheLeaderWrites(world.consensus, election=keys.LEADER, guarded=GUARDED)
        world.invariants.add("only the leader writes", writes.check)
        world.invariants.add_store("node records are sound", records_are_readable)
        world.invariants.add_store("a machine is one node at most", self._count_nodes)
        world.invariants.add_store("nobody is UP without approval", self._approvals.check)
        world.invariants.add_store("no acknowledged label is lost", self.ledger.check)
        world.invariants.add_store("deletions and settings stay", self.ledger.membership.check)

    async def run(self, faults_s: float) -> None:
        """Live through `faults_s` of faults.

        Raises:
            AssertionError: calm did not come.
        """
        first, *others = self.world.machines
        install(first, self._operator.founding_parameters())
        first.boot()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._nemesis.run(faults_s), name="nemesis")
            await self._operator.take_ownership(within_s=faults_s + FOUNDING_S)
            async with self._operator.connect() as channel:
                using = tasks.create_task(self._use(channel, faults_s), name="operator")
                await self._grow(channel, others, hurry_s=faults_s / 4)
                await self.changes.run(channel, faults_s / 2)
                await using
        async with self._operator.connect() as channel:
            await self.changes.settle(channel, members=self._members)
            await self._wait_calm(channel)

    async def _grow(self, channel: Channel, machines: Sequence[Machine], hurry_s: float) -> None:
        """Let machines register, and make every node but the last a consensus member."""
        async with asyncio.TaskGroup() as tasks:
            for machine in machines:
                delay_s = self._rng.uniform(0, hurry_s)
                tasks.create_task(self._add(channel, machine, delay_s), name=machine.name)
            await self._insist(lambda: self._approve_everybody(channel, len(machines)))
        await self._insist(lambda: self._promote_everybody(channel))

    async def _add(self, channel: Channel, machine: Machine, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        parameters = await self._insist(lambda: self._operator.registration_parameters(channel))
        if machine is self.world.machines[-1]:
            parameters.cluster_register.labels.pairs.add(key=UNINVITED, value="")
        install(machine, parameters)
        if not machine.is_on:
            machine.boot()

    async def _approve_everybody(self, channel: Channel, count: int) -> None:
        nodes = await self._operator.nodes(channel)
        for node in nodes:
            is_waiting = NodeState(node.state) is NodeState.NEW and not _is_uninvited(node)
            if is_waiting and self._rng.random() < APPROVED_AT_ONCE:
                self._approvals.approve(node.id)
                await self._operator.approve(channel, node.pubkey)
        up = sum(NodeState(node.state) is NodeState.UP for node in nodes)
        if up < count:
            raise MetropolisError(f"{up} of {count} nodes are up")

    async def _promote_everybody(self, channel: Channel) -> None:
        for node in await self._operator.nodes(channel):
            if not node.roles.HasField("consensus_member") and not _is_uninvited(node):
                await self._operator.set_consensus(channel, node.id, is_member=True)

    async def _use(self, channel: Channel, duration_s: float) -> None:
        """Set labels, often several of one node at once, and remember which were acknowledged."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + duration_s
        number = 0
        while loop.time() < end_s and number < LABELS_MAX:
            await asyncio.sleep(self._rng.uniform(0.5, 4 * duration_s / LABELS_MAX))
            try:
                node = self._rng.choice(await self._operator.nodes(channel))
            except MetropolisError as error:
                self.ledger.refusals += 1
                note(f"operator: {error}")
                continue
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self._rng.choice([1, AT_ONCE_MAX])):
                    number += 1
                    tasks.create_task(self._label(channel, node.id, f"n{number}"))

    async def _label(self, channel: Channel, node_id: str, name: str) -> None:
        try:
            await self._operator.label(channel, node_id, name, "x")
        except MetropolisError as error:
            self.ledger.refusals += 1
            note(f"operator: label {name}: {error}")
        else:
            self.ledger.calls += 1
            self.ledger.labels.setdefault(node_id, []).append(name)

    def _count_nodes(self, keyspace: Keyspace) -> str | None:
        count, machines = len(keyspace.scan(keys.NODES).items), len(self.world.machines)
        return f"{machines} machines are {count} nodes" if count > machines else None

    async def _wait_calm(self, channel: Channel) -> None:
        expected = len(self.world.machines) - 1

        async def attempt() -> None:
            nodes = await self._operator.nodes(channel)
            problems = [problem for node in nodes if (problem := _unwell(node))]
            if len(nodes) != expected + 1:
                problems.append(f"{len(nodes)} nodes registered instead of {expected + 1}")
            problems += self._roles_unlike_members(nodes)
            if problems:
                raise MetropolisError("; ".join(problems))

        try:
            await retry(attempt, within_s=CALM_S, rng=self._rng)
        except MetropolisError as error:
            raise AssertionError(f"no calm {CALM_S:g} s after the last fault: {error}") from error

    def _roles_unlike_members(self, nodes: Sequence[Node]) -> list[str]:
        """Compare who votes with who has the role."""
        voters = {state.name for state in self.world.consensus.cluster.roster.voters()}
        holders = {node.id for node in nodes if node.roles.HasField("consensus_member")}
        problems = [f"{each} votes without the role" for each in sorted(voters - holders)]
        problems += [f"{each} has the role and no vote" for each in sorted(holders - voters)]
        if len(holders) != self._members:
            problems.append(f"{len(holders)} nodes have the role instead of {self._members}")
        return problems

    async def _reinstall(self, machine: Machine, channel: Channel) -> None:
        install(machine, await self._operator.registration_parameters(channel))

    async def _insist(self, attempt: Callable[[], Awaitable[T]]) -> T:
        return await retry(attempt, within_s=ENROLMENT_S, rng=self._rng)


def install(machine: Machine, parameters: NodeParameters) -> None:
    """Put node parameters on a machine's disk, as an installer does, who makes room for them."""
    disk = machine.host.disk
    capacity_bytes, disk.capacity_bytes = disk.capacity_bytes, CAPACITY_BYTES
    disk.put(PARAMETERS.path, parameters.SerializeToString(), PARAMETERS.mode)
    disk.capacity_bytes = capacity_bytes


def _is_uninvited(node: Node) -> bool:
    return any(pair.key == UNINVITED for pair in node.labels.pairs)


def _unwell(node: Node) -> str:
    if _is_uninvited(node):
        return "" if NodeState(node.state) is NodeState.NEW else f"{node.id} was never approved"
    if NodeState(node.state) is not NodeState.UP:
        return f"{node.id} is {NodeState(node.state).name}"
    if node.health != Node.HEALTH_HEALTHY:
        return f"{node.id} is {Node.Health.Name(node.health)}"
    return ""
