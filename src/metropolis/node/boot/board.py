# SPDX-License-Identifier: Apache-2.0
"""What the machine's tree and the node's know, as facts for people."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from metropolis.api import common_pb2
from metropolis.cluster.planner.room import REMEDY
from metropolis.node.console.facts import Facts, Problem, Progress, Troubles, awaited
from metropolis.node.network.status import NetworkStatus
from metropolis.node.product import ProductInfo
from metropolis.node.roles.edges import RoleEdges
from metropolis.supervision import Context, Missed, ReadOptions, RunnableStatus, Value

_UNSTAMPED: Final = "Metropolis Node, not stamped"
_DISK_FULL: Final = Problem(
    dn="root.storage", cause="the disk of this node is full", next_step=REMEDY
)
States = Callable[[], Mapping[str, RunnableStatus]]


@dataclass(kw_only=True)
class Board:
    """The values that facts are read from. One per start of the machine.

    Attributes:
        system: Which slot runs; empty where nobody knows.
        roles: Of the node that runs now.
    """

    product: ProductInfo | None
    network: Value[NetworkStatus | None]
    network_waits_for: Value[str]
    system: str = ""
    is_confirmed: bool = False
    roles: Value[RoleEdges | None] = field(default_factory=lambda: Value(None))
    node_states: States | None = None
    machine_states: States | None = None
    troubles: Troubles = field(default_factory=Troubles)
    known_ca: bytes = b""
    known_fingerprint: str = ""

    def states(self) -> Mapping[str, RunnableStatus]:
        """All runnables of this machine."""
        parts = (self.machine_states, self.node_states)
        return {dn: each for part in parts if part is not None for dn, each in part().items()}

    def facts(self) -> Facts:
        """What there is to show now."""
        status = self.network.current
        edges = self.roles.current
        identity = None if edges is None else edges.identity.current
        roles = None if edges is None else edges.roles.current
        progress = Progress(
            has_addresses=status is not None,
            has_identity=identity is not None,
            has_roles=roles is not None,
            is_heard=edges is not None and edges.heartbeat_s.current is not None,
            network=self.network_waits_for.current,
            enrolment=self.troubles.enrolment,
        )
        return Facts(
            product=(
                _UNSTAMPED
                if self.product is None
                else f"{self.product.name} {self.product.version}"
            ),
            variant="" if self.product is None else self.product.variant,
            node_id="" if identity is None else identity.node_id,
            addresses=() if status is None else tuple(status.addresses),
            roles=role_names(roles),
            ca_fingerprint=("" if identity is None else self._fingerprint(identity.ca_certificate)),
            system=self._system(),
            waits_for=awaited(progress),
            problem=self._problem(edges),
        )

    def _problem(self, edges: RoleEdges | None) -> Problem | None:
        """A full disk, which others follow from; else what fails."""
        if edges is not None and edges.is_disk_full.current:
            return _DISK_FULL
        return self.troubles.current(self.states)

    def _fingerprint(self, certificate: bytes) -> str:
        """SHA-256 of a certificate that hardly ever changes."""
        if self.known_ca != certificate:
            self.known_ca = certificate
            self.known_fingerprint = hashlib.sha256(certificate).hexdigest()
        return self.known_fingerprint

    def _system(self) -> str:
        if not self.system:
            return ""
        return f"{self.system}, {'confirmed' if self.is_confirmed else 'not confirmed yet'}"


def role_names(roles: common_pb2.NodeRoles | None) -> Sequence[str]:
    """Return the roles of a node as people call them."""
    if roles is None:
        return ()
    named = (
        (roles.HasField("consensus_member"), "ConsensusMember"),
        (roles.HasField("kubernetes_controller"), "KubernetesController"),
        (roles.HasField("kubernetes_worker"), "KubernetesWorker"),
    )
    return tuple(name for is_there, name in named if is_there)


async def listen(ctx: Context, *, board: Board) -> None:
    """Keep the board's troubles in step with the log."""
    reader = ctx.log_tree.read("", ReadOptions(with_children=True, backlog=None, stream=True))
    try:
        for entry in reader.backlog:
            board.troubles.hear(entry)
        ctx.healthy()
        while True:
            item = await reader.receive()
            if not isinstance(item, Missed):
                board.troubles.hear(item)
    finally:
        reader.close()
