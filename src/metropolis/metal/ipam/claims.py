# SPDX-License-Identifier: Apache-2.0
"""Addresses taken in one statement, exactly once even if its answer is lost.

On PostgreSQL a transaction costs four round trips, a statement of its own one. When the connection
breaks nobody can tell whether it was done, so it writes down a token beside what it took. Whoever
wants to know inserts the same token: either it is there, with the addresses, or the statement can
never succeed any more.
"""

from typing import Final, final

from metropolis.base.errors import AbortedError, UnavailableError
from metropolis.host import Entropy
from metropolis.metal.ipam.blocks import Network
from metropolis.metal.store import Store, Transaction

_TOKEN_BYTES: Final = 16
_FORGOTTEN: Final = 16  # old tokens are removed together with a new one
_PLACES_MAX: Final = 4096

# As in `addresses`, and the claim, and from where to look: what was taken before stays in the index
# until the next vacuum, and to pass over thousands of those takes longer than all the rest.
_TAKE: Final = """
    WITH forgotten AS (
        DELETE FROM ipam_claim WHERE token = ANY ($5::text[])
    ), chosen AS (
        DELETE FROM ipam_free WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM ipam_free WHERE namespace = $1 AND prefix = $2 AND address >= $6
            ORDER BY address LIMIT $3 FOR UPDATE SKIP LOCKED))
        RETURNING namespace, prefix, address
    ), taken AS (
        INSERT INTO ipam_address (namespace, prefix, address) SELECT * FROM chosen
        RETURNING address
    ), claim AS (
        INSERT INTO ipam_claim (token, addresses)
        SELECT $4, coalesce(string_agg(encode(address, 'hex'), ','), '') FROM taken
    )
    SELECT address FROM taken"""
_SETTLE: Final = (
    "INSERT INTO ipam_claim (token, addresses) VALUES ($1, '') ON CONFLICT DO NOTHING"
    " RETURNING addresses"
)


@final
class Claims:
    """Takes addresses of one PostgreSQL store; tokens are unique by the entropy."""

    def __init__(self, store: Store, entropy: Entropy) -> None:
        assert store.dialect == "postgres", "SQLite commits for all who wait at once anyway"
        self._store = store
        self._name = entropy.token_bytes(_TOKEN_BYTES).hex()
        self._count = 0
        self._settled: list[str] = []  # no longer needed by anybody
        # What was taken last, where that was enough: namespace, prefix -> address. Wrong ones only
        # cost time, because whoever finds too few looks once more among all.
        self._places: dict[tuple[str, str], bytes] = {}

    async def take(self, network: Network, count: int, namespace: str) -> list[bytes]:
        """Take up to so many of the addresses that are offered, in a transaction of their own.

        There may be more than it finds: those before the one that was taken last.

        Raises:
            UnavailableError: the database is away; whether some were taken cannot be told.
        """
        self._count += 1
        token = f"{self._name}-{self._count}"
        old: list[str] = []
        if len(self._settled) >= _FORGOTTEN:
            old, self._settled = self._settled, []
        key = (namespace, str(network))
        place = self._places.pop(key, b"")
        try:
            rows = await self._store.once(_TAKE, *key, count, token, old, place)
            taken = [address for (address,) in rows]
        except AbortedError:
            return []
        except UnavailableError:
            # This token stays: the server process of the old connection may yet wake up.
            return await self._store.write(lambda tx: _settle(tx, token), serial=False)
        self._settled.append(token)
        if len(taken) == count:
            if len(self._places) >= _PLACES_MAX:
                self._places.clear()
            self._places[key] = max(taken)
        return taken


async def _settle(tx: Transaction, token: str) -> list[bytes]:
    """Find out what a statement took; it can take nothing afterwards."""
    if await tx.fetch(_SETTLE, token):
        return []
    ((addresses,),) = await tx.fetch("SELECT addresses FROM ipam_claim WHERE token = $1", token)
    return [bytes.fromhex(each) for each in addresses.split(",") if each]
