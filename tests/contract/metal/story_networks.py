# SPDX-License-Identifier: Apache-2.0
"""Switches, networks and addresses of the small data centre."""

from typing import Any

from contract.metal.story import LEAVES, PARTITION, Teller, port

PORTS = 4
SUPER = "tenant-super"
INTERNET = "internet"
UNDERLAY = "underlay"


def registration(leaf: str, **more: Any) -> dict[str, Any]:
    """What a switch says of itself when it starts."""
    index = (*LEAVES, "leaf03", "leaf04").index(leaf) + 1
    return {
        "id": leaf,
        "name": leaf,
        "partition_id": PARTITION,
        "rack_id": "rack-1",
        "management_ip": f"10.255.1.{index}",
        "management_user": "metal",
        "console_command": f"ssh {leaf}",
        "os": {"vendor": "SONiC", "version": "202411", "metal_core_version": "v0.17.0"},
        "nics": [
            {
                "name": port(number),
                "identifier": port(number),
                "mac": f"02:00:00:00:0{index}:{number:02x}",
                "actual": "UP",
            }
            for number in range(PORTS)
        ],
        **more,
    }


def switches(tell: Teller) -> None:
    """Two leaves that stay, one that goes."""
    for leaf in LEAVES:
        created = tell.do("register_switch", registration(leaf))
        assert [each.name for each in created.nics] == sorted(map(port, range(PORTS)))
        assert created.connections == []
        assert created.partition.id == PARTITION
    again = tell.do("register_switch", registration("leaf01", name="first"))
    assert again.name == "first"
    change = {"id": "leaf01", "rack_id": "rack-1", "description": "left one", "mode": "operational"}
    assert tell.do("update_switch", change).description == "left one"
    assert tell.do("find_switch", "leaf01").mode == "operational"
    assert [each.id for each in tell.do("list_switches")] == list(LEAVES)
    assert len(tell.do("find_switches", {"partitionid": PARTITION, "osvendor": "SONiC"})) == 2
    notify = {
        "sync_duration": 1000,
        "error": "",
        "port_states": {port(0): "UP"},
        "bgp_port_states": {
            port(0): {
                "Neighbor": "fe80::1",
                "PeerGroup": "FABRIC",
                "VrfName": "default",
                "BgpState": "Established",
                "BgpTimerUpEstablished": 1700000000,
                "SentPrefixCounter": 3,
                "AcceptedPrefixCounter": 4,
            }
        },
    }
    assert tell.do("notify_switch", "leaf01", notify).last_sync.duration == 1000
    tell.refused(404, "notify_switch", "leaf99", notify)
    tell.do("register_switch", registration("leaf03"))
    assert tell.do("delete_switch", "leaf03").id == "leaf03"
    tell.refused(404, "find_switch", "leaf03")
    tell.refused(
        400, "register_switch", registration("leaf04", os={"vendor": "Other"}), says="vendor"
    )


def migrate(tell: Teller) -> None:
    """A leaf with machines is replaced by another."""
    tell.do("register_switch", registration("leaf03"))
    moved = tell.do("migrate_switch", {"old_switch_id": "leaf02", "new_switch_id": "leaf03"})
    assert moved.id == "leaf03"
    assert moved.connections
    back = tell.do("migrate_switch", {"old_switch_id": "leaf03", "new_switch_id": "leaf02"})
    assert back.connections
    assert tell.do("delete_switch", "leaf03", force=True).id == "leaf03"


def toggle(tell: Teller, name: str) -> None:
    """A port with a machine is taken down and up."""
    down = tell.do("toggle_switch_port", "leaf01", {"nic": name, "status": "DOWN"})
    assert next(each for each in down.nics if each.name == name).actual == "DOWN"
    tell.do("toggle_switch_port", "leaf01", {"nic": name, "status": "UP"})
    tell.refused(404, "toggle_switch_port", "leaf01", {"nic": "Ethernet99", "status": "UP"})


def networks(tell: Teller) -> None:
    """The networks that an operator makes, and one that a project cuts."""
    base = {"destinationprefixes": [], "nat": False, "privatesuper": False, "underlay": False}
    made = tell.do(
        "create_network",
        {
            **base,
            "id": SUPER,
            "partitionid": PARTITION,
            "prefixes": ["10.0.0.0/16", "2001:db8::/48"],
            "defaultchildprefixlength": {"IPv4": 22, "IPv6": 64},
            "privatesuper": True,
            "nattype": "none",
            "networktype": "super",
        },
    )
    assert (made.networktype, made.privatesuper) == ("super", True)
    tell.do(
        "create_network",
        {
            **base,
            "id": UNDERLAY,
            "partitionid": PARTITION,
            "prefixes": ["10.255.128.0/24"],
            "underlay": True,
            "nattype": "none",
            "networktype": "underlay",
        },
    )
    internet = {
        **base,
        "id": INTERNET,
        "prefixes": ["198.51.100.0/24"],
        "destinationprefixes": ["0.0.0.0/0"],
        "nat": True,
        "nattype": "ipv4-masq",
        "networktype": "external",
        "vrf": 104009,
    }
    assert tell.do("create_network", internet).vrf == 104009
    tell.refused(409, "create_network", internet)
    overlap = {**internet, "id": "other", "prefixes": ["198.51.100.128/25"], "vrf": 104010}
    tell.refused(422, "create_network", overlap, says="198.51.100")
    change = {"id": INTERNET, "description": "the way out", "labels": {"a": "b"}}
    assert tell.do("update_network", change, force=False).labels == {"a": "b"}

    request = {"projectid": "shop", "partitionid": PARTITION, "name": "shop-net"}
    child = tell.do("allocate_network", request)
    tell.known["network"] = child.id
    assert (child.networktype, child.parentnetworkid, child.projectid) == ("child", SUPER, "shop")
    assert len(child.prefixes) == 2
    assert child.usage.used_ips > 0
    for free in ("free_network", "free_network_deprecated"):
        other = tell.do("allocate_network", {**request, "addressfamily": "IPv4"})
        assert tell.do(free, other.id).id == other.id
    assert tell.do("find_network", child.id).name == "shop-net"
    assert len(tell.do("list_networks")) == 4
    assert [each.id for each in tell.do("find_networks", {"projectid": "shop"})] == [child.id]
    tell.refused(404, "free_network", "nothing")
    tell.do("create_network", {**internet, "id": "gone", "prefixes": ["192.0.2.0/24"], "vrf": 7})
    assert tell.do("delete_network", "gone").id == "gone"
    tell.refused(422, "delete_network", SUPER)


def addresses(tell: Teller) -> None:
    """Addresses of a project."""
    request = {"projectid": "shop", "networkid": INTERNET, "type": "static", "name": "www"}
    www = tell.do("allocate_ip", request)
    assert (www.type, www.projectid, www.networkid) == ("static", "shop", INTERNET)
    tell.known["www"] = www.ipaddress
    chosen = tell.do("allocate_specific_ip", "198.51.100.77", {**request, "type": "ephemeral"})
    assert chosen.ipaddress == "198.51.100.77"
    tell.refused(409, "allocate_specific_ip", "198.51.100.77", request, says="198.51.100.77")
    tell.refused(404, "allocate_ip", {**request, "projectid": "nobody"}, says="nobody")
    change = {"ipaddress": chosen.ipaddress, "type": "static", "tags": ["a=b"]}
    assert tell.do("update_ip", change).tags == ["a=b"]
    tell.refused(400, "update_ip", {"ipaddress": chosen.ipaddress, "type": "ephemeral"})
    assert tell.do("find_ip", chosen.ipaddress).type == "static"
    assert len(tell.do("list_i_ps")) == 2
    assert len(tell.do("find_i_ps", {"projectid": "shop", "name": "www"})) == 2
    assert tell.do("free_ip", chosen.ipaddress).ipaddress == chosen.ipaddress
    tell.refused(404, "find_ip", chosen.ipaddress)
