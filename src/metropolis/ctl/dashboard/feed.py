# SPDX-License-Identifier: Apache-2.0
"""Asks the cluster for what the page shows, again and again, and keeps what it said.

    poll     nodes, members, leader: every interval; when it fails, the last answer stays
    explain  the selected node: when the selection changes, and every few intervals
    follow   the log of the selected node: one stream, opened again when it ends

An error that trying again does not mend ends the dashboard; everything else is on the page.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from metropolis.api.introspection_pb2 import ConsensusMemberHealth
from metropolis.api.logtree_pb2 import LogEntry
from metropolis.api.management_pb2 import Node
from metropolis.base.errors import InvalidArgumentError, MetropolisError
from metropolis.ctl import explanation, members, node_logs, tables
from metropolis.ctl.connection import Cluster
from metropolis.ctl.dashboard.model import MemberRow, Model, NodeRow
from metropolis.ctl.nodes import list_nodes
from metropolis.rpc.resolver import ClusterChannel
from metropolis.supervision.log_text import format_concise
from metropolis.supervision.logtree_wire import from_wire

LOG_LINES_MAX: Final = 500  # kept
BACKLOG: Final = 100  # entries asked for: a slow line carries them in a second
EXPLAIN_EVERY: Final = 3  # intervals
POLL_TIMEOUT_S: Final = 5.0  # then the page says that the leader does not answer
_SETTLE_S: Final = 0.2  # a selection that moves on sooner is not asked about


class Feed:
    """What is known of one cluster. Belongs to one event loop."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        name: str,
        interval_s: float,
        filter_text: str = "",
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """Know nothing yet.

        Args:
            interval_s: Between two polls.
            filter_text: CEL expression over nodes.
            changed: Called whenever `model` is another one.
        """
        self._cluster = cluster
        self._timed = replace(cluster, timeout_s=min(cluster.timeout_s, POLL_TIMEOUT_S))
        self._interval_s = interval_s
        self._filter_text = filter_text
        self._changed = changed
        self._model = Model(cluster=name)
        self._nodes: dict[str, Node] = {}
        self._log: deque[str] = deque(maxlen=LOG_LINES_MAX)
        self._is_log_new = False
        self._is_log_old = False
        self._selected_id = ""
        self._selection = asyncio.Condition()
        self.members: Sequence[ConsensusMemberHealth] = ()

    @property
    def model(self) -> Model:
        """What is known, now."""
        if self._is_log_new:
            self._model = replace(self._model, log=tuple(self._log))
            self._is_log_new = False
        return self._model

    @property
    def nodes(self) -> Sequence[Node]:
        """The nodes as they came."""
        return list(self._nodes.values())

    def fail(self, error: MetropolisError) -> None:
        """The cluster did not answer: what was known stays, and is known to be old."""
        self._set(problem=str(error))

    async def select(self, node_id: str) -> None:
        """Say which node explanation and log are wanted of."""
        if node_id != self._selected_id:
            async with self._selection:
                self._selected_id = node_id
                self._selection.notify_all()

    async def run(self) -> None:
        """Ask until cancelled.

        Raises:
            MetropolisError: nothing that trying again would mend.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._poll())
            tasks.create_task(self._explain())
            tasks.create_task(self._follow())

    async def poll_once(self) -> None:
        """Ask for nodes, members and leader.

        Raises:
            MetropolisError: the cluster refused, or did not answer in time.
        """
        timeout_s = self._timed.timeout_s
        found = await list_nodes(self._cluster.channel, self._filter_text, timeout_s=timeout_s)
        # Those that a filter hides are members nevertheless.
        everybody = (
            await list_nodes(self._cluster.channel, timeout_s=timeout_s)
            if self._filter_text
            else found
        )
        voters = await members.ask_members(self._timed, everybody)
        self._nodes = {node.id: node for node in found}
        self.members = voters
        self._set(
            nodes=tuple(_node_row(node) for node in found),
            members=tuple(_member_row(member) for member in voters),
            summary=members.summary(voters) if voters else "",
            leader_id=self._leader_id(),
            taken_s=asyncio.get_running_loop().time(),
            problem="",
        )

    async def explain_once(self, node_id: str) -> None:
        """Ask why a node is as it is; what fails is said in place of the answer."""
        node = self._nodes.get(node_id)
        if node is None:
            return
        try:
            found = await explanation.explain(self._timed, node)
            # Its first paragraph says what the table of nodes says.
            _, _, text = explanation.text_of(found).partition("\n\n")
            lines = text.splitlines() or ["No cause is known."]
        except MetropolisError as error:
            lines = [f"warning: This cannot be asked now: {error}"]
        if node_id == self._selected_id or not self._selected_id:
            self._set(explained_id=node_id, explanation=tuple(lines))

    async def read_log(self, node_id: str, *, follow: bool, backlog: int = BACKLOG) -> None:
        """Read the log of a node to its end, or until cancelled.

        Raises:
            MetropolisError: the node refused or is gone.
        """
        request = node_logs.request_of(node_logs.Query(backlog=backlog, follow=follow))
        if node_id != self._model.logged_id:
            self._log.clear()
        self._is_log_old = True  # what was read before goes when something newer comes
        async with self._cluster.dial_node(self._nodes[node_id]) as channel:
            await node_logs.read(channel, request, lambda entry: self._keep(node_id, entry))
        self._set_logged(node_id)

    async def read_log_once(self, node_id: str, *, backlog: int) -> None:
        """Read the end of the log of a node; what fails is said in place of it."""
        try:
            await self.read_log(node_id, follow=False, backlog=backlog)
        except MetropolisError as error:
            self._log.append(f"-- The log cannot be read: {error} --")
            self._set_logged(node_id)

    def _set(self, **changes: object) -> None:
        self._model = replace(self._model, **changes)  # type: ignore[arg-type]  # fields of ours
        self._changed()

    def _set_logged(self, node_id: str) -> None:
        self._is_log_new = True
        self._set(logged_id=node_id)

    def _keep(self, node_id: str, message: LogEntry) -> None:
        try:
            text = format_concise(from_wire(message), width=0)
        except InvalidArgumentError as error:
            text = str(error)
        if self._is_log_old:
            self._log.clear()
            self._is_log_old = False
        self._log.extend(text.splitlines())
        self._set_logged(node_id)

    def _leader_id(self) -> str:
        channel = self._cluster.channel
        if not isinstance(channel, ClusterChannel):
            return ""
        host = channel.leader.host if channel.leader is not None else ""
        at_host = (node.id for node in self._nodes.values() if node.status.external_address == host)
        return channel.leader_id or (next(at_host, "") if host else "")

    async def _poll(self) -> None:
        while True:
            try:
                await self.poll_once()
            except MetropolisError as error:
                if not error.retryable:
                    raise
                self.fail(error)
            async with self._selection:
                self._selection.notify_all()  # the selected node may be known by now
            await asyncio.sleep(self._interval_s)

    async def _explain(self) -> None:
        while True:
            node_id = await self._wait_selected()
            await self.explain_once(node_id)
            await self._wait_other_than(node_id, timeout_s=self._interval_s * EXPLAIN_EVERY)

    async def _follow(self) -> None:
        while True:
            node_id = await self._wait_selected()
            async with asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(self._read_on(node_id))
                await self._wait_other_than(node_id, timeout_s=None)
                reading.cancel()

    async def _read_on(self, node_id: str) -> None:
        """Read the log of a node until cancelled, whatever becomes of the node."""
        while True:
            try:
                await self.read_log(node_id, follow=True)
                reason = "The node ended the log."
            except MetropolisError as error:
                reason = f"The log cannot be read: {error}."
            except KeyError:
                reason = "The node is gone."
            text = f"-- {reason} Trying again. --"
            if not self._log or self._log[-1] != text:
                self._log.append(text)
            self._set_logged(node_id)
            await asyncio.sleep(self._interval_s)

    async def _wait_selected(self) -> str:
        """Wait until a node is selected, and stays so for a moment; return its id."""
        while True:
            async with self._selection:
                await self._selection.wait_for(
                    lambda: bool(self._selected_id) and self._selected_id in self._nodes
                )
                node_id = self._selected_id
            if not await self._wait_other_than(node_id, timeout_s=_SETTLE_S):
                return node_id

    async def _wait_other_than(self, node_id: str, *, timeout_s: float | None) -> bool:
        """Wait for another selection; say whether there was one in time."""
        try:
            async with asyncio.timeout(timeout_s), self._selection:
                await self._selection.wait_for(lambda: self._selected_id != node_id)
        except TimeoutError:
            return False
        return True


def _node_row(node: Node) -> NodeRow:
    return NodeRow(
        node_id=node.id,
        state=tables.state_text(node),
        health=tables.health_text(node),
        roles=tuple(tables.role_names(node.roles)),
        address=node.status.external_address,
        heartbeat=tables.heartbeat_text(node),
    )


def _member_row(member: ConsensusMemberHealth) -> MemberRow:
    return MemberRow(
        node_id=member.id,
        vote="yes" if member.voter else "learner" if member.learner else "no",
        is_raft_leader=member.is_leader,
        is_reachable=member.reachable,
        raft_index=member.raft_index,
        error=member.error,
    )
