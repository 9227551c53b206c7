# SPDX-License-Identifier: Apache-2.0
"""Machines and firewalls of the small data centre."""

from typing import Any

from contract.metal import story_networks
from contract.metal.story import (
    EMPTY,
    FIREWALL_IMAGE,
    IMAGE,
    PARTITION,
    SIZE,
    SSH_KEY,
    Teller,
    boot,
    install,
    machine_id,
    port,
)

POWER = ("on", "off", "reset", "cycle", "bios", "disk", "pxe")


def request(tell: Teller, **more: Any) -> dict[str, Any]:
    """A good request for a machine."""
    return {
        "projectid": "shop",
        "partitionid": PARTITION,
        "sizeid": SIZE,
        "imageid": "ubuntu-24.04",
        "networks": [{"networkid": tell.known["network"], "autoacquire": True}],
        "ssh_pub_keys": [SSH_KEY],
        "name": "worker",
        "hostname": "worker-0",
        "user_data": "I2Nsb3VkLWNvbmZpZw==",
        **more,
    }


def discovery(tell: Teller) -> None:
    """Three machines register and wait; nobody has them."""
    for number in (1, 2, 3):
        boot(tell.metal, number)
    found = tell.do("list_machines")
    assert [each.id for each in found] == [machine_id(number) for number in (1, 2, 3)]
    first = found[0]
    assert (first.size.id, first.partition.id, first.rackid) == (SIZE, PARTITION, "rack-1")
    assert (first.allocation, first.liveliness) == (None, "Alive")
    assert first.events.log[0].event == "Waiting"
    assert tell.do("find_machine", machine_id(1)).hardware.cpu_cores == 8
    assert len(tell.do("find_machines", {"partition_id": PARTITION, "sizeid": SIZE})) == 3
    assert tell.do("find_machines", {"nics_mac_addresses": ["aa:00:00:00:01:02"]})[0].id == (
        machine_id(2)
    )
    tell.refused(404, "find_machine", machine_id(99), says=machine_id(99))
    (capacity,) = tell.do("partition_capacity", {"id": PARTITION, "projectid": "shop"})
    (servers,) = capacity.servers
    assert (servers.size, servers.total, servers.free) == (SIZE, 3, 3)
    suggested = tell.do("suggest", {"machineID": machine_id(1)})
    assert {each.type for each in suggested} == {"cores", "memory", "storage"}
    match = {"machine": machine_id(1), "filesystemlayout": "default"}
    assert tell.do("match_filesystem_layout", match).id == "default"


def bmc(tell: Teller) -> None:
    """What BMCs report, and what of it is secret."""
    seen = tell.do("find_ipmi_machine", machine_id(1))
    assert (seen.ipmi.user, seen.ipmi.password) == ("metal", "bmc-secret")
    assert len(tell.do("find_ipmi_machines", {"ipmi_user": "metal"})) == 3
    report = {
        "BMCIp": "10.255.2.101",
        "BMCVersion": "1.75",
        "BIOSVersion": "2.1",
        "FRU": {"board_mfg": "Supermicro"},
        "PowerState": "ON",
        "IndicatorLEDState": "LED-OFF",
        "PowerMetric": {
            "averageconsumedwatts": 101.5,
            "intervalinmin": 1.0,
            "maxconsumedwatts": 120.0,
            "minconsumedwatts": 90.0,
        },
        "PowerSupplies": [{"status": {"health": "OK", "state": "Enabled"}}],
    }
    reports = {machine_id(1): report, machine_id(9): {**report, "BMCIp": "10.255.2.109"}}
    told = tell.do("ipmi_report", {"partitionid": PARTITION, "reports": reports})
    assert (told.created, told.updated) == ([machine_id(9)], [machine_id(1)])
    again = tell.do("find_ipmi_machine", machine_id(1)).ipmi
    assert (again.address, again.bmcversion) == ("10.255.2.101:623", "1.75")
    assert again.powermetric.averageconsumedwatts == 101.5
    known = {each.id: each for each in tell.do("list_issues")}
    assert len(known) >= 13
    search = {"omit": [], "only": [], "severity": "minor", "last_error_threshold": 0}
    found = tell.do("issues", search)
    assert all(set(each.issues) <= set(known) for each in found)
    assert machine_id(9) in {each.machineid for each in found}


def allocation(tell: Teller) -> None:
    """A machine is allocated, installed, used."""
    tell.refused(404, "allocate_machine", request(tell, projectid="nobody"), says="nobody")
    tell.refused(400, "allocate_machine", request(tell, ssh_pub_keys=["no key"]), says="key")
    tell.refused(400, "allocate_machine", request(tell, networks=[]))
    tell.refused(404, "allocate_machine", request(tell, imageid="plan9-4.0"), says="plan9")
    made = tell.do("allocate_machine", request(tell, uuid=machine_id(1)))
    assert made.id == machine_id(1)
    allocated = made.allocation
    assert (allocated.project, allocated.image.id, allocated.role) == ("shop", IMAGE, "machine")
    assert allocated.creator == "metal-admin@metal-stack.io"
    assert allocated.ssh_pub_keys == [SSH_KEY]
    (network,) = allocated.networks
    assert network.networkid == tell.known["network"]
    assert len(network.ips) == 2
    assert 4210000000 < network.asn <= 4294967294
    tell.refused(422, "allocate_machine", request(tell, uuid=machine_id(1)))
    tell.refused(422, "free_network", tell.known["network"])
    install(tell.metal, machine_id(1))
    running = tell.do("find_machine", machine_id(1))
    assert running.allocation.boot_info.kernel == "/boot/vmlinuz"
    assert running.allocation.succeeded is True
    assert running.events.log[0].event == "Phoned Home"
    assert tell.do("find_project", "shop").quotas.machine.used == 1
    change = {"id": machine_id(1), "description": "mine", "tags": ["app=shop"]}
    updated = tell.do("update_machine", change)
    assert updated.description == "mine"
    assert "app=shop" in updated.tags
    tell.refused(400, "update_machine", {"id": machine_id(2), "description": "x"})


def console(tell: Teller) -> None:
    """The console password, whose request is in the body of a GET."""
    body = {"id": machine_id(1), "reason": "it does not answer"}
    tell.refused(400, "get_machine_console_password", body)  # the library leaves the body out
    answer = tell.metal.call("GET", "/v1/machine/consolepassword", body)
    assert (answer.status, answer.json["console_password"]) == (200, "console-secret")


def commands(tell: Teller) -> None:
    """Power, LED, and states."""
    for command in POWER:
        assert tell.do(f"machine_{command}", machine_id(1), EMPTY).id == machine_id(1)
    lit = tell.do("chassis_identify_led_on", machine_id(1), EMPTY, description="look here")
    assert (lit.ledstate.value, lit.ledstate.description) == ("LED-ON", "look here")
    dark = tell.do("chassis_identify_led_off", machine_id(1), EMPTY, description="seen")
    assert dark.ledstate.value == "LED-OFF"
    tell.refused(404, "machine_on", machine_id(99), EMPTY)
    locked = tell.do("set_machine_state", machine_id(1), {"value": "LOCKED", "description": "keep"})
    assert (locked.state.value, locked.state.issuer) == ("LOCKED", "metal-admin@metal-stack.io")
    tell.refused(422, "free_machine", machine_id(1), says="locked")
    tell.refused(400, "set_machine_state", machine_id(1), {"value": "LOCKED", "description": ""})
    tell.do("set_machine_state", machine_id(1), {"value": "", "description": ""})
    reserved = tell.do(
        "set_machine_state", machine_id(2), {"value": "RESERVED", "description": "for tests"}
    )
    assert reserved.state.value == "RESERVED"
    tell.do("set_machine_state", machine_id(2), {"value": "", "description": ""})
    story_networks.toggle(tell, port(1))
    story_networks.migrate(tell)


def reinstall(tell: Teller) -> None:
    """A machine gets its image again."""
    tell.refused(400, "reinstall_machine", machine_id(2), {"id": machine_id(2), "imageid": IMAGE})
    again = tell.do("reinstall_machine", machine_id(1), {"id": machine_id(1), "imageid": IMAGE})
    assert again.allocation.reinstall is True
    install(tell.metal, machine_id(1))
    assert tell.do("find_machine", machine_id(1)).allocation.reinstall is False


def firewalls(tell: Teller) -> None:
    """A firewall between the project and the world."""
    rules: dict[str, Any] = {
        "egress": [{"protocol": "tcp", "ports": [443], "to": ["0.0.0.0/0"], "comment": "web"}],
        "ingress": [{"ports": [22], "from": ["198.51.100.0/24"], "comment": "ssh"}],
    }
    networks = [
        {"networkid": tell.known["network"], "autoacquire": True},
        {"networkid": story_networks.INTERNET, "autoacquire": True},
    ]
    wanted = request(
        tell,
        imageid=FIREWALL_IMAGE,
        networks=networks,
        firewall_rules=rules,
        name="wall",
        hostname="wall",
        uuid=machine_id(2),
    )
    made = tell.do("allocate_firewall", wanted)
    assert made.allocation.role == "firewall"
    assert made.allocation.firewall_rules.ingress[0].protocol == "tcp"
    kinds = {each.networktype for each in made.allocation.networks}
    assert kinds == {"privateprimaryunshared", "external", "underlay"}
    bad = {**rules, "egress": [{**rules["egress"][0], "to": ["nowhere"]}]}
    tell.refused(400, "allocate_firewall", {**wanted, "firewall_rules": bad}, says="nowhere")
    install(tell.metal, machine_id(2))
    assert tell.do("find_firewall", machine_id(2)).id == machine_id(2)
    tell.refused(422, "find_firewall", machine_id(1), says="not a firewall")
    assert [each.id for each in tell.do("list_firewalls")] == [machine_id(2)]
    assert len(tell.do("find_firewalls", {"allocation_project": "shop"})) == 1


def freeing(tell: Teller) -> None:
    """Everything is given back."""
    tell.refused(422, "delete_image", IMAGE)
    tell.refused(422, "delete_machine", machine_id(1))
    for number in (1, 2):
        tell.do("free_machine", machine_id(number))
        assert tell.do("find_machine", machine_id(number)).allocation is None
    assert [each.ipaddress for each in tell.do("list_i_ps")] == [tell.known["www"]]
    assert tell.do("delete_machine", machine_id(9)).id == machine_id(9)
    tell.refused(400, "delete_project", "shop")
    tell.do("free_ip", tell.known["www"])
    tell.do("free_network", tell.known["network"])
    assert tell.do("delete_project", "shop").meta.id == "shop"
    tell.refused(404, "find_project", "shop")
