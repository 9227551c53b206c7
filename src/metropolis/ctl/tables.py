# SPDX-License-Identifier: Apache-2.0
"""Nodes as people read them: cells of a table, names of roles, versions. Pure.

The columns and their order do not depend on what is in them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, cast

from metropolis.api import common_pb2, management_pb2, version_pb2
from metropolis.base.errors import InvalidArgumentError
from metropolis.ctl.suggestions import did_you_mean
from metropolis.ctl.text_table import Paint, render

NEVER_S: Final = 9_223_372_036  # what "no heartbeat was ever seen" looks like, in whole seconds
_COMMIT_CHARS: Final = 8


def render_nodes(
    nodes: Iterable[management_pb2.Node],
    columns: Sequence[str] | None = None,
    *,
    paint: Paint | None = None,
) -> str:
    """Render nodes.

    Args:
        columns: Headers, as `check_columns` returns them; None: those of `metroctl node list`.
    """
    headers = LIST_COLUMNS if columns is None else columns
    rows = [[_NODE_CELLS[header](node) for header in headers] for node in nodes]
    return render(headers, rows, paint=paint)


def check_columns(text: str) -> Sequence[str]:
    """Understand a comma-separated list of column names, in any case.

    Raises:
        InvalidArgumentError: one is unknown; the remedy names the nearest.
    """
    found: list[str] = []
    for name in text.split(","):
        header = " ".join(name.upper().replace("_", " ").split())
        if header not in _NODE_CELLS:
            raise InvalidArgumentError(
                f"there is no column {name.strip()[:64]!r}",
                remedy=did_you_mean(header, NODE_COLUMNS)
                or f"Choose from: {', '.join(each.lower() for each in NODE_COLUMNS)}.",
            )
        found.append(header)
    return found


def role_names(roles: common_pb2.NodeRoles) -> Sequence[str]:
    """Names of the roles that are held, sorted."""
    held = {
        "ConsensusMember": roles.HasField("consensus_member"),
        "KubernetesController": roles.HasField("kubernetes_controller"),
        "KubernetesWorker": roles.HasField("kubernetes_worker"),
    }
    return [name for name in sorted(held) if held[name]]


def version_text(version: version_pb2.Version) -> str:
    """Render `X.Y.Z-dev<N>.g<8 hex>.dirty`, or `X.Y.Z-nostamp` of a build without git."""
    release, git = version.release, version.git_information
    text = f"{release.major}.{release.minor}.{release.patch}"
    if not git.commit_hash:
        return f"{text}-nostamp"
    parts = [f"dev{git.commits_since_release}"] if git.commits_since_release else []
    parts.append(f"g{git.commit_hash[:_COMMIT_CHARS]}")
    if git.build_tree_state != version_pb2.Version.GitInformation.BUILD_TREE_STATE_CLEAN:
        parts.append("dirty")
    return f"{text}-{'.'.join(parts)}"


def heartbeat_text(node: management_pb2.Node) -> str:
    """Render how long ago the leader heard the node, or "never"."""
    if not was_heard(node):
        return "never"
    return f"{node.time_since_heartbeat.seconds}s"


def was_heard(node: management_pb2.Node) -> bool:
    """Whether a heartbeat of the node was ever seen by the present leader."""
    return node.HasField("time_since_heartbeat") and node.time_since_heartbeat.seconds < NEVER_S


def state_text(node: management_pb2.Node) -> str:
    """Render the life-cycle state without its prefix."""
    return enum_text(common_pb2.NodeState, node.state, "NODE_STATE_")


def health_text(node: management_pb2.Node) -> str:
    """Render the health without its prefix."""
    return enum_text(management_pb2.Node.Health, node.health, "HEALTH_")


def enum_text(kind: object, number: int, prefix: str) -> str:
    """Render an enum's value without its prefix; a number that we do not know as itself."""
    items = cast("Iterable[tuple[str, int]]", kind.items())  # type: ignore[attr-defined]
    names = {value: name for name, value in items}
    return names.get(number, str(number)).removeprefix(prefix)


_TPM: Final[Mapping[int, str]] = {
    common_pb2.NODE_TPM_USAGE_NOT_PRESENT: "no",
    common_pb2.NODE_TPM_USAGE_PRESENT_BUT_UNUSED: "unused",
    common_pb2.NODE_TPM_USAGE_PRESENT_AND_USED: "yes",
}


def _version_cell(node: management_pb2.Node) -> str:
    return version_text(node.status.version) if node.status.HasField("version") else ""


_NODE_CELLS: Final[Mapping[str, Callable[[management_pb2.Node], str]]] = {
    "NODE ID": lambda node: node.id,
    "STATE": state_text,
    "ADDRESS": lambda node: node.status.external_address or "unknown",
    "HEALTH": health_text,
    "ROLES": lambda node: ",".join(role_names(node.roles)),
    "TPM": lambda node: _TPM.get(node.tpm_usage, "unk"),
    "VERSION": _version_cell,
    "HEARTBEAT": heartbeat_text,
    "LABELS": lambda node: ",".join(f"{pair.key}:{pair.value}" for pair in node.labels.pairs),
}
NODE_COLUMNS: Final = tuple(_NODE_CELLS)  # all of them: `metroctl node describe`
LIST_COLUMNS: Final = ("NODE ID", "STATE", "ADDRESS", "HEALTH", "ROLES", "HEARTBEAT")
