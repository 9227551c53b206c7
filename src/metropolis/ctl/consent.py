# SPDX-License-Identifier: Apache-2.0
"""Asks a person before something is done to a node that nothing undoes.

The question names the node, what it does, and the cluster: it is usually the wrong cluster, not the
wrong answer, that people regret.
"""

import sys

from metropolis.api.management_pb2 import Node
from metropolis.base.errors import FailedPreconditionError
from metropolis.ctl.choice import context_of
from metropolis.ctl.session import where
from metropolis.ctl.settings import Settings

_ROLES = {
    "consensus_member": "ConsensusMember",
    "kubernetes_controller": "KubernetesController",
    "kubernetes_worker": "KubernetesWorker",
}


def confirm(settings: Settings, node: Node, *, verb: str, done: str) -> None:
    """Ask on a terminal; elsewhere nobody could answer. `yes`, in full, is the only consent.

    Args:
        verb: What is to be done, as in "Delete node …".
        done: What was not done then, as in "node … was not deleted".

    Raises:
        FailedPreconditionError: the person said no, or there is none.
    """
    if not sys.stdin.isatty():
        raise FailedPreconditionError(
            f"node {node.id} was not {done}: nobody is here to confirm it", remedy="Add --yes."
        )
    context = context_of(settings)
    name = f"{context.name!r}, " if context.name else ""
    roles = [shown for field, shown in _ROLES.items() if node.roles.HasField(field)]  # type: ignore[arg-type]  # the three above
    print(
        f"{verb} node {node.id} ({node.status.external_address or 'no address'}; "
        f"{', '.join(roles) or 'no roles'}) of the cluster {name}{where(context)} for good?\n"
        "Its machine comes back only by being installed anew, as another node. Type yes: ",
        end="",
        file=sys.stderr,
        flush=True,
    )
    if sys.stdin.readline().strip() != "yes":
        raise FailedPreconditionError(
            f"node {node.id} was not {done}", remedy="Type yes in full, or add --yes."
        )
