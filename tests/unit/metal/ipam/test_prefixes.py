# SPDX-License-Identifier: Apache-2.0
"""Prefixes and their children, on either database."""

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import collapse_addresses, ip_network
from typing import Any

import pytest

from metropolis.base.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    MetropolisError,
    NotFoundError,
    ResourceExhaustedError,
)
from metropolis.metal.ipam import addresses, namespaces, prefixes
from metropolis.metal.store import Store, Transaction
from unit.metal.kit import opened

Scenario = Callable[[Store], Awaitable[None]]


def run(store_url: str, scenario: Scenario) -> None:
    async def whole() -> None:
        async with opened(store_url) as store:
            await scenario(store)

    asyncio.run(whole())


async def refused(
    store: Store,
    kind: type[MetropolisError],
    change: Callable[[Transaction], Awaitable[Any]],
    text: str = ".",
) -> None:
    with pytest.raises(kind, match=text) as error:
        await store.write(change)
    assert error.value.remedy


def test_overlap_is_refused_in_a_namespace_and_allowed_across_them(store_url: str) -> None:
    async def scenario(store: Store) -> None:
        await store.write(lambda tx: namespaces.create_namespace(tx, "other"))
        await store.write(lambda tx: prefixes.create_prefix(tx, "10.1.0.0/16"))
        for overlapping in ("10.0.0.0/8", "10.1.0.0/16", "10.1.7.0/24", "0.0.0.0/0"):
            await refused(
                store,
                FailedPreconditionError,
                lambda tx, cidr=overlapping: prefixes.create_prefix(tx, cidr),  # type: ignore[misc]
                "overlaps 10.1.0.0/16",
            )
        for apart in ("10.0.0.0/16", "10.2.0.0/16", "::/0"):
            await store.write(lambda tx, cidr=apart: prefixes.create_prefix(tx, cidr))  # type: ignore[misc]
        await store.write(lambda tx: prefixes.create_prefix(tx, "10.0.0.0/8", namespace="other"))
        listed = await store.read(prefixes.list_prefixes)
        assert [each.cidr for each in listed] == [
            "10.0.0.0/16",
            "10.1.0.0/16",
            "10.2.0.0/16",
            "::/0",
        ]
        await refused(
            store,
            NotFoundError,
            lambda tx: prefixes.create_prefix(tx, "10.0.0.0/8", namespace="nowhere"),
            "namespace 'nowhere'",
        )

    run(store_url, scenario)


def test_host_bits_are_cut_off_and_other_texts_refused(store_url: str) -> None:
    async def scenario(store: Store) -> None:
        made = await store.write(lambda tx: prefixes.create_prefix(tx, "192.168.1.77/24"))
        assert made.cidr == "192.168.1.0/24"
        for wrong in ("10.0.0.0", "10.0.0.0/33", "10.0.0.0/255.0.0.0", "x/8", "", "fe80::1%0/64"):
            await refused(
                store,
                InvalidArgumentError,
                lambda tx, cidr=wrong: prefixes.create_prefix(tx, cidr),  # type: ignore[misc]
                "is no prefix",
            )

    run(store_url, scenario)


def test_a_child_is_cut_from_the_smallest_block_into_which_it_fits(store_url: str) -> None:
    async def scenario(store: Store) -> None:
        await store.write(lambda tx: prefixes.create_prefix(tx, "10.0.0.0/8"))

        async def child(length: int) -> str:
            made = await store.write(lambda tx: prefixes.acquire_child(tx, "10.0.0.0/8", length))
            assert made.parent == "10.0.0.0/8"
            return made.cidr

        assert await child(16) == "10.0.0.0/16"
        assert await child(22) == "10.1.0.0/22"
        assert await child(16) == "10.2.0.0/16", "the rest of 10.1.0.0/16 is too small"
        assert await child(22) == "10.1.4.0/22", "what was begun is used up first"
        await store.write(lambda tx: prefixes.release_child(tx, "10.1.0.0/22"))
        await store.write(lambda tx: prefixes.release_child(tx, "10.1.4.0/22"))
        assert await child(16) == "10.1.0.0/16", "halves that are free are joined"
        usage = await store.read(lambda reader: prefixes.usage(reader, "10.0.0.0/8"))
        assert usage.acquired_prefixes == 3
        assert usage.available_prefixes == (
            "10.3.0.0/16",
            *(f"10.{1 << bit}.0.0/{16 - bit}" for bit in range(2, 8)),
        )
        assert usage.available_smallest_prefixes == (2**22 - 3 * 2**14)

    run(store_url, scenario)


def test_a_certain_child_is_taken_once(store_url: str) -> None:
    async def scenario(store: Store) -> None:
        await store.write(lambda tx: prefixes.create_prefix(tx, "2001:db8::/32"))

        async def take(tx: Transaction, child: str) -> str:
            return (await prefixes.acquire_child(tx, "2001:db8::/32", child=child)).cidr

        assert await store.write(lambda tx: take(tx, "2001:db8:7::/48")) == "2001:db8:7::/48"
        for taken in ("2001:db8:7::/48", "2001:db8:7:1::/64", "2001:db8:6::/47"):
            await refused(
                store,
                FailedPreconditionError,
                lambda tx, cidr=taken: take(tx, cidr),  # type: ignore[misc]
                "is not available",
            )
        for wrong in ("2001:db8::/32", "2001::/16", "2001:db9::/48", "10.0.0.0/40"):
            await refused(store, InvalidArgumentError, lambda tx, cidr=wrong: take(tx, cidr))  # type: ignore[misc]
        await store.write(lambda tx: take(tx, "2001:db8:6::/48"))
        await store.write(lambda tx: take(tx, "2001:db8:8000::/33"))

    run(store_url, scenario)


def test_what_is_full_says_what_is_free(store_url: str) -> None:
    async def scenario(store: Store) -> None:
        await store.write(lambda tx: prefixes.create_prefix(tx, "10.0.0.0/22"))
        for _ in range(3):
            await store.write(lambda tx: prefixes.acquire_child(tx, "10.0.0.0/22", 24))
        await refused(
            store,
            ResourceExhaustedError,
            lambda tx: prefixes.acquire_child(tx, "10.0.0.0/22", 23),
            r"no prefix of length 23 is left in 10.0.0.0/22: 10.0.3.0/24 is free",
        )
        for length in (22, 8, 33):
            await refused(
                store,
                InvalidArgumentError,
                lambda tx, bits=length: prefixes.acquire_child(tx, "10.0.0.0/22", bits),  # type: ignore[misc]
                "length",
            )

    run(store_url, scenario)


def test_a_prefix_holds_children_or_addresses(store_url: str) -> None:
    async def scenario(store: Store) -> None:
        await store.write(lambda tx: prefixes.create_prefix(tx, "10.0.0.0/24"))
        taken = await store.write(lambda tx: addresses.acquire_address(tx, "10.0.0.0/24"))
        await refused(
            store,
            FailedPreconditionError,
            lambda tx: prefixes.acquire_child(tx, "10.0.0.0/24", 26),
            "has ips",
        )
        await store.write(lambda tx: addresses.release_address(tx, "10.0.0.0/24", taken.address))
        await store.write(lambda tx: prefixes.acquire_child(tx, "10.0.0.0/24", 26))
        for wanted in (None, "10.0.0.200"):
            await refused(
                store,
                FailedPreconditionError,
                lambda tx, ip=wanted: addresses.acquire_address(tx, "10.0.0.0/24", ip),  # type: ignore[misc]
                "has child prefixes",
            )
        await store.write(lambda tx: prefixes.release_child(tx, "10.0.0.0/26"))
        again = await store.write(lambda tx: addresses.acquire_address(tx, "10.0.0.0/24"))
        assert again.address == "10.0.0.1"

    run(store_url, scenario)


def test_what_is_used_is_not_deleted(store_url: str) -> None:
    async def scenario(store: Store) -> None:
        await store.write(lambda tx: prefixes.create_prefix(tx, "10.0.0.0/16"))
        await store.write(lambda tx: prefixes.acquire_child(tx, "10.0.0.0/16", 24))
        await store.write(lambda tx: addresses.acquire_address(tx, "10.0.0.0/24"))
        for wanted, text in (("10.0.0.0/16", "has child prefixes"), ("10.0.0.0/24", "has ips")):
            await refused(
                store,
                FailedPreconditionError,
                lambda tx, cidr=wanted: prefixes.delete_prefix(tx, cidr),  # type: ignore[misc]
                text,
            )
        await refused(
            store, InvalidArgumentError, lambda tx: prefixes.release_child(tx, "10.0.0.0/16")
        )
        await store.write(lambda tx: addresses.release_address(tx, "10.0.0.0/24", "10.0.0.1"))
        await store.write(lambda tx: prefixes.delete_prefix(tx, "10.0.0.0/24"))
        await store.write(lambda tx: prefixes.delete_prefix(tx, "10.0.0.0/16"))
        assert await store.read(prefixes.list_prefixes) == []
        for table in ("ipam_prefix", "ipam_block", "ipam_address", "ipam_free"):
            left = await store.read(lambda r, name=table: r.fetch(f"SELECT * FROM {name}"))  # type: ignore[misc]
            assert left == [], table

    run(store_url, scenario)


def test_what_fails_half_way_leaves_nothing(store_url: str) -> None:
    async def scenario(store: Store) -> None:
        await store.write(lambda tx: prefixes.create_prefix(tx, "10.0.0.0/8"))
        before = await store.read(lambda reader: prefixes.usage(reader, "10.0.0.0/8"))

        async def half(tx: Transaction) -> None:
            child = await prefixes.acquire_child(tx, "10.0.0.0/8", 22)
            await addresses.acquire_address(tx, child.cidr)
            await prefixes.create_prefix(tx, "11.0.0.0/8")
            await prefixes.create_prefix(tx, "11.1.0.0/16")

        await refused(store, FailedPreconditionError, half, "overlaps 11.0.0.0/8")
        assert before == await store.read(lambda reader: prefixes.usage(reader, "10.0.0.0/8"))
        assert [each.cidr for each in await store.read(prefixes.list_prefixes)] == ["10.0.0.0/8"]

    run(store_url, scenario)


def test_namespaces_are_made_and_emptied(store_url: str) -> None:
    async def scenario(store: Store) -> None:
        await store.write(lambda tx: namespaces.create_namespace(tx, "blue"))
        await refused(store, AlreadyExistsError, lambda tx: namespaces.create_namespace(tx, "blue"))
        for wrong in ("", "a b", "x" * 129, "-"):
            await refused(
                store,
                InvalidArgumentError,
                lambda tx, name=wrong: namespaces.create_namespace(tx, name),  # type: ignore[misc]
            )
        assert await store.read(namespaces.list_namespaces) == ["", "blue"]
        await store.write(lambda tx: prefixes.create_prefix(tx, "10.0.0.0/8", namespace="blue"))
        await refused(
            store,
            FailedPreconditionError,
            lambda tx: namespaces.delete_namespace(tx, "blue"),
            "has prefixes",
        )
        await store.write(lambda tx: prefixes.delete_prefix(tx, "10.0.0.0/8", namespace="blue"))
        await store.write(lambda tx: namespaces.delete_namespace(tx, "blue"))
        assert await store.read(namespaces.list_namespaces) == [""]
        await refused(
            store, FailedPreconditionError, lambda tx: namespaces.delete_namespace(tx, "")
        )

    run(store_url, scenario)


def test_of_overlapping_prefixes_that_come_at_once_one_is_created(store_url: str) -> None:
    async def scenario(store: Store) -> None:
        wanted = [f"10.0.0.0/{bits}" for bits in range(8, 24)] * 2
        results = await asyncio.gather(
            *(
                store.write(lambda tx, cidr=cidr: prefixes.create_prefix(tx, cidr), serial=False)  # type: ignore[misc]
                for cidr in wanted
            ),
            return_exceptions=True,
        )
        made = [each for each in results if isinstance(each, prefixes.Prefix)]
        assert made == await store.read(prefixes.list_prefixes)
        assert len(made) == 1

    run(store_url, scenario)


def test_thirty_two_clients_never_get_overlapping_children(store_url: str) -> None:
    async def scenario(store: Store) -> None:
        parent = "10.0.0.0/18"
        await store.write(lambda tx: prefixes.create_prefix(tx, parent))
        held: set[str] = set()

        async def client(number: int) -> None:
            for turn in range(3):
                bits = 25 + (number + turn) % 3
                made = await store.write(
                    lambda tx: prefixes.acquire_child(tx, parent, bits),  # noqa: B023
                    serial=number % 5 == 0,
                )
                held.add(made.cidr)
                if (number + turn) % 2:
                    held.remove(made.cidr)
                    await store.write(
                        lambda tx: prefixes.release_child(tx, made.cidr),  # noqa: B023
                        serial=False,
                    )

        await asyncio.gather(*(client(number) for number in range(32)))
        listed = await store.read(lambda reader: prefixes.list_prefixes(reader, parent=parent))
        assert {each.cidr for each in listed} == held
        networks = [ip_network(each) for each in sorted(held)]
        usage = await store.read(lambda reader: prefixes.usage(reader, parent))
        free = [ip_network(each) for each in usage.available_prefixes]
        assert sum(each.num_addresses for each in [*networks, *free]) == 2**14
        assert list(collapse_addresses(free)) == sorted(free), "halves are joined"  # type: ignore[type-var]
        for each in held:
            await store.write(lambda tx, cidr=each: prefixes.release_child(tx, cidr))  # type: ignore[misc]
        usage = await store.read(lambda reader: prefixes.usage(reader, parent))
        assert usage.available_prefixes == (parent,)

    run(store_url, scenario)
