# SPDX-License-Identifier: Apache-2.0
"""An operator who does not leave a cluster in peace: roles, deletions and settings, under faults.

    roles       ConsensusMember comes and goes, in any order and while members are down
    deletions   a node is deleted with all bypasses, its machine wiped and registered anew
    rethinking  a node is approved, and deleted without a bypass about when it commits
    settings    the cluster's configuration changes, one after the other

Everything goes through the Cluster API. What was acknowledged is written down here and compared
with the store after every step; what failed may have happened or not.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar, final

from metropolis.api.common_pb2 import ClusterConfiguration
from metropolis.api.management_pb2 import Node
from metropolis.base.errors import FailedPreconditionError, MetropolisError, NotFoundError
from metropolis.cluster.lifecycle import NodeState
from metropolis.cluster.state import keys
from metropolis.consensus.memory.keyspace import Keyspace
from metropolis.rpc.channel import Channel
from metropolis.sim.invariants import Approvals, node_records
from metropolis.sim.loop import note
from metropolis.sim.nemesis import Nemesis
from metropolis.sim.operator import Operator, retry
from metropolis.sim.world import Machine, World

T = TypeVar("T")

PAUSE_S: Final = (0.5, 15.0)
PATIENCE_S: Final = 1200.0
DELETION_PATIENCE_S: Final = 60.0
DELETIONS_MAX: Final = 4
RETHINKS_MAX: Final = 3  # of one machine
RETHOUGHT: Final = 0.5  # probability
RETHOUGHT_AFTER_S: Final = 1.5  # a machine asks every second whether it was approved

Install = Callable[[Machine, Channel], Awaitable[None]]


@final
class MembershipLedger:
    """What the operator was told about nodes that they deleted and settings that they made.

    Attributes:
        doomed: Nodes whose deletion was asked for; they may be gone.
        forced: Those of them whose deletion was asked for with every bypass.
        deleted: Members whose deletion was acknowledged; they must be gone. (A machine that waits
            registers again.)
        settings: What the configuration may be: what was acknowledged last, and what was asked
            for since then.
    """

    def __init__(self) -> None:
        self.doomed: dict[str, None] = {}
        self.forced: dict[str, None] = {}
        self.deleted: dict[str, None] = {}
        self.settings: list[str] = [""]
        self._up: set[str] = set()  # when the store was looked at before

    def check(self, keyspace: Keyspace) -> str | None:
        """Compare the store with what was acknowledged."""
        try:
            stored = {str(each.node_id): each.state for each in node_records(keyspace)}
        except MetropolisError:
            return None  # another check says so
        before, self._up = self._up, {i for i, state in stored.items() if state is NodeState.UP}
        for node_id in sorted(before - set(stored) - set(self.forced)):
            return f"{node_id} was UP and is gone, and nobody asked for that"
        for node_id in self.deleted:
            if node_id in stored:
                return f"{node_id} is back although its deletion was acknowledged"
        for item in keyspace.scan(keys.JOIN_KEYS).items:
            if item.value.decode() not in stored:
                return f"a join key names {item.value.decode()}, which does not exist"
        found = keyspace.scan(keys.CONFIGURATION).items
        if found and (now := _setting(found[0].value)) not in self.settings:
            return f"the configuration says {now!r} instead of one of {self.settings}"
        return None


def _setting(stored: bytes) -> str:
    rules = ClusterConfiguration.FromString(stored).kubernetes.node_labels_to_synchronize
    return rules[0].regexp if rules else ""


@final
class Changes:
    """See the module's docstring.

    Attributes:
        happened: Kind of change -> how often it was acknowledged.
    """

    def __init__(
        self,
        world: World,
        operator: Operator,
        nemesis: Nemesis,
        *,
        approvals: Approvals,
        ledger: MembershipLedger,
        reinstall: Install,
        is_ours: Callable[[Node], bool],
    ) -> None:
        self._world = world
        self._rng = world.fork_rng()
        self._operator = operator
        self._nemesis = nemesis
        self._approvals = approvals
        self._ledger = ledger
        self._reinstall = reinstall
        self._is_ours = is_ours
        self._number = 0
        self.happened: dict[str, int] = {}

    async def run(self, channel: Channel, duration_s: float) -> None:
        """Change things for a while. Every machine is a node, or about to be one, at the end."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + duration_s
        actions = [self._take_role, self._give_role, self._flap, self._replace, self._configure]
        while (pause_s := self._rng.uniform(*PAUSE_S)) < end_s - loop.time():
            await asyncio.sleep(pause_s)
            action = self._rng.choice(actions)
            try:
                await action(channel)
            except MetropolisError as error:
                note(f"operator: {action.__name__}: {error}")

    async def settle(self, channel: Channel, *, members: int) -> None:
        """Let so many nodes, of those that are ours, hold ConsensusMember in the end."""

        async def attempt() -> None:
            nodes = [node for node in await self._operator.nodes(channel) if self._is_ours(node)]
            holders = [node for node in nodes if node.roles.HasField("consensus_member")]
            others = [node for node in nodes if node not in holders]
            for node in holders[members:]:
                await self._operator.set_consensus(channel, node.id, is_member=False)
            for node in others[: max(0, members - len(holders))]:
                await self._operator.set_consensus(channel, node.id, is_member=True)
            if len(holders) != members:
                raise MetropolisError(f"{len(holders)} nodes are to be members, not {members}")

        await self._insist(attempt)

    def _count(self, kind: str) -> None:
        self.happened[kind] = self.happened.get(kind, 0) + 1

    async def _some_node(self, channel: Channel, *, is_member: bool | None) -> Node | None:
        nodes = [
            node
            for node in await self._operator.nodes(channel)
            if self._is_ours(node)
            and NodeState(node.state) is NodeState.UP
            and is_member in {None, node.roles.HasField("consensus_member")}
        ]
        return self._rng.choice(nodes) if nodes else None

    async def _take_role(self, channel: Channel) -> None:
        if (node := await self._some_node(channel, is_member=True)) is not None:
            await self._operator.set_consensus(channel, node.id, is_member=False)
            self._count("role taken")

    async def _give_role(self, channel: Channel) -> None:
        if (node := await self._some_node(channel, is_member=False)) is not None:
            await self._operator.set_consensus(channel, node.id, is_member=True)
            self._count("role given")

    async def _flap(self, channel: Channel) -> None:
        """Give and take the role of one node at the same time."""
        if (node := await self._some_node(channel, is_member=None)) is None:
            return
        async with asyncio.TaskGroup() as tasks:
            for is_member in (True, False):
                tasks.create_task(self._try_role(channel, node.id, is_member=is_member))

    async def _try_role(self, channel: Channel, node_id: str, *, is_member: bool) -> None:
        try:
            await self._operator.set_consensus(channel, node_id, is_member=is_member)
        except MetropolisError as error:
            note(f"operator: {error}")
        else:
            self._count("role flapped")

    async def _configure(self, channel: Channel) -> None:
        self._number += 1
        value = f"n{self._number}"
        self._ledger.settings.append(value)
        await self._operator.synchronize_labels(channel, value)
        self._ledger.settings[:] = [value]
        self._count("configured")

    async def _replace(self, channel: Channel) -> None:
        """Delete a node, wipe its machine, and let it register as another node."""
        if self.happened.get("deleted", 0) >= DELETIONS_MAX:
            return
        node = await self._some_node(channel, is_member=None)
        if node is None or (machine := self._machine_of(node)) is None:
            return
        async with self._nemesis.holding(machine):
            self._ledger.doomed[node.id] = None
            self._ledger.forced[node.id] = None
            try:
                await self._delete(channel, node.id)
            except MetropolisError as error:  # it leads, or the others would be no majority
                note(f"operator: cannot delete {node.id}: {error}")
                if node.id in await self._ids(channel):
                    return
            self._ledger.deleted[node.id] = None
            self._count("deleted")
            await self._install_anew(channel, machine)

    async def _delete(self, channel: Channel, node_id: str) -> None:
        with suppress(NotFoundError):  # the reply to an earlier request was lost
            await retry(
                lambda: self._operator.delete(channel, node_id, is_forced=True),
                within_s=DELETION_PATIENCE_S,
                rng=self._rng,
                unless=(NotFoundError, FailedPreconditionError),
            )

    async def _ids(self, channel: Channel) -> set[str]:
        return {node.id for node in await self._insist(lambda: self._operator.nodes(channel))}

    def _machine_of(self, node: Node) -> Machine | None:
        address = node.status.external_address
        return next((each for each in self._world.machines if each.address == address), None)

    async def _install_anew(self, channel: Channel, machine: Machine) -> None:
        rethinks = 0
        while True:
            known = await self._ids(channel)
            await machine.crash()
            machine.host.disk.wipe()
            await self._insist(lambda: self._reinstall(machine, channel))
            machine.boot()
            node = await self._insist(lambda: self._waiting(channel, known))  # noqa: B023
            if rethinks < RETHINKS_MAX and self._rng.random() < RETHOUGHT:
                rethinks += 1
                if await self._rethink(channel, node):
                    continue
            self._approvals.approve(node.id)
            try:
                await retry(
                    lambda: self._operator.approve(channel, node.pubkey),  # noqa: B023
                    within_s=PATIENCE_S,
                    rng=self._rng,
                    unless=(NotFoundError,),
                )
            except NotFoundError:
                continue  # a deletion that we gave up on took its time
            return

    async def _waiting(self, channel: Channel, known: set[str]) -> Node:
        for node in await self._operator.nodes(channel):
            is_waiting = NodeState(node.state) is NodeState.NEW and self._is_ours(node)
            if is_waiting and node.id not in known:
                return node
        raise MetropolisError("the machine has not registered")

    async def _rethink(self, channel: Channel, node: Node) -> bool:
        """Approve a node and take it back about when it commits; say whether it is gone now.

        Without bypasses: a node that made it into the cluster stays, which the ledger checks.
        """
        self._approvals.approve(node.id)
        self._ledger.doomed[node.id] = None
        if not await self._is_done(self._operator.approve(channel, node.pubkey)):
            return node.id not in await self._ids(channel)
        await asyncio.sleep(self._rng.uniform(0, RETHOUGHT_AFTER_S))
        await self._is_done(self._operator.delete(channel, node.id, is_forced=False))
        self._count("rethought")
        return node.id not in await self._ids(channel)

    async def _is_done(self, request: Awaitable[None]) -> bool:
        try:
            await request
        except MetropolisError as error:
            note(f"operator: {error}")
            return False
        return True

    async def _insist(self, attempt: Callable[[], Awaitable[T]]) -> T:
        return await retry(attempt, within_s=PATIENCE_S, rng=self._rng)
