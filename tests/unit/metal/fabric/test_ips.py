# SPDX-License-Identifier: Apache-2.0
"""Addresses through the interface."""

import asyncio
from typing import Any

import msgspec
import pytest

from metropolis.metal.masterdata.model import PROJECTS, Quota, QuotaSet
from metropolis.metal.store import Transaction
from unit.metal.fabric.world import World, world


async def allocate(made: World, path: str = "", status: int = 201, **more: Any) -> Any:
    """An address of the external network for project `red`."""
    body = {"projectid": "red", "networkid": "internet", "type": "static", **more}
    return await made.ok("POST", f"/v1/ip/allocate{path}", body, status)


def test_any_address_is_allocated_and_freed() -> None:
    async def scenario() -> None:
        async with world() as made:
            ip = await allocate(made, name="web", tags=["b", "a", "b"])
            assert ip["ipaddress"].startswith("198.51.100.")
            assert ip["tags"] == ["a", "b"]
            assert ip["allocationuuid"]
            assert (await made.ok("GET", "/v1/network/internet"))["usage"]["used_ips"] == 3
            assert await made.ok("GET", f"/v1/ip/{ip['ipaddress']}") == ip
            assert await made.ok("GET", "/v1/ip") == [ip]
            assert await made.ok("DELETE", f"/v1/ip/free/{ip['ipaddress']}") == ip
            await made.refused(404, "GET", f"/v1/ip/{ip['ipaddress']}")
            await made.refused(404, "DELETE", f"/v1/ip/free/{ip['ipaddress']}")
            assert await made.leaks() == []

    asyncio.run(scenario())


def test_a_certain_address_is_allocated_once_however_it_is_written() -> None:
    async def scenario() -> None:
        async with world() as made:
            ip = await allocate(made, "/2001:DB8:F:0::9", type="ephemeral")
            assert ip["ipaddress"] == "2001:db8:f::9"
            assert ip["type"] == "ephemeral"
            body = {"projectid": "red", "networkid": "internet", "type": "static"}
            await made.refused(409, "POST", "/v1/ip/allocate/2001:db8:f::9", body)
            await made.ok("GET", "/v1/ip/2001:db8:f:0:0::9")
            await made.ok("DELETE", "/v1/ip/free/2001:db8:f:0::9")
            again = await allocate(made, "/2001:db8:f::9")
            assert again["allocationuuid"]

    asyncio.run(scenario())


REFUSED: list[tuple[str, int, str, dict[str, Any]]] = [
    ("unknown project", 404, "", {"projectid": "nobody"}),
    ("unknown network", 404, "", {"networkid": "nowhere"}),
    ("unknown machine", 404, "", {"machineid": "m9"}),
    ("unknown family", 400, "", {"addressfamily": "IPX"}),
    ("unknown type", 400, "", {"type": "borrowed"}),
    ("super network", 422, "", {"networkid": "super"}),
    ("no address", 400, "/ten", {}),
    ("outside", 422, "/192.0.2.1", {}),
    ("other family outside", 422, "/2001:db8:e::1", {}),
    ("the network's own", 409, "/198.51.100.0", {}),
    ("broadcast", 409, "/198.51.100.255", {}),
    ("certain and family", 400, "/198.51.100.7", {"addressfamily": "IPv4"}),
    ("family it lacks", 400, "", {"networkid": "underlay", "addressfamily": "IPv6"}),
    ("missing project", 400, "", {"projectid": None}),
    ("unknown field", 400, "", {"color": "red"}),
    ("SQL", 400, "/1'; drop table entity;--", {}),
]


@pytest.mark.parametrize(
    ("status", "path", "change"),
    [each[1:] for each in REFUSED],
    ids=[each[0] for each in REFUSED],
)
def test_an_allocation_that_is_refused_takes_nothing(
    status: int, path: str, change: dict[str, Any]
) -> None:
    async def scenario() -> None:
        async with world() as made:
            body = {"projectid": "red", "networkid": "internet", "type": "static", **change}
            await made.refused(status, "POST", f"/v1/ip/allocate{path}", body)
            assert await made.leaks() == []
            assert await made.ok("GET", "/v1/ip") == []

    asyncio.run(scenario())


def test_a_network_of_another_project_has_addresses_for_it_only_when_shared() -> None:
    async def scenario() -> None:
        async with world() as made:
            child = (await made.child())["id"]
            body = {"projectid": "blue", "networkid": child, "type": "static"}
            await made.refused(422, "POST", "/v1/ip/allocate", body)
            await allocate(made, networkid=child)
            await made.ok("POST", "/v1/network", {"id": child, "shared": True})
            await allocate(made, networkid=child, projectid="blue")

    asyncio.run(scenario())


def test_addresses_come_from_the_next_prefix_when_one_is_used_up() -> None:
    async def scenario() -> None:
        async with world() as made:
            body = {"id": "small", "prefixes": ["192.0.2.0/30", "192.0.2.4/30"]}
            await made.ok("PUT", "/v1/network", body, 201)
            taken = [(await allocate(made, networkid="small"))["ipaddress"] for _ in range(4)]
            assert taken == ["192.0.2.1", "192.0.2.2", "192.0.2.5", "192.0.2.6"]
            body = {"projectid": "red", "networkid": "small", "type": "static"}
            assert "no address" in await made.refused(422, "POST", "/v1/ip/allocate", body)
            assert await made.leaks() == []

    asyncio.run(scenario())


def test_a_project_gets_no_more_addresses_than_its_quota() -> None:
    async def scenario() -> None:
        async with world() as made:

            async def limit(tx: Transaction) -> None:
                red = await tx.get(PROJECTS, "red")
                quotas = QuotaSet(ip=Quota(max=2))
                await tx.replace(red, msgspec.structs.replace(red.value, quotas=quotas))

            await made.store.write(limit)
            first = await allocate(made)
            await allocate(made)
            body = {"projectid": "red", "networkid": "internet", "type": "static"}
            assert "quota" in await made.refused(422, "POST", "/v1/ip/allocate", body)
            await made.ok("DELETE", f"/v1/ip/free/{first['ipaddress']}")
            await allocate(made)
            await allocate(made, projectid="blue")

    asyncio.run(scenario())


def test_an_update_keeps_what_it_does_not_name() -> None:
    async def scenario() -> None:
        async with world() as made:
            address = (await allocate(made, name="a", type="ephemeral", tags=["x=1"]))["ipaddress"]
            ip = await made.ok(
                "POST", "/v1/ip", {"ipaddress": address, "type": "static", "description": "d"}
            )
            assert (ip["name"], ip["type"], ip["tags"], ip["description"]) == (
                "a",
                "static",
                ["x=1"],
                "d",
            )
            message = await made.refused(
                400, "POST", "/v1/ip", {"ipaddress": address, "type": "ephemeral"}
            )
            assert "static" in message
            ip = await made.ok(
                "POST", "/v1/ip", {"ipaddress": address, "type": "static", "tags": []}
            )
            assert ip["tags"] == []
            await made.refused(404, "POST", "/v1/ip", {"ipaddress": "10.9.9.9", "type": "static"})

    asyncio.run(scenario())


def test_an_address_that_a_machine_uses_stays_with_it() -> None:
    async def scenario() -> None:
        async with world() as made:
            await made.add_machine("m1", {})
            await made.add_machine("m2", {})
            child = (await made.child())["id"]
            own = (await allocate(made, networkid=child))["ipaddress"]
            await made.allocate("m1", [child], ips=[own])
            assert "m1" in await made.refused(400, "DELETE", f"/v1/ip/free/{own}")
            untie = {"ipaddress": own, "type": "static", "tags": []}
            assert "m1" in await made.refused(422, "POST", "/v1/ip", untie)
            extra = await allocate(made, machineid="m1")
            assert extra["tags"] == ["machine.metal-stack.io/id=m1"]
            await made.refused(400, "DELETE", f"/v1/ip/free/{extra['ipaddress']}")
            untie = {"ipaddress": extra["ipaddress"], "type": "static", "tags": []}
            await made.ok("POST", "/v1/ip", untie)
            await made.ok("DELETE", f"/v1/ip/free/{extra['ipaddress']}")
            body = {"projectid": "blue", "networkid": "internet", "type": "static"}
            await made.refused(422, "POST", "/v1/ip/allocate", body | {"machineid": "m1"})
            for machine, status in (("m1", 200), ("m2", 422), ("m3", 404)):
                address = (await allocate(made))["ipaddress"]
                tag = f"machine.metal-stack.io/id={machine}"
                tie = {"ipaddress": address, "type": "static", "tags": [tag]}
                answer = await made.client.post("/v1/ip", tie)
                assert answer.status == status
                answer = await made.client.post(
                    "/v1/ip/allocate", body | {"tags": [tag], "projectid": "red"}
                )
                assert answer.status == (201 if status == 200 else status)
            assert await made.leaks() == []

    asyncio.run(scenario())


def test_addresses_are_found_by_everything_that_they_have() -> None:
    async def scenario() -> None:
        async with world() as made:
            await made.add_machine("m1", {})
            child = (await made.child())["id"]
            await made.allocate("m1", [child])
            web = await allocate(made, "/198.51.100.9", name="web", tags=["a", "b"])
            await allocate(made, addressfamily="IPv6", type="ephemeral", projectid="blue")
            queries: list[tuple[dict[str, Any], int]] = [
                ({}, 4),
                ({"ipaddress": "198.51.100.9"}, 1),
                ({"ipaddress": "198.51.100.9", "name": "other"}, 0),
                ({"name": "web"}, 1),
                ({"projectid": "red"}, 3),
                ({"networkid": "internet"}, 2),
                ({"networkid": child}, 2),
                ({"networkprefix": "198.51.100.0/24"}, 1),
                ({"machineid": "m1"}, 2),
                ({"addressfamily": "ipv6"}, 2),
                ({"type": "static"}, 1),
                ({"type": "borrowed"}, 0),
                ({"tags": ["a"]}, 1),
                ({"tags": ["b", "a"]}, 1),
                ({"tags": ["a", "c"]}, 0),
                ({"allocationuuid": web["allocationuuid"]}, 1),
            ]
            for query, count in queries:
                assert len(await made.ok("POST", "/v1/ip/find", query)) == count, query
            await made.refused(400, "POST", "/v1/ip/find", {"ipaddress": "x"})

    asyncio.run(scenario())
