# SPDX-License-Identifier: Apache-2.0
"""What a network configuration means, and every way in which it can be wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.api import net_pb2
from metropolis.host.network import BondSettings, Link
from metropolis.node.network.configuration import BondOf, NetworkConfiguration, VlanOf
from metropolis.node.network.configuration_check import (
    NetworkConfigurationError,
    read_configuration,
)
from metropolis.node.network.static_plan import assign_devices

Interface = net_pb2.Interface
SERVICE = net_pb2.VLAN(parent="v1", id=2, protocol=net_pb2.VLAN.PROTOCOL_SVLAN)
LACP = net_pb2.Bond(
    member_interface=["a", "b"], lacp=net_pb2.Bond.LACP(rate=net_pb2.Bond.LACP.RATE_FAST)
)


def device(name: str, index: int = 0, **fields: object) -> net_pb2.Interface:
    made = Interface(name=name, device=net_pb2.Device(index=index))
    made.MergeFrom(Interface(**fields))  # type: ignore[arg-type]
    return made


def problems(*interfaces: net_pb2.Interface, servers: tuple[str, ...] = ()) -> list[str]:
    net = net_pb2.Net(
        interface=interfaces, nameserver=[net_pb2.Nameserver(ip=each) for each in servers]
    )
    with pytest.raises(NetworkConfigurationError) as caught:
        read_configuration(net)
    return list(caught.value.problems)


def read(*interfaces: net_pb2.Interface) -> NetworkConfiguration:
    return read_configuration(net_pb2.Net(interface=interfaces))


def test_bonds_come_before_their_members_and_vlans_after_their_parents() -> None:
    found = read(
        Interface(name="v2", vlan=SERVICE),
        Interface(name="v1", vlan=net_pb2.VLAN(parent="zbond", id=1)),
        device("a"),
        device("b", 1),
        Interface(name="zbond", bond=LACP),
    )
    assert list(found.order) == ["zbond", "a", "b", "v1", "v2"]
    assert found.interface("v2").kind == VlanOf(parent="v1", vlan_id=2, is_service=True)


def test_the_settings_of_a_bond_become_the_kernels_numbers() -> None:
    monitor = net_pb2.Bond.CarrierMonitor(
        polling_interval_ms=200, force_polling=True, down_delay_ms=400, up_delay_ms=600
    )
    bond = net_pb2.Bond(
        member_interface=["a"],
        min_links=1,
        transmit_hash_policy=net_pb2.Bond.TRANSMIT_HASH_POLICY_ENCAP_LAYER3_4,
        carrier_monitor=monitor,
        lacp=net_pb2.Bond.LACP(
            rate=net_pb2.Bond.LACP.RATE_FAST,
            selection_logic=net_pb2.Bond.LACP.SELECTION_LOGIC_COUNT,
            actor_system_priority=7,
            user_port_key=9,
            actor_system_mac="02:00:00:00:00:09",
        ),
    )
    found = read(device("a"), Interface(name="bond", bond=bond))
    assert found.interface("bond").kind == BondOf(
        members=("a",),
        settings=BondSettings(
            mode=4,
            hash_policy=4,
            min_links=1,
            poll_ms=200,
            up_delay_ms=600,
            down_delay_ms=400,
            uses_carrier=False,
            lacp_rate=1,
            selection=2,
            system_priority=7,
            user_port_key=9,
            system_address=bytes.fromhex("020000000009"),
        ),
    )


def test_all_that_is_wrong_is_told_at_once() -> None:
    assert problems(
        device("much-too-long-a-name", mtu=1279, address=["192.0.2.0/24", "x"]),
        Interface(name="v", vlan=net_pb2.VLAN(parent="nobody", id=4095)),
        Interface(name="v"),
        servers=("9.9.9.9", "dns.example"),
    ) == [
        "interface[0].name: 'much-too-long-a-name' is longer than 15 bytes",
        "interface[0].mtu: 1279 is not 1280 to 65535",
        "interface[0].address[1]: 'x' does not appear to be an IPv4 or IPv6 interface",
        "interface[0].address[0]: 192.0.2.0/24 is the address of a whole network",
        "interface[1].vlan.id: 4095 is not 1 to 4094",
        "interface[2]: is neither a device, nor a bond, nor a vlan",
        "nameserver[1].ip: 'dns.example' does not appear to be an IPv4 or IPv6 address",
        "interface[2].name: 'v' is that of interface[1], too",
        "interface[1].vlan.parent: 'nobody' is not configured",
    ]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a:b", "a b", "%d", "lo", "ü", "a\n"])
def test_names_that_the_kernel_or_we_cannot_use_are_refused(name: str) -> None:
    (problem,) = problems(device(name))
    assert problem.startswith("interface[0].name: ")


@pytest.mark.parametrize(
    ("interface", "field"),
    [
        (Interface(name="d", device=net_pb2.Device(hardware_address="02-00")), "device.hardware"),
        (Interface(name="d", device=net_pb2.Device(index=-1)), "device.index"),
        (Interface(name="b", bond=net_pb2.Bond(lacp=net_pb2.Bond.LACP())), "bond.member_interface"),
        (device("d", route=[Interface.Route(destination="192.0.2.1/24")]), "route[0].destination"),
        (device("d", route=[Interface.Route(destination="")]), "route[0].destination"),
        (
            device("d", route=[Interface.Route(destination="::/0", gateway_ip="192.0.2.1")]),
            "route[0].gateway_ip",
        ),
        (
            device("d", route=[Interface.Route(destination="0.0.0.0/0", metric=-1)]),
            "route[0].metric",
        ),
        (device("d", address=["127.0.0.1/8"]), "address[0]"),
        (device("d", address=["192.0.2.255/24"]), "address[0]"),
        (Interface(name="v", vlan=net_pb2.VLAN(parent="v", id=1)), "v need each other"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_field_is_named(interface: net_pb2.Interface, field: str) -> None:
    assert any(field in each for each in problems(interface))


def test_a_bond_has_devices_as_members_that_have_nothing_else_to_do() -> None:
    found = problems(
        device("a", address=["192.0.2.7/24"]),
        device("b", 1),
        Interface(name="one", bond=LACP),
        Interface(name="two", bond=LACP),
        Interface(name="three", bond=net_pb2.Bond(member_interface=["one"])),
    )
    assert "interface[2].bond.member_interface[0]: 'a' has addresses or routes of its own" in found
    assert "interface[3].bond.member_interface[1]: 'b' belongs to 'one' already" in found
    assert "interface[4].bond.member_interface[0]: 'one' is not a device" in found
    assert "interface[4].bond: has no mode: set lacp or active_backup" in found


def test_interfaces_that_need_each_other_are_refused() -> None:
    assert problems(
        Interface(name="v1", vlan=net_pb2.VLAN(parent="v2", id=1)),
        Interface(name="v2", vlan=net_pb2.VLAN(parent="v1", id=1)),
    ) == ["interface: v1, v2 need each other in a circle"]


def test_an_empty_configuration_is_refused_as_it_would_be_no_network() -> None:
    assert problems() == ["interface: has 0 entries, not 1 to 128"]


@given(st.binary(max_size=200))
def test_any_message_is_a_configuration_or_the_one_error(data: bytes) -> None:
    net = net_pb2.Net()
    try:
        net.ParseFromString(data)
    except Exception:  # noqa: BLE001  # not a message at all
        return
    try:
        read_configuration(net)
    except NetworkConfigurationError as error:
        assert error.problems  # noqa: PT017


CARDS = [
    Link(index=2, name="x", hardware_address=b"\x02aaaaa", driver="virtio_net", place="0000:01"),
    Link(index=5, name="y", hardware_address=b"\x02bbbbb", driver="e1000e", place="0000:02"),
    Link(
        index=3,
        name="z",
        hardware_address=b"\x02bbbbb",  # as a member of a bond it uses that of another
        permanent_hardware_address=b"\x02ccccc",
        driver="e1000e",
        place="0000:03",
    ),
]


def test_devices_are_found_by_all_criteria_in_the_order_of_the_bus() -> None:
    configuration = read(
        Interface(
            name="mac", device=net_pb2.Device(hardware_address=b"\x02ccccc".hex(":").upper())
        ),
        Interface(name="driver", device=net_pb2.Device(driver="e1000e")),
        Interface(name="any", device=net_pb2.Device()),
        Interface(name="none", device=net_pb2.Device(driver="e1000e", index=2)),
    )
    found = assign_devices(configuration, CARDS, {})
    assert found.found == {"mac": 3, "driver": 5, "any": 2}
    assert found.missing == {"none": "a device for interface none (driver e1000e, index 2)"}


def test_a_device_is_one_interface_only_and_stays_it() -> None:
    configuration = read(device("one"), device("two"))
    found = assign_devices(configuration, CARDS, {})
    assert found.found == {"one": 2}
    assert found.missing["two"].endswith("that is not one's")
    later = assign_devices(configuration, [CARDS[1], CARDS[0]], found.found)
    assert later.found == {"one": 2, "two": 5}
