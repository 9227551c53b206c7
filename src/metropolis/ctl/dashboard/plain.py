# SPDX-License-Identifier: Apache-2.0
"""The page as text, for pipes, files and terminals that can do nothing. Pure."""

from collections.abc import Sequence
from typing import Final

from metropolis.ctl.dashboard.model import Model
from metropolis.ctl.text_table import render, visible

LOG_LINES: Final = 10
_NODES: Final = ("node id", "state", "health", "roles", "address", "heartbeat", "leader")
_MEMBERS: Final = ("node id", "votes", "reachable", "raft leader", "raft index", "error")


def text_of(model: Model) -> str:
    """Render everything that is known: sections with a heading, and a blank line between them."""
    healthy = sum(node.health == "HEALTHY" for node in model.nodes)
    state = f"{healthy} of {len(model.nodes)} nodes healthy, leader {model.leader_id or 'unknown'}"
    if model.problem:
        state = f"no leader answers: {model.problem}"
    sections = [[f"Cluster {model.cluster}: {state}"]]
    sections += [["NODES", *_nodes(model)], ["CONSENSUS", *_members(model)]]
    if model.explained_id:
        sections.append([f"EXPLAIN {model.explained_id}", *model.explanation])
    if model.logged_id:
        sections.append([f"LOG {model.logged_id}", *model.log[-LOG_LINES:]])
    return "\n".join(
        "".join(f"{visible(text).rstrip()}\n" for text in section) for section in sections
    )


def _nodes(model: Model) -> Sequence[str]:
    rows = [
        (
            node.node_id,
            node.state,
            node.health,
            ",".join(node.roles) or "none",
            node.address or "unknown",
            node.heartbeat,
            "leader" if node.node_id == model.leader_id else "",
        )
        for node in model.nodes
    ]
    return render(_NODES, rows).splitlines()


def _members(model: Model) -> Sequence[str]:
    rows = [
        (
            member.node_id,
            member.vote,
            "yes" if member.is_reachable else "UNREACHABLE",
            "yes" if member.is_raft_leader else "",
            str(member.raft_index or ""),
            member.error,
        )
        for member in model.members
    ]
    return [*render(_MEMBERS, rows).splitlines(), *([model.summary] if model.summary else [])]
