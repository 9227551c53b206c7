# SPDX-License-Identifier: Apache-2.0
"""How the services that deal with users read all accounts and change them.

Every administrative change reads everything, checks who may do it, and is written together with
the next epoch, so two of them never pass each other.
"""

from collections.abc import Callable

from metropolis.api.users_pb2 import Grants
from metropolis.base.errors import DataLossError, NotFoundError, PermissionDeniedError
from metropolis.cluster.leader import Leader
from metropolis.cluster.planner.authorization import OWNER, PERMISSIONS
from metropolis.cluster.state import accounts
from metropolis.cluster.state.accounts import Accounts, UserRecord
from metropolis.cluster.state.fenced import Change, retry_conflicts
from metropolis.consensus.store import Get
from metropolis.rpc.peer import Peer, PeerKind

# Decides, from all accounts and what the caller holds (None: everything), what is to be written.
Decide = Callable[[Accounts, frozenset[str] | None], Change]


async def load(leader: Leader) -> Accounts:
    """Read all accounts, linearizably."""
    snapshot = await leader.store.read(Get(accounts.PREFIX, is_prefix=True))
    return accounts.decode(snapshot.ranges[0])


async def change(leader: Leader, peer: Peer, decide: Decide) -> None:
    """Read, decide and write, again while somebody else is faster. An empty change is not written.

    Raises:
        MetropolisError: what `decide` raises, or the store.
    """

    async def attempt() -> None:
        found = await load(leader)
        decided = decide(found, held_by_caller(found, peer))
        if decided.operations:
            revision = await leader.store.write(decided + found.next_epoch())
            await leader.access.settle(revision)

    await retry_conflicts(attempt)


def held_by_caller(found: Accounts, peer: Peer) -> frozenset[str] | None:
    """Return what a calling user holds; None: everything, for it is the owner.

    Raises:
        PermissionDeniedError: a node calls.
    """
    if peer.kind is not PeerKind.USER:
        raise PermissionDeniedError("only users may call this", remedy="Call it as a user.")
    return None if peer.identity == OWNER else found.held_by(peer.identity)


def find_user(found: Accounts, name: str) -> UserRecord:
    """Return a user's record, which may be damaged.

    Raises:
        NotFoundError: there is none.
    """
    record = found.users.get(name)
    if record is None:
        raise NotFoundError(
            f"no such user: {name[:64]!r}", remedy="List them with `metroctl user list`."
        )
    return record


def held_by_record(found: Accounts, record: UserRecord) -> frozenset[str]:
    """Return what a user holds; of a damaged record everything, for only the owner may touch it."""
    return frozenset(PERMISSIONS) if record.message is None else found.held_by(record.name)


def damaged(what: str, name: str) -> DataLossError:
    """Return what a change to a record that cannot be read meets."""
    return DataLossError(
        f"the record of {what} {name!r} is damaged",
        remedy=f"Delete the {what} as the owner, and make it again.",
    )


def spoken(grants: Grants) -> str:
    """Say what a user or a group holds."""
    parts = [
        *(f"role {name}" for name in grants.roles),
        *grants.permissions,
        *(f"group {name}" for name in grants.groups),
    ]
    return ", ".join(parts) or "nothing"
