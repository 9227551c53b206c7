# SPDX-License-Identifier: Apache-2.0
"""The pure rules of the fabric: names of ports, filters, cutting, wiring."""

from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.base.errors import InvalidArgumentError, MetropolisError
from metropolis.metal.model.machine_network import MachineAllocationNetwork, MachineNetwork
from metropolis.metal.model.network import (
    Network,
    NetworkAllocateRequest,
    NetworkCreateRequest,
    NetworkKind,
)
from metropolis.metal.model.switch import (
    BGPFilter,
    PortConnection,
    Switch,
    SwitchOS,
    SwitchPort,
    SwitchVendor,
)
from metropolis.metal.rules.addresses import families_of, parse_address, parse_family, parse_prefix
from metropolis.metal.rules.bgp_filter import (
    firewall_filter,
    machine_filter,
    ranges_of,
    smallest_cover,
)
from metropolis.metal.rules.machine_networks import (
    AttachPlan,
    Fabric,
    MachineRole,
    plan_networks,
)
from metropolis.metal.rules.networks import plan_child, plan_root
from metropolis.metal.rules.port_names import line_of, translate
from metropolis.metal.rules.switch_ports import take_over

LINES = [
    ("Ethernet0", "SONiC", 0),
    ("Ethernet127", "SONiC", 127),
    ("swp1", "Cumulus", 0),
    ("swp1s0", "Cumulus", 0),
    ("swp1s3", "Cumulus", 3),
    ("swp2", "Cumulus", 4),
    ("swp32s2", "Cumulus", 126),
]


@pytest.mark.parametrize(("name", "vendor", "line"), LINES)
def test_a_port_name_stands_for_a_line(name: str, vendor: SwitchVendor, line: int) -> None:
    assert line_of(name, vendor) == line


@pytest.mark.parametrize(
    ("name", "vendor"),
    [
        ("swp0", "Cumulus"),
        ("swp1s4", "Cumulus"),
        ("Ethernet0", "Cumulus"),
        ("swp1", "SONiC"),
        ("Ethernet01", "SONiC"),
        ("Ethernet", "SONiC"),
        ("Ethernet0\n", "SONiC"),
        ("eth0", "SONiC"),
    ],
)
def test_what_a_vendor_never_calls_a_port_is_refused(name: str, vendor: SwitchVendor) -> None:
    with pytest.raises(InvalidArgumentError, match="port name"):
        line_of(name, vendor)


TRANSLATED = [
    (["Ethernet0", "Ethernet4"], {"Ethernet0": "swp1", "Ethernet4": "swp2"}),
    (["Ethernet0", "Ethernet1"], {"Ethernet0": "swp1s0", "Ethernet1": "swp1s1"}),
    (["Ethernet2"], {"Ethernet2": "swp1s2"}),
    (["Ethernet120"], {"Ethernet120": "swp31"}),
]


@pytest.mark.parametrize(("names", "wanted"), TRANSLATED)
def test_a_cage_is_broken_out_when_another_of_its_lines_is_a_port(
    names: list[str], wanted: dict[str, str]
) -> None:
    assert translate(names, "SONiC", "Cumulus") == wanted


@given(st.sets(st.integers(0, 511), min_size=1))
def test_translating_there_and_back_changes_nothing(lines: set[int]) -> None:
    names = [f"Ethernet{line}" for line in sorted(lines)]
    there = translate(names, "SONiC", "Cumulus")
    assert len(set(there.values())) == len(names)
    back = translate(there.values(), "Cumulus", "SONiC")
    assert [back[there[name]] for name in names] == names


COVERS = [
    ([], []),
    (["10.0.0.1/32", "10.0.0.0/24"], ["10.0.0.0/24"]),
    (["10.0.0.0/25", "10.0.0.128/25"], ["10.0.0.0/24"]),
    (["10.0.1.0/24", "10.0.2.0/24"], ["10.0.1.0/24", "10.0.2.0/24"]),
    (["2001:db8::/64", "10.0.0.0/24"], ["10.0.0.0/24", "2001:db8::/64"]),
    (["10.0.0.0/32", "10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/30"], ["10.0.0.0/29"]),
]


@pytest.mark.parametrize(("prefixes", "cover"), COVERS)
def test_prefixes_are_covered_by_the_fewest(prefixes: list[str], cover: list[str]) -> None:
    assert list(smallest_cover(prefixes)) == cover


def in_network(kind: str, ips: tuple[str, ...], vrf: int) -> MachineNetwork:
    return MachineNetwork(
        network_id=kind,
        prefixes=("10.0.0.0/22",),
        destination_prefixes=(),
        ips=ips,
        vrf=vrf,
        asn=4210000001,
        nat=False,
        private=kind.startswith("private"),
        underlay=kind == "underlay",
        network_type=kind,
        network_type_v2="",
        nat_type_v2="none",
        project_id="",
    )


def test_a_firewall_announces_no_vni_of_the_underlay_and_no_address_but_its() -> None:
    found = firewall_filter(
        [
            in_network("privateprimaryunshared", ("10.0.0.1",), 12),
            in_network("external", ("198.51.100.1",), 7),
            in_network("mpls", ("198.51.100.9",), 0),
            in_network("underlay", ("172.20.0.4", "2001:db8::4"), 99),
        ]
    )
    assert found == BGPFilter(cidrs=("172.20.0.4/32", "2001:db8::4/128"), vnis=("7", "12"))


def test_a_machine_announces_its_primary_network_alone_of_its_private_ones() -> None:
    found = machine_filter(
        [
            in_network("privateprimaryunshared", ("10.0.0.1",), 12),
            in_network("external", ("198.51.100.1",), 7),
        ],
        announcable=["10.0.4.0/22"],
        project=ranges_of(["198.51.100.1", "10.0.0.77"]),
    )
    assert found == BGPFilter(cidrs=("10.0.0.0/21", "198.51.100.1/32"), vnis=())


small = st.builds(
    lambda number, bits: str(ip_network((0x0A000000 | number, bits), strict=False)),
    st.integers(0, 255),
    st.integers(24, 32),
)


@given(st.lists(small, max_size=12))
def test_a_cover_holds_the_same_addresses_and_none_of_it_can_be_left_out(
    prefixes: list[str],
) -> None:
    def held(texts: object) -> set[int]:
        assert isinstance(texts, list | tuple)
        return {
            int(address)
            for text in texts
            for address in (
                int(ip_network(text).network_address) + offset
                for offset in range(ip_network(text).num_addresses)
            )
        }

    cover = smallest_cover(prefixes)
    assert held(cover) == held(prefixes)
    assert len(cover) <= len(set(prefixes))
    networks = [IPv4Network(each) for each in cover]
    for one in networks:
        for other in networks:
            if one != other:
                assert not one.overlaps(other)
                # No two halves of one whole are left, or there would be a smaller cover.
                if one.prefixlen == other.prefixlen:
                    assert one.supernet() != other.supernet()


anywhere = st.one_of(
    st.builds(
        lambda number, bits: str(ip_network((number, bits), strict=False)),
        st.one_of(st.just(0), st.just(2**32 - 1), st.integers(0, 2**32 - 1)),
        st.integers(0, 32),
    ),
    st.builds(
        lambda number, bits: str(ip_network((number, bits), strict=False)),
        st.one_of(st.just(2**128 - 1), st.integers(2**32, 2**128 - 1)),
        st.integers(0, 128),
    ),
)


@given(st.lists(anywhere, max_size=12))
def test_a_cover_is_what_the_standard_library_makes_of_it(prefixes: list[str]) -> None:
    networks = [ip_network(each) for each in prefixes]
    four = [each for each in networks if isinstance(each, IPv4Network)]
    six = [each for each in networks if isinstance(each, IPv6Network)]
    wanted = [*collapse_addresses(four), *collapse_addresses(six)]
    assert list(smallest_cover(prefixes)) == [str(each) for each in wanted]


@given(st.text(max_size=40))
def test_whatever_is_no_address_is_refused_by_name(text: str) -> None:
    for parse in (parse_prefix, parse_address, parse_family):
        try:
            parse(text, field="the field")
        except InvalidArgumentError as error:
            refusals = [error]
        else:
            refusals = []
        assert all("the field" in str(each) and each.remedy for each in refusals)


FLAGS = st.one_of(st.none(), st.booleans())


@given(
    privatesuper=FLAGS,
    underlay=FLAGS,
    nat=FLAGS,
    kind=st.sampled_from([None, "", "external", "underlay", "super", "child", "x"]),
    nattype=st.sampled_from([None, "", "none", "ipv4-masq", "x"]),
    lengths=st.sampled_from([None, {}, {"IPv4": 22}, {"ipv4": 22, "IPv6": 64}, {"IPv4": 8}]),
    partition=st.sampled_from([None, "muc"]),
    prefixes=st.lists(
        st.sampled_from(["10.0.0.0/16", "10.0.1.0/24", "2001:db8::/48", "x"]), max_size=3
    ),
)
def test_a_planned_network_is_consistent_or_refused(
    *,
    privatesuper: bool | None,
    underlay: bool | None,
    nat: bool | None,
    kind: str | None,
    nattype: str | None,
    lengths: dict[str, int] | None,
    partition: str | None,
    prefixes: list[str],
) -> None:
    request = NetworkCreateRequest(
        prefixes=tuple(prefixes),
        privatesuper=privatesuper,
        underlay=underlay,
        nat=nat,
        networktype=kind,
        nattype=nattype,
        defaultchildprefixlength=lengths,
        partitionid=partition,
    )
    try:
        network = plan_root(request)
    except MetropolisError as error:
        assert (error.code, bool(error.remedy)) == ("invalid-argument", True)  # noqa: PT017  # most are
        return
    assert network.private_super == (network.kind == "super")
    assert privatesuper is None or network.private_super == privatesuper
    assert underlay is None or network.underlay == underlay
    assert nat is None or network.nat == nat
    assert not kind or network.kind == kind
    assert not (network.nat and network.kind != "external")
    assert network.kind == "external" or network.partition_id
    assert set(network.child_prefix_length) == (
        set(families_of(network.prefixes)) if network.private_super else set()
    )
    if network.private_super:
        cut = plan_child(NetworkAllocateRequest(), network)
        assert cut == network.child_prefix_length


def network(kind: NetworkKind, *, project: str = "", partition: str = "muc") -> Network:
    return Network(
        kind=kind,
        prefixes=("10.0.0.0/22", "2001:db8::/64"),
        project_id=project,
        partition_id=partition,
        shared=kind == "child-shared",
    )


EXISTING = {
    "own": network("child", project="red"),
    "own2": network("child", project="red"),
    "shared": network("child-shared", project="red"),
    "their-shared": network("child-shared", project="blue"),
    "theirs": network("child", project="blue"),
    "far": network("child", project="red", partition="fra"),
    "internet": network("external", partition=""),
    "mpls": network("external"),
    "super": network("super"),
    "underlay": network("underlay"),
}


@given(
    names=st.lists(st.sampled_from([*EXISTING, "nowhere"]), max_size=4),
    automatic=st.booleans(),
    role=st.sampled_from(("machine", "firewall")),
)
def test_whatever_a_machine_asks_for_it_has_one_primary_network_of_its_project(
    *, names: list[str], automatic: bool, role: MachineRole
) -> None:
    plan = AttachPlan(
        machine_id="m1",
        machine_name="",
        project_id="red",
        partition_id="muc",
        role=role,
        networks=[
            MachineAllocationNetwork(networkid=each, autoacquire=automatic) for each in names
        ],
    )
    try:
        uses = plan_networks(plan, Fabric(networks=EXISTING, underlays=["underlay"]))
    except MetropolisError as error:
        assert error.remedy  # noqa: PT017  # most of them are refused
        return
    primary = [each for each in uses if each.type.startswith("privateprimary")]
    assert primary == [uses[0]]
    assert EXISTING[uses[0].network_id].project_id == "red"
    assert {each.network_id for each in uses} == {*names} | (
        {"underlay"} if role == "firewall" else set()
    )
    assert not {"super", "theirs", "far"} & {each.network_id for each in uses}
    private = [each for each in uses if each.type.startswith("private")]
    assert role == "firewall" or len(private) == 1
    assert all(each.acquired == ("IPv4", "IPv6") for each in uses)


def switch(vendor: str, names: list[str], connected: dict[str, str]) -> Switch:
    return Switch(
        partition_id="muc",
        rack_id="r",
        os=SwitchOS(vendor=vendor),
        ports=tuple(
            SwitchPort(name=name, identifier=name, vrf=f"vrf{index}")
            for index, name in enumerate(names)
        ),
        connections=tuple(
            PortConnection(port=port, machine_id=machine) for port, machine in connected.items()
        ),
    )


@given(st.sets(st.integers(0, 127), min_size=1, max_size=32))
def test_what_is_taken_over_and_back_is_what_it_was(lines: set[int]) -> None:
    sonic = [f"Ethernet{line}" for line in sorted(lines)]
    cumulus = list(translate(sonic, "SONiC", "Cumulus").values())
    source = switch("SONiC", sonic, {sonic[0]: "m1"})
    there = take_over(source, "a", switch("Cumulus", cumulus, {}), every_port=True)
    back = take_over(there, "b", switch("SONiC", sonic, {}), every_port=True)
    assert back == source


def test_ports_that_no_vendor_names_keep_their_name() -> None:
    source = switch("SONiC", ["Ethernet4", "eth0"], {"Ethernet4": "m1"})
    taken = take_over(source, "a", switch("Cumulus", ["swp2", "eth0"], {}), every_port=True)
    assert [(each.name, each.vrf) for each in taken.ports] == [("swp2", "vrf0"), ("eth0", "vrf1")]
    assert taken.connections == (PortConnection(port="swp2", machine_id="m1"),)


def test_switches_of_unknown_vendors_are_not_compared() -> None:
    source = switch("SONiC", ["Ethernet4"], {"Ethernet4": "m1"})
    with pytest.raises(MetropolisError, match="unknown"):
        take_over(source, "a", switch("", ["Ethernet4"], {}), every_port=False)


def test_an_address_with_a_zone_is_none() -> None:
    with pytest.raises(InvalidArgumentError):
        parse_address("fe80::1%eth0", field="ip")
    assert parse_address("2001:DB8::1", field="ip") == ip_address("2001:db8::1")
    assert str(parse_prefix("10.1.2.3/8", field="p")) == "10.0.0.0/8"
