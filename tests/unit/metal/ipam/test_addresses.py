# SPDX-License-Identifier: Apache-2.0
"""Addresses of a prefix, on either database."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from metropolis.base.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
)
from metropolis.metal.ipam import addresses, prefixes
from metropolis.metal.store import Store
from unit.metal.kit import opened

Scenario = Callable[[Store], Awaitable[None]]


def run(store_url: str, scenario: Scenario) -> None:
    async def whole() -> None:
        async with opened(store_url) as store:
            await scenario(store)

    asyncio.run(whole())


async def take(store: Store, cidr: str, address: str | None = None) -> str:
    taken = await store.write(lambda tx: addresses.acquire_address(tx, cidr, address), serial=False)
    assert (taken.prefix, taken.namespace) == (cidr, "")
    return taken.address


@pytest.mark.parametrize(
    ("cidr", "expected"),
    [
        ("10.0.0.0/29", [f"10.0.0.{last}" for last in range(1, 7)]),
        ("10.0.0.0/30", ["10.0.0.1", "10.0.0.2"]),
        ("10.0.0.0/31", []),
        ("10.0.0.0/32", []),
        ("2001:db8::/126", ["2001:db8::1", "2001:db8::2", "2001:db8::3"]),
        ("2001:db8::/127", ["2001:db8::1"]),
        ("2001:db8::/128", []),
        ("255.255.255.252/30", ["255.255.255.253", "255.255.255.254"]),
        (
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127",
            ["ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
        ),
    ],
)
def test_all_but_the_first_and_the_broadcast_address_are_handed_out(
    store_url: str, cidr: str, expected: list[str]
) -> None:
    async def scenario(store: Store) -> None:
        await store.write(lambda tx: prefixes.create_prefix(tx, cidr))
        assert [await take(store, cidr) for _ in expected] == expected
        with pytest.raises(ResourceExhaustedError, match="no address is left"):
            await take(store, cidr)
        usage = await store.read(lambda reader: prefixes.usage(reader, cidr))
        assert usage.acquired_ips == usage.available_ips
        if expected:
            await store.write(lambda tx: addresses.release_address(tx, cidr, expected[0]))
            assert await take(store, cidr) == expected[0]

    run(store_url, scenario)


def test_a_certain_address_is_taken_once_and_never_handed_out_again(store_url: str) -> None:
    async def scenario(store: Store) -> None:
        cidr = "10.0.0.0/16"
        await store.write(lambda tx: prefixes.create_prefix(tx, cidr))
        certain = ["10.0.0.1", "10.0.0.3", "10.0.0.70", "10.0.255.254"]
        for address in certain:
            assert await take(store, cidr, address) == address
            with pytest.raises(AlreadyExistsError, match=f"ip {address} is already allocated"):
                await take(store, cidr, address)
        others = [await take(store, cidr) for _ in range(130)]
        assert not set(certain) & set(others)
        assert len(set(others)) == 130
        with pytest.raises(AlreadyExistsError):
            await take(store, cidr, others[64])
        listed = await store.read(lambda reader: addresses.list_addresses(reader, cidr))
        assert {each.address for each in listed} == {*certain, *others}

    run(store_url, scenario)


def test_what_is_released_can_be_had_again(store_url: str) -> None:
    async def scenario(store: Store) -> None:
        cidr = "10.0.0.0/28"
        await store.write(lambda tx: prefixes.create_prefix(tx, cidr))
        await take(store, cidr, "10.0.0.9")
        await store.write(lambda tx: addresses.release_address(tx, cidr, "10.0.0.9"))
        with pytest.raises(NotFoundError, match=r"ip 10\.0\.0\.9 is not allocated"):
            await store.write(lambda tx: addresses.release_address(tx, cidr, "10.0.0.9"))
        everything = [await take(store, cidr) for _ in range(14)]
        assert len(set(everything)) == 14
        for address in ("10.0.0.14", "10.0.0.1"):
            await store.write(lambda tx, ip=address: addresses.release_address(tx, cidr, ip))  # type: ignore[misc]
        assert {await take(store, cidr), await take(store, cidr)} == {"10.0.0.1", "10.0.0.14"}

    run(store_url, scenario)


def test_what_is_asked_wrongly_is_refused(store_url: str) -> None:
    async def scenario(store: Store) -> None:
        cidr = "10.0.0.0/24"
        await store.write(lambda tx: prefixes.create_prefix(tx, cidr))
        for wrong in ("10.0.1.1", "x", "2001:db8::1", "10.0.0.1/32"):
            with pytest.raises(InvalidArgumentError, match="ip "):
                await take(store, cidr, wrong)
            with pytest.raises(InvalidArgumentError, match="ip "):
                await store.write(lambda tx, ip=wrong: addresses.release_address(tx, cidr, ip))  # type: ignore[misc]
        for reserved in ("10.0.0.0", "10.0.0.255"):
            with pytest.raises(AlreadyExistsError, match="never"):
                await take(store, cidr, reserved)
        for wanted in (None, "10.9.0.1"):
            with pytest.raises(NotFoundError, match=r"prefix 10\.9\.0\.0/16 not found"):
                await take(store, "10.9.0.0/16", wanted)

    run(store_url, scenario)


def test_many_are_taken_together_or_none(store_url: str) -> None:
    async def scenario(store: Store) -> None:
        cidr = "10.0.0.0/24"
        await store.write(lambda tx: prefixes.create_prefix(tx, cidr))
        await take(store, cidr, "10.0.0.2")
        many = await store.write(lambda tx: addresses.acquire_addresses(tx, cidr, 200))
        assert len({each.address for each in many}) == 200
        with pytest.raises(ResourceExhaustedError):
            await store.write(lambda tx: addresses.acquire_addresses(tx, cidr, 54))
        assert len(await store.write(lambda tx: addresses.acquire_addresses(tx, cidr, 53))) == 53

    run(store_url, scenario)


def test_thirty_two_clients_never_get_the_same_address(store_url: str) -> None:
    async def scenario(store: Store) -> None:
        cidr = "10.0.0.0/21"
        await store.write(lambda tx: prefixes.create_prefix(tx, cidr))
        held: list[str] = []

        async def client(number: int) -> None:
            mine = [await take(store, cidr) for _ in range(16)]
            held.extend(mine)
            for address in mine[:: 2 + number % 3]:
                held.remove(address)
                await store.write(
                    lambda tx, ip=address: addresses.release_address(tx, cidr, ip),  # type: ignore[misc]
                    serial=number % 4 == 0,
                )
            held.append(await take(store, cidr))

        await asyncio.gather(*(client(number) for number in range(32)))
        assert len(held) == len(set(held))
        listed = await store.read(lambda reader: addresses.list_addresses(reader, cidr))
        assert sorted(each.address for each in listed) == sorted(held)

    run(store_url, scenario)


def test_nobody_gets_an_address_while_the_prefix_begins_to_have_children(store_url: str) -> None:
    async def scenario(store: Store) -> None:
        async def turn(cidr: str) -> None:
            await store.write(lambda tx: prefixes.create_prefix(tx, cidr), serial=False)
            first = await take(store, cidr)
            await store.write(lambda tx: addresses.release_address(tx, cidr, first), serial=False)
            results = await asyncio.gather(
                take(store, cidr),
                store.write(lambda tx: prefixes.acquire_child(tx, cidr, 26), serial=False),
                take(store, cidr, f"{cidr.removesuffix('0/24')}77"),
                return_exceptions=True,
            )
            has_child = not isinstance(results[1], BaseException)
            got = [each for each in (results[0], results[2]) if not isinstance(each, BaseException)]
            assert not (has_child and got), results
            assert has_child or got, results

        for number in range(12):
            await turn(f"10.0.{number}.0/24")

    run(store_url, scenario)
