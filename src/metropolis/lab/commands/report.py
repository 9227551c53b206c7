# SPDX-License-Identifier: Apache-2.0
"""How a cluster that is up is shown at the end of a command."""

import sys
from collections.abc import Sequence

from metropolis.api.management_pb2 import Node
from metropolis.ctl.tables import render_nodes
from metropolis.lab.commands.options import spelled
from metropolis.lab.model import DEFAULT_NAME, Rack


def print_cluster(found: Sequence[Node], rack: Rack) -> None:
    """Print the nodes as `metroctl node list` does, then the next three commands to try."""
    sys.stdout.write(render_nodes(found))
    sys.stdout.flush()
    metroctl, metropolis = spelled("metroctl"), spelled("metropolis")
    name = "" if rack.name == DEFAULT_NAME else f" --name {rack.name}"
    context = "" if rack.name == DEFAULT_NAME else f" --context {rack.name}"
    node_id = found[0].id if found else "NODE"
    lines = [
        "",
        "Try next:",
        f"  {metroctl} node describe all{context}",
        f"  {metroctl} node logs {node_id} --backlog 20{context}",
        f"  {metropolis} status{name}",
    ]
    print("\n".join(lines), file=sys.stderr)
