# SPDX-License-Identifier: Apache-2.0
"""What can be asked of an allocation: each field that cannot be is named."""

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.model.machine_network import MachineNetwork
from metropolis.metal.model.machine_request import FirewallCreateRequest, MachineAllocateRequest
from metropolis.metal.rules.allocation import parse_allocation, parse_ssh_keys, with_system_tags
from unit.metal.machines.fleet import SSH_KEY

GOOD: dict[str, Any] = {
    "projectid": "red",
    "partitionid": "muc",
    "sizeid": "medium",
    "imageid": "ubuntu-24.04",
    "networks": [{"networkid": "private"}],
    "ssh_pub_keys": [SSH_KEY],
}
RULE = {"ports": [443], "to": ["10.0.0.0/8"]}


def request(**more: Any) -> MachineAllocateRequest:
    return msgspec.convert(GOOD | more, MachineAllocateRequest)


def firewall(**more: Any) -> FirewallCreateRequest:
    return msgspec.convert(GOOD | more, FirewallCreateRequest)


def test_what_is_left_out_has_a_default() -> None:
    spec = parse_allocation(request(), "machine")
    assert (spec.hostname, spec.tags, spec.machine_id) == ("metal", (), "")
    assert spec.ssh_pub_keys == (SSH_KEY,)


@pytest.mark.parametrize(
    ("field", "more"),
    [
        ("projectid", {"projectid": ""}),
        ("imageid", {"imageid": ""}),
        ("partitionid", {"partitionid": ""}),
        ("sizeid", {"sizeid": ""}),
        ("networks", {"networks": []}),
        ("networks", {"networks": None}),
        ("hostname", {"hostname": "under_score"}),
        ("hostname", {"hostname": "a" * 64}),
        ("hostname", {"hostname": "-dash"}),
        ("ssh_pub_keys[1]", {"ssh_pub_keys": [SSH_KEY, "ssh-ed25519 AAAA"]}),
        ("ssh_pub_keys[0]", {"ssh_pub_keys": ["-----BEGIN PRIVATE KEY-----"]}),
        ("ips", {"ips": ["10.0.0.256"]}),
        ("ips", {"networks": [{"networkid": "private", "autoacquire": False}]}),
        ("dns_servers", {"dns_servers": [{"ip": "8.8.8.8"}] * 4}),
        ("dns_servers", {"dns_servers": [{"ip": "dns.example.org"}]}),
        ("ntp_servers", {"ntp_servers": [{"address": "time.example.org"}] * 6}),
        ("ntp_servers", {"ntp_servers": [{"address": "not a name"}]}),
    ],
)
def test_what_cannot_be_is_named(field: str, more: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        parse_allocation(request(**more), "machine")
    assert str(refused.value).startswith(f"{field}:")
    assert refused.value.remedy


def test_a_machine_that_is_named_needs_neither_partition_nor_size() -> None:
    spec = parse_allocation(request(uuid="m", partitionid="", sizeid=""), "machine")
    assert spec.machine_id == "m"


def test_a_firewall_needs_an_address_somewhere() -> None:
    with pytest.raises(InvalidArgumentError, match="a firewall needs an address"):
        parse_allocation(
            firewall(networks=[{"networkid": "private", "autoacquire": False}]), "firewall"
        )


def test_rules_of_a_firewall_get_a_protocol_and_lower_case() -> None:
    rules = {"egress": [RULE], "ingress": [RULE | {"protocol": "UDP", "from": ["10.1.2.3/8"]}]}
    parsed = parse_allocation(firewall(firewall_rules=rules), "firewall").firewall_rules
    assert parsed is not None
    assert parsed.egress[0].protocol == "tcp"
    assert parsed.ingress[0].protocol == "udp"
    assert parsed.ingress[0].sources == ("10.0.0.0/8",)


@pytest.mark.parametrize(
    ("where", "direction", "more"),
    [
        ("egress[0].protocol", "egress", {"protocol": "icmp"}),
        ("egress[0].ports", "egress", {"ports": [65536]}),
        ("egress[0].ports", "egress", {"ports": [-1]}),
        ("egress[0].comment", "egress", {"comment": "a" * 101}),
        ("egress[0].comment", "egress", {"comment": "say; drop"}),
        ("egress[0]", "egress", {"to": ["everywhere"]}),
        ("egress[0]", "egress", {"to": ["10.0.0.0/8", "2001:db8::/32"]}),
        ("ingress[0]", "ingress", {"from": ["2001:db8::/32"]}),
    ],
)
def test_a_rule_that_cannot_be_is_named(where: str, direction: str, more: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        parse_allocation(firewall(firewall_rules={direction: [RULE | more]}), "firewall")
    assert str(refused.value).startswith(f"firewall_rules.{where}:")


def test_a_key_may_have_options_in_front() -> None:
    assert parse_ssh_keys([f'from="10.0.0.1" {SSH_KEY}'])


@given(st.text(max_size=300))
def test_any_text_is_a_key_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidArgumentError):
        assert parse_ssh_keys([text]) == (text.strip(),)


def test_tags_of_the_system_win_and_are_in_the_order_of_the_alphabet() -> None:
    network = MachineNetwork(
        network_id="n",
        prefixes=(),
        destination_prefixes=(),
        ips=(),
        vrf=1,
        asn=4210000007,
        nat=False,
        private=True,
        underlay=False,
        network_type="privateprimaryunshared",
        network_type_v2="child",
        nat_type_v2="none",
        project_id="red",
    )
    tags = with_system_tags(
        ["zebra", "machine.metal-stack.io/rack=mine", "apple"],
        rack_id="rack-1",
        chassis_serial="C1",
        networks=[network],
    )
    assert tags == (
        "apple",
        "machine.metal-stack.io/chassis=C1",
        "machine.metal-stack.io/network.primary.asn=4210000007",
        "machine.metal-stack.io/rack=rack-1",
        "zebra",
    )
