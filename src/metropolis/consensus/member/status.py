# SPDX-License-Identifier: Apache-2.0
"""What the local member offers to the rest of the node."""

from dataclasses import dataclass

from metropolis.consensus.store import Membership, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsensusStatus:
    """A voting member that answers linearizable reads through its local socket.

    Its absence (None in the `Value` that carries it) means that this node has no such member now.
    """

    store: Store
    membership: Membership
    member_id: int
