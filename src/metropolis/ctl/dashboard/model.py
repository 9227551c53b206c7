# SPDX-License-Identifier: Apache-2.0
"""What the dashboard knows, at one moment. Frozen and pure; times are monotonic seconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

ROLE_SHORT: Final = {
    "ConsensusMember": "cm",
    "KubernetesController": "kc",
    "KubernetesWorker": "kw",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRow:
    """One node, as the leader knows it.

    Attributes:
        heartbeat: How long ago the leader heard it, e.g. "3s", or "never".
        address: Empty while it never told.
    """

    node_id: str
    state: str
    health: str
    roles: Sequence[str]
    address: str
    heartbeat: str

    def matches(self, text: str) -> bool:
        """Whether some word of the row contains the text, in any case."""
        wanted = text.lower()
        short = (ROLE_SHORT.get(role, role) for role in self.roles)
        words = (self.node_id, self.state, self.health, self.address, *self.roles, *short)
        return any(wanted in word.lower() for word in words)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRow:
    """One member of the consensus.

    Attributes:
        vote: "yes", "no", or "learner" for a member that will vote once it has caught up.
        raft_index: How far it is; 0: unknown.
    """

    node_id: str
    vote: str
    is_raft_leader: bool
    is_reachable: bool
    raft_index: int
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Everything that may be on the page.

    Attributes:
        cluster: What the operator calls it.
        leader_id: Of the node that leads; empty: none is known.
        summary: How many members may fail, in a sentence.
        taken_s: When nodes, members and leader were read; None: never yet.
        problem: Why they could not be read since; empty: they could.
        explained_id: Of the node that the explanation is of.
        explanation: Its lines.
        logged_id: Of the node that the log is of.
        log: Its newest lines, oldest first.
    """

    cluster: str
    nodes: Sequence[NodeRow] = ()
    members: Sequence[MemberRow] = ()
    summary: str = ""
    leader_id: str = ""
    taken_s: float | None = None
    problem: str = ""
    explained_id: str = ""
    explanation: Sequence[str] = ()
    logged_id: str = ""
    log: Sequence[str] = ()


def worst_node(nodes: Sequence[NodeRow]) -> str:
    """Return the id of the node to look at first: one that is ill, else the first; or nothing."""
    ill = [node for node in nodes if node.health != "HEALTHY"]
    return next((node.node_id for node in (*ill, *nodes)), "")


def age_text(seconds: float) -> str:
    """Spell a time span, e.g. "12 s" or "3 min"."""
    whole = max(0, int(seconds))
    if whole < 120:  # noqa: PLR2004  # two minutes: from there on seconds do not matter
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 7200 else f"{whole // 3600} h"  # noqa: PLR2004  # two hours
