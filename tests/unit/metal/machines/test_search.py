# SPDX-License-Identifier: Apache-2.0
"""Every field of a search finds the machine that has it, and not the other."""

import asyncio
from typing import Any

import msgspec
import pytest

from metropolis.metal.model.ipmi import IPMIS, Fru
from metropolis.metal.model.machine import MACHINES
from metropolis.metal.model.machine_request import MachineSearchQuery
from metropolis.metal.store import Transaction
from unit.metal.machines.fleet import GIB, Fleet, fleet, uuid_of

FOUND = uuid_of(0)
OTHER = uuid_of(1)
# What is true of the first machine alone. `$` is replaced by what only shows when it runs.
FIELDS: dict[str, Any] = {
    "id": FOUND,
    "name": "zero",
    "partition_id": "muc",
    "sizeid": "medium",
    "rackid": "rack-1",
    "roomid": "room",
    "tags": ["blue=1", "green=2"],
    "state_value": "TAINTED",
    "allocation_hostname": "worker-0",
    "allocation_image_id": "ubuntu-24.04.20261115",
    "allocation_name": "worker",
    "allocation_project": "red",
    "allocation_role": "machine",
    "allocation_succeeded": False,
    "disk_names": ["/dev/sda"],
    "disk_sizes": [500 * GIB],
    "hardware_memory": 64 * GIB,
    "network_asns": ["$asn"],
    "network_destination_prefixes": ["$destination"],
    "network_ids": ["$network"],
    "network_ips": ["$ip"],
    "network_prefixes": ["$prefix"],
    "network_vrfs": ["$vrf"],
    "nics_mac_addresses": ["aa:00:00:00:00:00", "aa:00:00:00:00:01"],
    "nics_names": ["eth0"],
    "nics_neighbor_mac_addresses": [""],
    "nics_neighbor_names": ["Ethernet0"],
    "nics_neighbor_vrfs": [],
    "nics_vrfs": [],
    "ipmi_address": "192.0.2.0:623",
    "ipmi_interface": "lanplus",
    "ipmi_mac_address": "bb:00:00:00:00:00",
    "ipmi_user": "metal",
    "fru_board_mfg": "Acme",
    "fru_board_mfg_serial": "B0",
    "fru_board_part_number": "BP",
    "fru_chassis_part_number": "CP",
    "fru_chassis_part_serial": "C0",
    "fru_product_manufacturer": "PM",
    "fru_product_part_number": "PP",
    "fru_product_serial": "P0",
}
ABSENT: dict[str, Any] = {
    "allocation_succeeded": True,
    "allocation_role": "firewall",
    "state_value": "LOCKED",
    "disk_sizes": [1],
    "hardware_memory": 1,
    "network_asns": [1],
    "network_vrfs": [200_000],
}


def test_every_field_is_tried() -> None:
    names = {each.encode_name for each in msgspec.structs.fields(MachineSearchQuery)}
    assert names == set(FIELDS)


async def two_machines(site: Fleet) -> dict[str, Any]:
    """The first is allocated and has everything, the second has as little as there can be."""
    await site.boot(0)
    answer = await site.allocate(tags=["blue=1", "green=2", "more"], networks=[
        {"networkid": site.network_id}, {"networkid": "internet"},
    ])  # fmt: skip

    async def describe(tx: Transaction) -> None:
        stored = await tx.get(MACHINES, FOUND)
        value = stored.value
        assert value.allocation is not None
        networks = tuple(
            msgspec.structs.replace(each, destination_prefixes=("0.0.0.0/0",))
            for each in value.allocation.networks
        )
        changed = msgspec.structs.replace(
            value,
            name="zero",
            room_id="room",
            state=msgspec.structs.replace(value.state, value="RESERVED", description="x"),
            allocation=msgspec.structs.replace(value.allocation, networks=networks),
        )
        await tx.replace(stored, changed)
        bmc = await tx.get(IPMIS, FOUND)
        fru = Fru(
            board_mfg="Acme", board_mfg_serial="B0", board_part_number="BP",
            chassis_part_number="CP", chassis_part_serial="C0", product_manufacturer="PM",
            product_part_number="PP", product_serial="P0",
        )  # fmt: skip
        await tx.replace(bmc, msgspec.structs.replace(bmc.value, fru=fru))

    await site.write(describe)
    body = {"partitionid": "fra", "reports": {OTHER: {"BMCIp": "203.0.113.1"}}}
    await site.world.ok("POST", "/v1/machine/ipmi", body)
    return dict(answer["allocation"]["networks"][0])


def filled(value: Any, network: dict[str, Any]) -> Any:
    if isinstance(value, list) and value and str(value[0]).startswith("$"):
        return [{
            "$asn": network["asn"], "$vrf": network["vrf"], "$network": network["networkid"],
            "$ip": network["ips"][0], "$prefix": network["prefixes"][0],
            "$destination": "0.0.0.0/0",
        }[value[0]]]  # fmt: skip
    return value


def test_a_field_finds_the_machine_that_has_it_in_lists_of_machines_and_of_bmcs() -> None:
    async def scenario() -> None:
        async with fleet() as site:
            network = await two_machines(site)
            for name, wanted in FIELDS.items():
                query = {name: filled(wanted, network)}
                for path in ("/v1/machine/find", "/v1/machine/ipmi/find"):
                    found = [each["id"] for each in await site.world.ok("POST", path, query)]
                    both = wanted == []
                    assert found == ([FOUND, OTHER] if both else [FOUND]), (path, query)
                combined = query | {"partition_id": "muc", "allocation_name": "worker"}
                found = await site.world.ok("POST", "/v1/machine/find", combined)
                assert [each["id"] for each in found] == [FOUND], combined
                absent: Any = ABSENT.get(name, ["none"] if isinstance(wanted, list) else "none")
                found = await site.world.ok("POST", "/v1/machine/find", {name: absent})
                assert found == [], (name, absent)
            assert await site.world.ok("POST", "/v1/firewall/find", {"partition_id": "muc"}) == []
            for query in (
                {"id": FOUND, "name": "other"},
                {"id": OTHER, "ipmi_user": "metal"},
                {"ipmi_user": "metal", "allocation_role": "firewall"},
            ):
                assert await site.world.ok("POST", "/v1/machine/find", query) == [], query
            assert await site.world.ok("POST", "/v1/firewall/find", {"id": FOUND}) == []

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "query", [{"tags": ["blue=1", "gone"]}, {"nics_mac_addresses": ["aa:00:00:00:00:00", "x"]}]
)
def test_a_machine_must_have_everything_that_a_list_names(query: Any) -> None:
    async def scenario() -> None:
        async with fleet() as site:
            await two_machines(site)
            assert await site.world.ok("POST", "/v1/machine/find", query) == []

    asyncio.run(scenario())


def test_a_search_of_unknown_fields_and_wrong_types_is_refused() -> None:
    async def scenario() -> None:
        async with fleet() as site:
            for query in ({"color": "red"}, {"tags": "blue"}, {"disk_sizes": ["big"]}):
                await site.world.refused(400, "POST", "/v1/machine/find", query)

    asyncio.run(scenario())
