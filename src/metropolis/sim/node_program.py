# SPDX-License-Identifier: Apache-2.0
"""The real node, on a simulated machine."""

from metropolis.node.partition import PlainDirectory
from metropolis.node.root import NodeEdges, make_node
from metropolis.node.sealing.sealer import Sealer
from metropolis.sim.world import Boot
from metropolis.supervision import Supervisor


def metropolis_node(boot: Boot) -> Supervisor:
    """Return the supervision tree of a node whose edges are those of a simulated machine."""
    edges = NodeEdges(
        host=boot.host,
        transport=boot.transport,
        member=boot.member,
        partition=PlainDirectory(boot.host.storage),
        print_line=boot.print_line,
        sealer=None if boot.tpm is None else Sealer(boot.tpm, boot.host.entropy),
    )
    return make_node(edges, boot.log_tree)
