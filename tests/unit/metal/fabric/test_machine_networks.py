# SPDX-License-Identifier: Apache-2.0
"""Machines in networks: which they may be in, what they get there, and what they give back."""

import asyncio
from typing import Any

import pytest

from metropolis.base.errors import MetropolisError
from metropolis.metal.ipam.pools import ASN, list_integers
from metropolis.metal.model.machine import MACHINES
from metropolis.metal.services.machine_networks import detach_machine
from metropolis.metal.services.machines import change
from metropolis.metal.store import Transaction
from unit.metal.fabric.world import World, world

POSSIBLE = ("own", "own2", "shared", "shared2", "foreign", "foreign-shared", "elsewhere")


async def named(made: World) -> dict[str, str]:
    """Networks of every sort, by what they are."""
    await made.ok(
        "PUT",
        "/v1/network",
        {
            "id": "super-fra",
            "prefixes": ["10.64.0.0/16"],
            "defaultchildprefixlength": {"IPv4": 22},
            "partitionid": "fra",
            "privatesuper": True,
        },
        201,
    )
    await made.ok("PUT", "/v1/network", {"id": "mpls", "prefixes": ["10.77.0.0/24"]}, 201)
    found = {each: each for each in ("super", "underlay", "internet", "mpls")}
    asked: tuple[dict[str, Any], ...] = (
        {},
        {},
        {"shared": True},
        {"shared": True},
        {"projectid": "blue"},
        {"projectid": "blue", "shared": True},
        {"partitionid": "fra"},
    )
    for name, more in zip(POSSIBLE, asked, strict=True):
        found[name] = (await made.child(**more))["id"]
    return found


async def free(made: World, machine_id: str) -> None:
    """Give back what a machine has, as freeing it does."""

    async def body(tx: Transaction) -> None:
        machine = await tx.get(MACHINES, machine_id)
        allocation = machine.value.allocation
        await detach_machine(tx, machine_id, allocation.networks if allocation else ())
        await change(tx, machine, allocation=None)

    await made.store.write(body)


ALLOWED: list[tuple[str, str, list[str], list[str]]] = [
    ("one of its own", "machine", ["own"], ["privateprimaryunshared"]),
    ("a single shared one", "machine", ["shared"], ["privateprimaryshared"]),
    (
        "own and external, whatever the order",
        "machine",
        ["internet", "own"],
        ["privateprimaryunshared", "external"],
    ),
    ("a firewall gets the underlay", "firewall", ["own"], ["privateprimaryunshared", "underlay"]),
    (
        "a firewall in a shared network beside its own",
        "firewall",
        ["foreign-shared", "internet", "own", "shared"],
        [
            "privateprimaryunshared",
            "privatesecondaryshared",
            "privatesecondaryshared",
            "external",
            "underlay",
        ],
    ),
]


@pytest.mark.parametrize(
    ("role", "networks", "types"), [each[1:] for each in ALLOWED], ids=[each[0] for each in ALLOWED]
)
def test_a_machine_gets_an_address_of_each_family_and_one_as_number(
    role: Any, networks: list[str], types: list[str]
) -> None:
    async def scenario() -> None:
        async with world() as made:
            ids = await named(made)
            await made.add_machine("m1", {})
            used = await made.allocate("m1", [ids[each] for each in networks], role=role)
            assert [each.network_type for each in used] == types
            assert {each.asn for each in used} == {4210000001}
            for each in used:
                families = {":" in ip for ip in each.ips}
                assert families == {":" in prefix for prefix in each.prefixes}
                assert each.private == (each.network_type.startswith("private"))
                assert each.underlay == (each.network_type == "underlay")
            assert await made.leaks() == []
            await free(made, "m1")
            assert await made.ok("GET", "/v1/ip") == []
            assert await made.store.read(lambda reader: list_integers(reader, ASN)) == {}
            assert await made.leaks() == []

    asyncio.run(scenario())


REFUSED: list[tuple[str, str, list[str], str]] = [
    ("none", "machine", [], "networks"),
    ("unknown", "machine", ["nowhere"], "nowhere"),
    ("named twice", "machine", ["own", "own"], "more than once"),
    ("only external", "machine", ["internet"], "private"),
    ("underlay", "firewall", ["own", "underlay"], "underlay"),
    ("super", "machine", ["super"], "super"),
    ("two of its own", "firewall", ["own", "own2"], "primary"),
    ("two shared", "firewall", ["shared", "shared2"], "primary"),
    ("machine beside a shared one", "machine", ["own", "shared"], "one private network"),
    ("another project's", "machine", ["foreign"], "another project"),
    ("another project's shared as primary", "machine", ["foreign-shared"], "another project"),
    ("another partition's", "machine", ["elsewhere"], "partition"),
]


@pytest.mark.parametrize(
    ("role", "networks", "reason"),
    [each[1:] for each in REFUSED],
    ids=[each[0] for each in REFUSED],
)
def test_a_machine_that_may_not_be_there_takes_nothing(
    role: Any, networks: list[str], reason: str
) -> None:
    async def scenario() -> None:
        async with world() as made:
            ids = await named(made)
            await made.add_machine("m1", {})
            with pytest.raises(MetropolisError, match=reason) as refused:
                await made.allocate("m1", [ids.get(each, each) for each in networks], role=role)
            assert refused.value.remedy
            assert await made.ok("GET", "/v1/ip") == []
            assert await made.leaks() == []

    asyncio.run(scenario())


def test_a_partition_without_an_underlay_has_no_firewalls() -> None:
    async def scenario() -> None:
        async with world() as made:
            child = (await made.child())["id"]
            await made.ok("DELETE", "/v1/network/underlay")
            await made.add_machine("m1", {})
            with pytest.raises(MetropolisError, match="underlay"):
                await made.allocate("m1", [child], role="firewall")
            assert await made.leaks() == []

    asyncio.run(scenario())


GIVEN: list[tuple[str, list[str], list[str], str]] = [
    ("a manual private network without an address", ["own"], [], "ips"),
    ("an address elsewhere for a manual network", ["own"], ["internet"], "own"),
    ("fewer addresses than manual networks", ["own", "internet"], ["own"], "ips"),
]


@pytest.mark.parametrize(
    ("manual", "given", "reason"), [each[1:] for each in GIVEN], ids=[each[0] for each in GIVEN]
)
def test_a_network_that_acquires_nothing_needs_an_address(
    manual: list[str], given: list[str], reason: str
) -> None:
    async def scenario() -> None:
        async with world() as made:
            ids = await named(made)
            await made.add_machine("m1", {})
            ips = [await static(made, ids[each]) for each in given]
            with pytest.raises(MetropolisError, match=reason if reason == "ips" else ids[reason]):
                await made.allocate(
                    "m1",
                    [ids["own"], ids["internet"]],
                    manual=[ids[each] for each in manual],
                    ips=ips,
                )
            assert await made.leaks() == []

    asyncio.run(scenario())


async def static(made: World, network: str, project: str = "red", kind: str = "static") -> str:
    body = {"projectid": project, "networkid": network, "type": kind}
    return str((await made.ok("POST", "/v1/ip/allocate", body, 201))["ipaddress"])


def test_a_given_address_is_used_instead_of_a_new_one_and_stays_when_it_is_static() -> None:
    async def scenario() -> None:
        async with world() as made:
            ids = await named(made)
            await made.add_machine("m1", {})
            kept = await static(made, ids["own"])
            passing = await static(made, "internet", kind="ephemeral")
            used = await made.allocate("m1", [ids["own"], "internet"], ips=[kept, passing])
            assert [each.ips for each in used] == [(kept,), (passing,)]
            assert await made.leaks() == []
            await free(made, "m1")
            assert [each["ipaddress"] for each in await made.ok("GET", "/v1/ip")] == [kept]
            assert (await made.ok("GET", f"/v1/ip/{kept}"))["tags"] == []
            assert await made.leaks() == []

    asyncio.run(scenario())


def test_a_network_is_kept_while_a_machine_is_in_it_even_without_an_address() -> None:
    async def scenario() -> None:
        async with world() as made:
            ids = await named(made)
            await made.add_machine("m1", {})
            ips = [await static(made, ids["own"]) for _ in range(2)]
            used = await made.allocate(
                "m1", [ids["own"], "mpls"], manual=[ids["own"], "mpls"], ips=ips
            )
            assert [each.ips for each in used] == [tuple(ips), ()]
            assert "m1" in await made.refused(422, "DELETE", "/v1/network/mpls")
            await free(made, "m1")
            await made.ok("DELETE", "/v1/network/mpls")

    asyncio.run(scenario())


def test_more_than_anybody_means_is_refused_before_it_is_looked_at() -> None:
    async def scenario() -> None:
        async with world() as made:
            await made.add_machine("m1", {})
            for networks, ips in (([f"n{n}" for n in range(101)], []), (["n"], ["x"] * 1001)):
                with pytest.raises(MetropolisError, match="more than"):
                    await made.allocate("m1", networks, ips=ips)

    asyncio.run(scenario())


def test_an_address_is_refused_that_is_not_the_projects_or_not_in_the_networks() -> None:
    async def scenario() -> None:
        async with world() as made:
            ids = await named(made)
            await made.add_machine("m1", {})
            theirs = await static(made, "internet", project="blue")
            outside = await static(made, "internet")
            for ips, networks, reason in (
                ([theirs], [ids["own"], "internet"], "another project"),
                ([outside], [ids["own"]], "internet"),
                (["198.51.100.77"], [ids["own"], "internet"], "not allocated"),
                (["everything"], [ids["own"], "internet"], "not allocated"),
            ):
                with pytest.raises(MetropolisError, match=reason):
                    await made.allocate("m1", networks, ips=ips)
            assert await made.leaks() == []

    asyncio.run(scenario())


def test_an_ephemeral_address_goes_with_its_last_machine() -> None:
    async def scenario() -> None:
        async with world() as made:
            ids = await named(made)
            anycast = await static(made, "internet", kind="ephemeral")
            for machine in ("m1", "m2"):
                await made.add_machine(machine, {})
                await made.allocate(machine, [ids["own"], "internet"], ips=[anycast])
            await free(made, "m1")
            assert (await made.ok("GET", f"/v1/ip/{anycast}"))["tags"] == [
                "machine.metal-stack.io/id=m2"
            ]
            await free(made, "m2")
            await made.refused(404, "GET", f"/v1/ip/{anycast}")
            assert await made.leaks() == []

    asyncio.run(scenario())


def test_when_a_later_network_is_used_up_the_earlier_ones_are_not_taken() -> None:
    async def scenario() -> None:
        async with world() as made:
            child = (await made.child())["id"]
            await made.ok("PUT", "/v1/network", {"id": "tiny", "prefixes": ["192.0.2.0/31"]}, 201)
            await made.add_machine("m1", {})
            with pytest.raises(MetropolisError, match=r"192\.0\.2"):
                await made.allocate("m1", [child, "internet", "tiny"])
            assert await made.leaks() == []
            assert await made.ok("GET", "/v1/ip") == []
            assert await made.store.read(lambda reader: list_integers(reader, ASN)) == {}

    asyncio.run(scenario())
