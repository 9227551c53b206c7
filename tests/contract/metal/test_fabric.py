# SPDX-License-Identifier: Apache-2.0
"""Networks, addresses and switches on both databases: many at once, and nothing is lost."""

import asyncio
from typing import Any

import pytest

from metropolis.base.errors import ResourceExhaustedError
from metropolis.metal.ipam.pools import ASN, VRF, acquire_integer, list_integers
from metropolis.metal.services.connections import connect_machine
from metropolis.metal.services.leaks import find_leaks
from metropolis.metal.store import Store, Transaction
from unit.metal.fabric.history import live
from unit.metal.fabric.world import World, registration, seen, world
from unit.metal.kit import opened

WIDTH = 24


async def statuses(made: World, calls: list[tuple[str, str, Any]]) -> list[int]:
    """Make all calls at once."""
    answers = await asyncio.gather(*(made.client.call(*each) for each in calls))
    return [each.status for each in answers]


def test_what_many_take_and_give_back_at_once_is_all_there_again(store_url: str) -> None:
    async def scenario() -> None:
        async with world(url=store_url) as made:
            wish = {"projectid": "red", "partitionid": "muc"}
            calls: list[tuple[str, str, Any]] = [("POST", "/v1/network/allocate", wish)] * WIDTH
            assert set(await statuses(made, calls)) == {201}
            networks = await made.ok("POST", "/v1/network/find", {"projectid": "red"})
            assert len({each["vrf"] for each in networks}) == WIDTH
            assert len({prefix for each in networks for prefix in each["prefixes"]}) == 2 * WIDTH
            body = {"projectid": "red", "networkid": "internet", "type": "static"}
            calls = [("POST", "/v1/ip/allocate", body)] * WIDTH
            assert set(await statuses(made, calls)) == {201}
            certain = [("POST", "/v1/ip/allocate/198.51.100.200", body)] * WIDTH
            assert sorted(await statuses(made, certain)) == [201] + [409] * (WIDTH - 1)
            ips = await made.ok("GET", "/v1/ip")
            assert len(ips) == WIDTH + 1
            assert await made.leaks() == []
            calls = [("DELETE", f"/v1/network/free/{each['id']}", None) for each in networks]
            calls += [("DELETE", f"/v1/ip/free/{each['ipaddress']}", None) for each in ips]
            assert set(await statuses(made, calls)) == {200}
            assert await made.leaks() == []
            assert (await made.ok("GET", "/v1/network/super"))["usage"]["used_prefixes"] == 0
            assert await made.ok("GET", "/v1/ip") == []

    asyncio.run(scenario())


def test_replicas_never_give_an_address_or_a_number_twice(postgres_url: str) -> None:
    async def scenario() -> None:
        async with world(url=postgres_url) as made, opened(postgres_url) as other:
            child = (await made.child())["id"]
            for index in range(WIDTH):
                await made.add_machine(f"m{index}", {})
            mirror = World(client=made.client, other=other)
            used = await asyncio.gather(
                *(
                    (made, mirror)[index % 2].allocate(f"m{index}", [child, "internet"])
                    for index in range(WIDTH)
                )
            )
            ips = [ip for networks in used for each in networks for ip in each.ips]
            assert len(ips) == len(set(ips)) == 4 * WIDTH
            assert len({networks[0].asn for networks in used}) == WIDTH
            assert await other.read(find_leaks) == []

    asyncio.run(scenario())


async def use_up(store: Store, pool: Any, count: int = 0) -> None:
    """Let a pool have no more than `count` integers left."""

    async def body(tx: Transaction) -> None:
        await acquire_integer(tx, pool)
        mark = pool.last + 1 - count
        await tx.execute("UPDATE ipam_pool SET mark = $2 WHERE name = $1", pool.name, mark)

    await store.write(body)


def test_when_numbers_are_used_up_nothing_else_is_taken(store_url: str) -> None:
    async def scenario() -> None:
        async with world(url=store_url) as made:
            await use_up(made.store, VRF, count=1)
            child = (await made.child())["id"]
            wish = {"projectid": "red", "partitionid": "muc"}
            assert "vrf" in await made.refused(422, "POST", "/v1/network/allocate", wish)
            assert (await made.ok("GET", "/v1/network/super"))["usage"]["used_prefixes"] == 1
            await use_up(made.store, ASN)
            await made.add_machine("m1", {})
            with pytest.raises(ResourceExhaustedError, match="asn"):
                await made.allocate("m1", [child])
            assert await made.ok("GET", "/v1/ip") == []
            taken = await made.store.read(lambda reader: list_integers(reader, ASN))
            assert list(taken) == [1]
            await made.ok("DELETE", f"/v1/network/free/{child}")
            await made.child()

    asyncio.run(scenario())


def test_both_databases_answer_a_history_alike(postgres_url: str) -> None:
    history = live(7, steps=120, url=postgres_url)
    assert history.statuses >= {200, 201, 400, 404, 409, 422}
    assert history.answers == live(7, steps=120).answers


def test_switches_that_register_and_report_at_once_are_all_there(store_url: str) -> None:
    async def scenario() -> None:
        async with world(url=store_url) as made:
            names = [f"leaf{number:02}" for number in range(10, 10 + WIDTH)]
            calls: list[tuple[str, str, Any]] = [
                ("POST", "/v1/switch/register", registration(name)) for name in names
            ]
            assert set(await statuses(made, calls)) == {201}
            report = {"sync_duration": 1, "error": "", "port_states": {"Ethernet0": "UP"}}
            calls = [("POST", f"/v1/switch/{name}/notify", report) for name in names] * 3
            assert set(await statuses(made, calls)) == {200}
            switches = await made.ok("GET", "/v1/switch")
            assert [each["id"] for each in switches] == names
            assert all(each["last_sync"] for each in switches)
            both = seen(dict.fromkeys(names[:2], "Ethernet4"))
            racks = await asyncio.gather(
                *(made.store.write(lambda tx: connect_machine(tx, "m1", both)) for _ in range(4))
            )
            assert set(racks) == {"rack-1"}
            leaf = await made.ok("GET", f"/v1/switch/{names[0]}")
            assert [each["machine_id"] for each in leaf["connections"]] == ["m1"]

    asyncio.run(scenario())
