# SPDX-License-Identifier: Apache-2.0
"""An answer of the database that gets lost loses no address and hands none out twice."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar, cast

import pytest

from metropolis.base.errors import AbortedError, ResourceExhaustedError, UnavailableError
from metropolis.host.sim.entropy import SimEntropy
from metropolis.metal.ipam import addresses, prefixes
from metropolis.metal.ipam.desk import open_desk
from metropolis.metal.store import Reader, Store, Transaction
from unit.metal.kit import opened

CIDR = "10.0.0.0/24"
ResultT = TypeVar("ResultT")
Fault = Literal["answer lost", "request lost", "request late", "in the way", ""]


class Faulty:
    """A store whose single statements go wrong as they are told."""

    def __init__(self, store: Store, faults: list[Fault]) -> None:
        self.dialect = store.dialect
        self.late: list[tuple[str, tuple[Any, ...]]] = []
        self.statements = 0
        self._store = store
        self._faults = faults

    async def write(
        self, change: Callable[[Transaction], Awaitable[ResultT]], *, serial: bool = True
    ) -> ResultT:
        return await self._store.write(change, serial=serial)

    async def once(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:
        self.statements += 1
        fault = self._faults.pop(0) if self._faults else ""
        if fault == "in the way":
            raise AbortedError("somebody else")
        if fault in {"answer lost", ""}:
            rows = await self._store.once(sql, *args)
            if not fault:
                return rows
        if fault == "request late":
            self.late.append((sql, args))
        raise UnavailableError("the connection broke")


@pytest.mark.parametrize("fault", ["answer lost", "request lost", "request late", "in the way", ""])
def test_whatever_gets_lost_each_caller_has_an_address_of_its_own(
    postgres_url: str, fault: Fault
) -> None:
    async def scenario() -> None:
        async with opened(postgres_url) as store:
            await store.write(lambda tx: prefixes.create_prefix(tx, CIDR))
            await store.write(lambda tx: addresses.acquire_address(tx, CIDR))
            faulty = Faulty(store, [fault, "", fault])
            async with open_desk(cast("Store", faulty), SimEntropy(3)) as desk:
                got = [
                    each.address
                    for _ in range(3)
                    for each in await asyncio.gather(*(desk.acquire(CIDR) for _ in range(8)))
                ]
            assert faulty.statements >= 3
            for sql, args in faulty.late:  # the old connection's server process wakes up
                with pytest.raises(Exception, match="ipam_claim"):
                    await store.once(sql, *args)
            listed = await store.read(lambda reader: addresses.list_addresses(reader, CIDR))
            assert len(set(got)) == 24
            assert {each.address for each in listed} == {*got, "10.0.0.1"}

    asyncio.run(scenario())


def test_old_tokens_are_forgotten(postgres_url: str) -> None:
    async def scenario() -> None:
        async with opened(postgres_url) as store:
            await store.write(lambda tx: prefixes.create_prefix(tx, CIDR))
            async with open_desk(store, SimEntropy(3)) as desk:
                for _ in range(40):
                    await desk.acquire(CIDR)

            async def claims(reader: Reader) -> int:
                ((count,),) = await reader.fetch("SELECT count(*) FROM ipam_claim")
                return int(count)

            assert await store.read(claims) == 40 - 2 * 16

    asyncio.run(scenario())


def test_the_search_goes_on_where_it_ended_and_comes_back_to_what_was_released(
    postgres_url: str,
) -> None:
    async def scenario() -> None:
        async with opened(postgres_url) as store:
            await store.write(lambda tx: prefixes.create_prefix(tx, "10.0.0.0/29"))
            async with open_desk(store, SimEntropy(3)) as desk:

                async def take() -> str:
                    return (await desk.acquire("10.0.0.0/29")).address

                async def release(address: str) -> None:
                    await store.write(
                        lambda tx: addresses.release_address(tx, "10.0.0.0/29", address)
                    )

                assert [await take() for _ in range(3)] == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
                await release("10.0.0.1")
                await release("10.0.0.2")
                got = [await take() for _ in range(5)]
                assert got[0] == "10.0.0.4", "it does not pass over what is no longer there"
                assert set(got) == {f"10.0.0.{last}" for last in (1, 2, 4, 5, 6)}
                await release("10.0.0.2")
                assert await take() == "10.0.0.2"
                with pytest.raises(ResourceExhaustedError):
                    await take()

    asyncio.run(scenario())


def test_a_prefix_that_is_made_again_begins_at_its_start(postgres_url: str) -> None:
    async def scenario() -> None:
        async with opened(postgres_url) as store, open_desk(store, SimEntropy(3)) as desk:
            for _ in range(2):
                await store.write(lambda tx: prefixes.create_prefix(tx, CIDR))
                got = [(await desk.acquire(CIDR)).address for _ in range(4)]
                assert got == [f"10.0.0.{last}" for last in (1, 2, 3, 4)]
                for address in got:
                    await store.write(
                        lambda tx, each=address: addresses.release_address(tx, CIDR, each)  # type: ignore[misc]
                    )
                await store.write(lambda tx: prefixes.delete_prefix(tx, CIDR))

    asyncio.run(scenario())


def test_a_single_statement_is_a_transaction(store_url: str) -> None:
    async def scenario() -> None:
        async with opened(store_url) as store:
            rows = await store.once(
                "INSERT INTO ipam_claim (token, addresses) VALUES ($1, $2) RETURNING token",
                "t",
                "a",
            )
            assert rows == [("t",)]
            found = await store.read(lambda reader: reader.fetch("SELECT * FROM ipam_claim"))
            assert found == [("t", "a")]

    asyncio.run(scenario())
