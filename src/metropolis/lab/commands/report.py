# SPDX-License-Identifier: Apache-2.0
"""How a cluster that is up is shown at the end of a command."""

import sys
from collections.abc import Sequence

from metropolis.api.management_pb2 import Node
from metropolis.ctl.tables import render_nodes
from metropolis.lab.commands.options import flag, spelled
from metropolis.lab.model import Rack


def print_cluster(found: Sequence[Node], rack: Rack) -> None:
    """Print the nodes as `metroctl node list` does, then the next three commands to try."""
    sys.stdout.write(render_nodes(found))
    sys.stdout.flush()
    metroctl, metropolis = spelled("metroctl"), spelled("metropolis")
    node_id = found[0].id if found else "NODE"
    lines = [
        "",
        "Try next:",
        f"  {metroctl} node describe all",
        f"  {metroctl} node logs {node_id} --backlog 20",
        f"  {metropolis} status{flag(rack.name)}",
    ]
    print("\n".join(lines), file=sys.stderr)
