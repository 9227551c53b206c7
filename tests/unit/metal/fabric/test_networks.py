# SPDX-License-Identifier: Apache-2.0
"""Networks through the interface, with what they take of the books."""

import asyncio
from typing import Any

import pytest

from metropolis.metal.ipam.pools import VRF, list_integers
from metropolis.metal.ipam.prefixes import list_prefixes
from metropolis.metal.store import Reader
from unit.metal.fabric.world import INTERNET, SUPER, UNDERLAY, World, world


async def books(made: World) -> tuple[list[str], dict[int, int]]:
    """What is taken of prefixes and VRFs."""

    async def view(reader: Reader) -> tuple[list[str], dict[int, int]]:
        prefixes = [each.cidr for each in await list_prefixes(reader)]
        return prefixes, await list_integers(reader, VRF)

    return await made.store.read(view)


def test_a_super_network_answers_with_what_is_left_of_it() -> None:
    async def scenario() -> None:
        async with world() as made:
            network = await made.ok("GET", "/v1/network/super")
            assert network["privatesuper"]
            assert network["networktype"] == "super"
            assert network["nattype"] == "none"
            assert network["labels"] == {}
            assert network["destinationprefixes"] == []
            assert network["consumption"]["ipv4"]["available_prefixes"] == 16384
            assert network["consumption"]["ipv6"]["used_prefixes"] == 0
            assert network["usage"] == network["consumption"]["ipv4"]
            assert "parentnetworkid" not in network
            await made.child()
            network = await made.ok("GET", "/v1/network/super")
            assert network["usage"]["used_prefixes"] == 1
            assert network["consumption"]["ipv6"]["used_prefixes"] == 1

    asyncio.run(scenario())


def test_a_child_has_a_prefix_of_each_family_a_vrf_and_its_parent() -> None:
    async def scenario() -> None:
        async with world() as made:
            child = await made.child(
                nat=True, labels={"a": "b"}, destinationprefixes=["10.9.0.0/16"]
            )
            assert child["prefixes"] == ["10.0.0.0/22", "2001:db8::/64"]
            assert child["parentnetworkid"] == "super"
            assert child["networktype"] == "child"
            assert child["nattype"] == "ipv4-masq"
            assert child["vrf"] > 0
            shared = await made.child(shared=True, addressfamily="ipv4", length={"IPv4": 24})
            assert shared["networktype"] == "child-shared"
            assert shared["prefixes"] == ["10.0.4.0/24"]
            assert shared["vrf"] != child["vrf"]
            assert await made.leaks() == []

    asyncio.run(scenario())


def test_what_a_child_took_is_there_again_when_it_is_freed() -> None:
    async def scenario() -> None:
        async with world() as made:
            before = await books(made)
            child = await made.child()
            assert await books(made) != before
            freed = await made.ok("DELETE", f"/v1/network/free/{child['id']}")
            assert freed["id"] == child["id"]
            assert await books(made) == before
            again = await made.child()
            await made.ok("POST", f"/v1/network/free/{again['id']}")
            assert await books(made) == before

    asyncio.run(scenario())


REFUSED: list[tuple[str, int, dict[str, Any], str]] = [
    ("no prefix", 400, {"prefixes": []}, "prefixes"),
    ("no CIDR", 400, {"prefixes": ["10.1.0.0"]}, "prefixes"),
    ("SQL", 400, {"prefixes": ["'; drop table entity; --"]}, "prefixes"),
    ("overlap of its own", 400, {"prefixes": ["10.1.0.0/16", "10.1.2.0/24"]}, "prefixes"),
    ("overlap with the super network", 422, {"prefixes": ["10.0.9.0/24"]}, "overlap"),
    ("overlap of the second", 422, {"prefixes": ["10.1.0.0/16", "198.51.100.0/25"]}, "overlap"),
    ("vrf in use", 409, {"vrf": 104009}, "vrf"),
    ("vrf too great", 400, {"vrf": 131073}, "vrf"),
    ("vrf negative", 400, {"vrf": -1}, "vrf"),
    ("id in use", 409, {"id": "internet"}, "internet"),
    ("id that is no path", 400, {"id": "a/b"}, "id"),
    ("unknown partition", 404, {"partitionid": "nowhere"}, "partition"),
    ("unknown project", 404, {"projectid": "nobody"}, "project"),
    ("second super", 422, {"privatesuper": True, "partitionid": "muc"}, "partitionid"),
    ("super without a partition", 400, {"privatesuper": True}, "partitionid"),
    ("second underlay", 422, {"underlay": True, "partitionid": "muc"}, "partitionid"),
    ("super and underlay", 400, {"privatesuper": True, "underlay": True}, "underlay"),
    ("underlay with NAT", 400, {"underlay": True, "partitionid": "fra", "nat": True}, "nat"),
    ("destination of a family it lacks", 400, {"destinationprefixes": ["::/0"]}, "::/0"),
    (
        "announcable on external",
        400,
        {"additionalAnnouncableCIDRs": ["10.2.0.0/16"]},
        "Announcable",
    ),
    ("child length on external", 400, {"defaultchildprefixlength": {"IPv4": 22}}, "defaultchild"),
    ("child by creation", 400, {"networktype": "child"}, "child"),
    ("parent by creation", 400, {"parentnetworkid": "super"}, "parentnetworkid"),
    ("unknown type", 400, {"networktype": "bridge"}, "networktype"),
    ("type against flags", 400, {"networktype": "underlay", "privatesuper": False}, "networktype"),
    ("unknown NAT", 400, {"nattype": "full-cone"}, "nattype"),
    ("NAT against its type", 400, {"nat": True, "nattype": "none"}, "nattype"),
    ("unknown field", 400, {"colour": "red"}, "colour"),
    ("wrong type", 400, {"vrf": "seven"}, "vrf"),
]


@pytest.mark.parametrize(
    ("status", "change", "named"),
    [each[1:] for each in REFUSED],
    ids=[each[0] for each in REFUSED],
)
def test_a_creation_that_is_refused_takes_nothing(
    status: int, change: dict[str, Any], named: str
) -> None:
    async def scenario() -> None:
        async with world() as made:
            if change.get("privatesuper"):
                change.setdefault("defaultchildprefixlength", {"IPv4": 22})
            before = await books(made)
            body = {"prefixes": ["10.1.0.0/16"], "vrf": 77, "vrfshared": False, **change}
            assert named in await made.refused(status, "PUT", "/v1/network", body)
            assert await books(made) == before
            assert await made.leaks() == []
            assert len(await made.ok("GET", "/v1/network")) == 3

    asyncio.run(scenario())


SUPER_REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("no lengths", {"defaultchildprefixlength": None}),
    ("a family without a length", {"defaultchildprefixlength": {"IPv4": 22}}),
    ("a length without a family", {"prefixes": ["10.1.0.0/16"]}),
    ("a length that is not longer", {"defaultchildprefixlength": {"IPv4": 16, "IPv6": 64}}),
    ("a length beyond the family", {"defaultchildprefixlength": {"IPv4": 33, "IPv6": 64}}),
    ("an unknown family", {"defaultchildprefixlength": {"IPX": 22}}),
]


@pytest.mark.parametrize(
    "change", [each[1] for each in SUPER_REFUSED], ids=[each[0] for each in SUPER_REFUSED]
)
def test_a_super_network_says_how_its_children_are_cut(change: dict[str, Any]) -> None:
    async def scenario() -> None:
        async with world(networks=False) as made:
            message = await made.refused(400, "PUT", "/v1/network", SUPER | change)
            assert "defaultchildprefixlength" in message
            assert await books(made) == ([], {})

    asyncio.run(scenario())


def test_a_vrf_is_shared_only_on_request_and_free_after_its_last_network() -> None:
    async def scenario() -> None:
        async with world(networks=False) as made:
            for index, shared in enumerate((False, True, True)):
                body: dict[str, Any] = {"id": f"n{index}", "prefixes": [f"10.{index}.0.0/16"]}
                await made.ok("PUT", "/v1/network", body | {"vrf": 7, "vrfshared": shared}, 201)
            for index in (1, 0):
                await made.ok("DELETE", f"/v1/network/n{index}")
                assert (await books(made))[1].keys() == {7}
                body = {"id": "late", "prefixes": ["10.9.0.0/16"], "vrf": 7}
                await made.refused(409, "PUT", "/v1/network", body)
            await made.ok("DELETE", "/v1/network/n2")
            assert await books(made) == ([], {})

    asyncio.run(scenario())


ALLOCATION_REFUSED: list[tuple[str, int, dict[str, Any]]] = [
    ("no project", 400, {"projectid": None}),
    ("no partition", 400, {"partitionid": ""}),
    ("unknown project", 404, {"projectid": "nobody"}),
    ("unknown partition", 404, {"partitionid": "nowhere"}),
    ("no super network there", 422, {"partitionid": "fra"}),
    ("unknown family", 400, {"addressfamily": "IPX"}),
    ("too greedy", 400, {"length": {"IPv4": 16}}),
    ("length of no family", 400, {"length": {"IPv5": 22}}),
    ("one family fits, the other does not", 400, {"length": {"IPv6": 48}}),
    (
        "destination of a family it lacks",
        400,
        {"addressfamily": "IPv4", "destinationprefixes": ["::/0"]},
    ),
]


@pytest.mark.parametrize(
    ("status", "change"),
    [each[1:] for each in ALLOCATION_REFUSED],
    ids=[each[0] for each in ALLOCATION_REFUSED],
)
def test_an_allocation_that_is_refused_takes_nothing(status: int, change: dict[str, Any]) -> None:
    async def scenario() -> None:
        async with world() as made:
            before = await books(made)
            body = {"projectid": "red", "partitionid": "muc", **change}
            await made.refused(status, "POST", "/v1/network/allocate", body)
            assert await books(made) == before
            assert await made.leaks() == []

    asyncio.run(scenario())


def test_when_the_second_family_is_used_up_the_first_is_not_taken() -> None:
    async def scenario() -> None:
        async with world(networks=False) as made:
            narrow = SUPER | {"prefixes": ["10.0.0.0/16", "2001:db8::/63"]}
            await made.ok("PUT", "/v1/network", narrow, 201)
            await made.child()
            await made.child()
            before = await books(made)
            body = {"projectid": "red", "partitionid": "muc"}
            message = await made.refused(422, "POST", "/v1/network/allocate", body)
            assert "IPv6" in message
            assert await books(made) == before
            assert await made.leaks() == []
            assert len((await made.child(addressfamily="IPv4"))["prefixes"]) == 1

    asyncio.run(scenario())


def test_when_one_prefix_of_a_super_network_is_used_up_the_next_is_cut() -> None:
    async def scenario() -> None:
        async with world(networks=False) as made:
            prefixes = ["10.0.0.0/21", "10.8.0.0/21"]
            body = SUPER | {"prefixes": prefixes, "defaultchildprefixlength": {"ipv4": 22}}
            await made.ok("PUT", "/v1/network", body, 201)
            cut = [(await made.child())["prefixes"][0] for _ in range(4)]
            assert cut == ["10.0.0.0/22", "10.0.4.0/22", "10.8.0.0/22", "10.8.4.0/22"]
            await made.refused(
                422, "POST", "/v1/network/allocate", {"projectid": "red", "partitionid": "muc"}
            )

    asyncio.run(scenario())


def test_a_network_that_is_used_is_neither_freed_nor_deleted() -> None:
    async def scenario() -> None:
        async with world() as made:
            child = await made.child()
            assert "children" in await made.refused(422, "DELETE", "/v1/network/super")
            body = {"projectid": "red", "networkid": child["id"], "type": "static"}
            address = (await made.ok("POST", "/v1/ip/allocate", body, 201))["ipaddress"]
            for method, path in (("DELETE", "free/"), ("DELETE", "")):
                message = await made.refused(422, method, f"/v1/network/{path}{child['id']}")
                assert address in message
            assert "super network" in await made.refused(422, "DELETE", "/v1/network/free/internet")
            await made.ok("DELETE", f"/v1/ip/free/{address}")
            await made.ok("DELETE", f"/v1/network/{child['id']}")
            await made.ok("DELETE", "/v1/network/super")
            assert await made.leaks() == []

    asyncio.run(scenario())


def test_an_update_adds_and_removes_prefixes() -> None:
    async def scenario() -> None:
        async with world() as made:
            more = {"id": "internet", "prefixes": [*INTERNET["prefixes"], "203.0.113.0/24"]}
            network = await made.ok("POST", "/v1/network", more)
            assert "203.0.113.0/24" in network["prefixes"]
            assert network["vrf"] == 104009
            body = {"projectid": "red", "networkid": "internet", "type": "static"}
            await made.ok("POST", "/v1/ip/allocate/203.0.113.9", body, 201)
            less = {"id": "internet", "prefixes": INTERNET["prefixes"], "name": "new"}
            await made.refused(422, "POST", "/v1/network", less)
            assert (await made.ok("GET", "/v1/network/internet"))["name"] == ""
            await made.ok("DELETE", "/v1/ip/free/203.0.113.9")
            network = await made.ok("POST", "/v1/network", less)
            assert network["prefixes"] == INTERNET["prefixes"]
            assert await made.leaks() == []

    asyncio.run(scenario())


def test_an_update_that_fails_half_way_changes_nothing() -> None:
    async def scenario() -> None:
        async with world() as made:
            before = await books(made)
            body = {
                "id": "internet",
                "prefixes": ["203.0.113.0/24", "2001:db8:1::/64", "10.0.0.0/24"],
            }
            await made.refused(422, "POST", "/v1/network", body)
            assert await books(made) == before
            assert await made.leaks() == []

    asyncio.run(scenario())


def test_what_machines_may_announce_is_only_taken_back_by_force() -> None:
    async def scenario() -> None:
        async with world() as made:
            body = {"id": "super", "additionalAnnouncableCIDRs": ["10.128.0.0/12"]}
            assert "force" not in (await made.refused(422, "POST", "/v1/network", body))[:20]
            network = await made.ok("POST", "/v1/network?force=true", body)
            assert network["additionalAnnouncableCIDRs"] == ["10.128.0.0/12"]
            refused = {"id": "internet", "additionalAnnouncableCIDRs": ["10.128.0.0/12"]}
            await made.refused(400, "POST", "/v1/network?force=true", refused)

    asyncio.run(scenario())


def test_sharing_is_one_way() -> None:
    async def scenario() -> None:
        async with world() as made:
            child = await made.child()
            shared = await made.ok("POST", "/v1/network", {"id": child["id"], "shared": True})
            assert shared["networktype"] == "child-shared"
            await made.refused(422, "POST", "/v1/network", {"id": child["id"], "shared": False})
            await made.refused(
                400, "POST", "/v1/network", {"id": child["id"], "prefixes": ["10.1.0.0/22"]}
            )

    asyncio.run(scenario())


FOUND: list[tuple[dict[str, Any], set[str]]] = [
    ({}, {"super", "underlay", "internet", "child"}),
    ({"id": "super"}, {"super"}),
    ({"id": "super", "underlay": True}, set()),
    ({"privatesuper": True}, {"super"}),
    ({"privatesuper": False, "underlay": False}, {"internet", "child"}),
    ({"underlay": True}, {"underlay"}),
    ({"nat": True}, {"internet"}),
    ({"vrf": 104009}, {"internet"}),
    ({"vrf": 10**30}, set()),
    ({"addressfamily": "ipv6"}, {"super", "internet", "child"}),
    ({"partitionid": "muc"}, {"super", "underlay", "child"}),
    ({"projectid": "red"}, {"child"}),
    ({"parentnetworkid": "super"}, {"child"}),
    ({"prefixes": ["198.51.100.0/24"]}, {"internet"}),
    ({"prefixes": ["198.51.100.0/24", "10.0.0.0/16"]}, set()),
    ({"destinationprefixes": ["0.0.0.0/0"]}, {"internet"}),
    ({"labels": {"stage": "prod"}}, {"child"}),
    ({"labels": {"stage": "test"}}, set()),
    ({"name": "x' OR 1=1"}, set()),
]


def test_networks_are_found_by_everything_that_they_have() -> None:
    async def scenario() -> None:
        async with world() as made:
            child = await made.child(labels={"stage": "prod", "team": "a"})
            for query, wanted in FOUND:
                found = await made.ok("POST", "/v1/network/find", query)
                names = {each["id"] if each["id"] != child["id"] else "child" for each in found}
                assert names == wanted, query
            await made.refused(400, "POST", "/v1/network/find", {"prefixes": ["x"]})

    asyncio.run(scenario())


def test_an_underlay_needs_no_lengths_and_has_no_vrf() -> None:
    async def scenario() -> None:
        async with world() as made:
            underlay = await made.ok("GET", "/v1/network/underlay")
            assert underlay["underlay"]
            assert underlay["vrf"] == 0
            assert UNDERLAY["prefixes"] == underlay["prefixes"]

    asyncio.run(scenario())
