# SPDX-License-Identifier: Apache-2.0
"""A configured machine, on the kernel's own links."""

from collections.abc import Sequence
from pathlib import Path

from e2e.network.machine import Machine
from e2e.network.rig import in_new_network, ip, neighbour
from e2e.network.test_automatic import addresses, dnsmasq, routes
from metropolis.api import configuration_pb2, net_pb2
from metropolis.host.linux.network_links import LinuxLinks
from metropolis.node.storage import NETWORK_CONFIGURATION, PARAMETERS

Interface = net_pb2.Interface
Route = net_pb2.Interface.Route
DHCP = net_pb2.IPv4Autoconfig()


def net(*interfaces: net_pb2.Interface, servers: Sequence[str] = ()) -> net_pb2.Net:
    return net_pb2.Net(
        interface=interfaces, nameserver=[net_pb2.Nameserver(ip=each) for each in servers]
    )


async def give(machine: Machine, configuration: net_pb2.Net) -> None:
    parameters = configuration_pb2.NodeParameters(network_config=configuration)
    await machine.edges.storage.write(PARAMETERS, parameters.SerializeToString())


def static(name: str, index: int, address: str) -> net_pb2.Interface:
    return Interface(name=name, device=net_pb2.Device(index=index), address=[address])


def test_devices_are_named_addressed_and_routed_as_configured(tmp_path: Path) -> None:
    async def scenario() -> None:
        with neighbour() as far:
            far.cable("port0", "far0", "192.0.2.1/24")
            far.cable("port1", "far1", "198.51.100.1/24")
            machine = Machine(tmp_path)
            uplink = Interface(
                name="port0",  # what the kernel calls the other device
                device=net_pb2.Device(index=1),
                address=["198.51.100.7/24", "2001:db8::7/64"],
                route=[Route(destination="0.0.0.0/0", gateway_ip="198.51.100.1", metric=5)],
                mtu=1400,
            )
            storage = static("storage", 0, "192.0.2.7/24")
            await give(machine, net(uplink, storage, servers=["192.0.2.53"]))
            async with machine.running():
                status = await machine.status(lambda s: len(s.addresses) == 3)
                assert list(status.addresses) == ["198.51.100.7", "192.0.2.7", "2001:db8::7"]
                assert list(status.name_servers) == ["192.0.2.53"]
                assert addresses("port0") == ["198.51.100.7/24"]
                assert addresses("storage") == ["192.0.2.7/24"]
                found = {each.name: each for each in LinuxLinks().links()}
                assert found["port0"].mtu_bytes == 1400
                (route,) = LinuxLinks().routes(found["port0"].index, 4)
                assert (str(route.destination), str(route.gateway)) == (
                    "0.0.0.0/0",
                    "198.51.100.1",
                )
                ip("addr del 192.0.2.7/24 dev storage")  # somebody interferes
                await machine.edges.status.wait_newer(0)
                saved = await machine.edges.storage.read(NETWORK_CONFIGURATION)
                assert net_pb2.Net.FromString(saved or b"").interface[1] == storage

    in_new_network(scenario)


def test_no_configured_address_is_taken_before_the_firewall_is_closed(tmp_path: Path) -> None:
    async def scenario() -> None:
        with neighbour() as far:
            far.cable("port0", "far0", "192.0.2.1/24")
            machine = Machine(tmp_path, is_guarded=False)
            await give(machine, net(static("port0", 0, "192.0.2.7/24")))
            async with machine.running():
                await machine.wait_log("Waiting for the firewall, before this machine takes an")
                assert addresses("port0") == []
                machine.close_firewall()
                await machine.status()

    in_new_network(scenario)


def test_dhcp_and_fixed_addresses_live_side_by_side(tmp_path: Path) -> None:
    async def scenario() -> None:
        with neighbour() as far:
            far.cable("port0", "far0", "192.0.2.1/24")
            far.cable("port1", "far1", "198.51.100.1/24")
            far.cable("port2", "far2", "203.0.113.1/24")
            for network in ("198.51.100", "203.0.113"):
                dnsmasq(
                    far,
                    tmp_path,
                    f"--interface=far{1 if network == '198.51.100' else 2}",
                    "--bind-interfaces",
                    f"--dhcp-option=option:router,{network}.1",
                    f"--dhcp-option=option:dns-server,{network}.53",
                    network=network,
                )
            machine = Machine(tmp_path)
            leased = [
                Interface(name=f"up{n}", device=net_pb2.Device(index=n), ipv4_autoconfig=DHCP)
                for n in (1, 2)
            ]
            await give(machine, net(static("fixed", 0, "192.0.2.7/24"), *leased))
            async with machine.running():
                status = await machine.status()  # the first one is complete
                first, second, third = status.addresses
                assert first.startswith("198.51.100.")
                assert second.startswith("203.0.113.")
                assert third == "192.0.2.7"
                assert list(status.name_servers) == ["198.51.100.53", "203.0.113.53"]
                assert [each.metric for each in routes("up1")] == [101]
                assert [each.metric for each in routes("up2")] == [102]

    in_new_network(scenario)


def test_a_configuration_that_cannot_work_is_refused_by_field_and_the_last_good_one_used(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        with neighbour() as far:
            far.cable("port0", "far0", "192.0.2.1/24")
            good = net(static("up", 0, "192.0.2.7/24"))
            machine = Machine(tmp_path)
            await machine.edges.storage.write(NETWORK_CONFIGURATION, good.SerializeToString())
            await give(machine, net(static("up", 0, "192.0.2.300/24")))
            async with machine.running():
                status = await machine.status()
                assert list(status.addresses) == ["192.0.2.7"]
                await machine.wait_log(
                    "The given network configuration: interface[0].address[0]: "
                    "'192.0.2.300/24' does not appear to be an IPv4 or IPv6 interface. Give the "
                    "node a correct network configuration; it uses what was saved, or DHCP until"
                )
            assert await machine.edges.storage.read(NETWORK_CONFIGURATION) == (
                good.SerializeToString()
            )

    in_new_network(scenario)


def test_a_damaged_saved_configuration_leaves_dhcp(tmp_path: Path) -> None:
    async def scenario() -> None:
        with neighbour() as far:
            far.cable("port0", "far0", "192.0.2.1/24")
            dnsmasq(far, tmp_path)
            machine = Machine(tmp_path)
            await machine.edges.storage.write(NETWORK_CONFIGURATION, b"\xff\xff")
            async with machine.running():
                await machine.status()
                await machine.wait_log("The saved network configuration")

    in_new_network(scenario)


def test_what_the_kernel_refuses_or_is_missing_does_not_stop_the_rest(tmp_path: Path) -> None:
    async def scenario() -> None:
        with neighbour() as far:
            far.cable("port0", "far0", "192.0.2.1/24")
            machine = Machine(tmp_path)
            missing = static("later", 1, "198.51.100.7/24")
            refused = static("up", 0, "192.0.2.7/24")
            refused.route.append(Route(destination="203.0.113.0/24", source_ip="192.0.2.99"))
            await give(machine, net(missing, refused))
            async with machine.running():
                status = await machine.status()
                assert list(status.addresses) == ["192.0.2.7"]
                refusal = "cannot route 203.0.113.0/24 through its link: Invalid argument"
                await machine.wait_log(f"Interface up: {refusal}")
                await machine.wait_log(
                    f"Waiting for a device for interface later (index 1); interface up: {refusal}"
                )
                far.cable("port1", "far1", "198.51.100.1/24")  # somebody plugs it in
                status = await machine.status(lambda s: len(s.addresses) == 2)
                assert list(status.addresses) == ["198.51.100.7", "192.0.2.7"]
                ip("link del later")
                await machine.status(lambda s: len(s.addresses) == 1)

    in_new_network(scenario)
