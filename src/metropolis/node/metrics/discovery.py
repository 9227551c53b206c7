# SPDX-License-Identifier: Apache-2.0
"""The nodes of the cluster as targets for Prometheus (http_sd). Pure.

One entry per node that has told its address, sorted by id. The address has no port, as upstream:
whoever scrapes adds it, or asks for the node by its name, which is what its certificate proves.
"""

import json
from collections.abc import Mapping
from typing import Any

from metropolis.api.curator_pb2 import Node

ROLES = ("kubernetes_worker", "kubernetes_controller", "consensus_member")


def targets(nodes: Mapping[str, Node]) -> list[dict[str, Any]]:
    """List the targets, with labels for relabelling."""
    return [
        {
            "targets": [_bracketed(node.status.external_address)],
            "labels": {
                "__meta_metropolis_node": node.id,
                **{
                    f"__meta_metropolis_role_{role}": str(node.roles.HasField(role)).lower()  # type: ignore[arg-type]  # names of fields
                    for role in ROLES
                },
            },
        }
        for node in sorted(nodes.values(), key=lambda node: node.id)
        if node.status.external_address
    ]


def document(nodes: Mapping[str, Node]) -> bytes:
    """Spell the targets as Prometheus reads them."""
    return json.dumps(targets(nodes)).encode()


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
