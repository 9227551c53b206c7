# SPDX-License-Identifier: Apache-2.0
"""The lab's network as `ip` commands. Pure: it says what to do, `host.linux.links` does it.

Every machine hangs on a bridge. A split moves machines to bridges of their own; the operator's
side is on every bridge under the same address, so that each part can be watched and asked.
"""

from collections.abc import Callable, Sequence

from metropolis.lab.model import OPERATOR_ADDRESS, PREFIX_LENGTH

_OPERATOR_MAC = "02:00:0a:01:00:01"  # equal on all bridges: machines keep what they learned

_ARP_AGAIN_MS = 100


def bridge_name(part: int) -> str:
    """The bridge of one part of the network; 0 is the whole network when there is no split."""
    return f"lab{part}"


def port_name(number: int, *, start: int) -> str:
    """The rack's end of a machine's cable; each start has its own: kernels forget slowly."""
    return f"node{number}b{start}"


def create_network() -> Sequence[str]:
    """Commands for a network without machines."""
    return ("link set lo up", *_create_bridge(0))


def plug_in_process(number: int, *, port: str, part: int, is_up: bool) -> Sequence[str]:
    """Commands that connect a machine of namespaces.

    They are run in the rack's network and the machine's PID namespace.
    In there the machine is found as process 1.
    """
    peer = f"peer name eth0 address {mac(number)} netns 1"
    return (
        f"link add {port} master {bridge_name(part)} type veth {peer}",
        *((f"link set {port} up",) if is_up else ()),
    )


def plug_in_tap(*, port: str, part: int, is_up: bool) -> Sequence[str]:
    """Commands that connect a virtual machine, whose end of the cable is a descriptor."""
    return (
        f"link set {port} master {bridge_name(part)}",
        *((f"link set {port} up",) if is_up else ()),
    )


def set_up_machine(address: str) -> Sequence[str]:
    """Commands, run inside the machine, after it was plugged in."""
    return (
        "link set lo up",
        f"address add {address}/{PREFIX_LENGTH} dev eth0",
        "link set eth0 up",
    )


def set_link(port: str, *, is_up: bool) -> str:
    """The command that pulls a machine's cable, or puts it back."""
    return f"link set {port} {'up' if is_up else 'down'}"


def move_port(port: str, *, part: int) -> str:
    """The command that moves a machine to a part of the network."""
    return f"link set {port} master {bridge_name(part)}"


def split(
    parts: Sequence[Sequence[int]], *, bridges_now: int, address: Callable[[int], str]
) -> Sequence[str]:
    """Commands that make parts which cannot reach each other; then the ports are moved.

    Args:
        parts: Machine numbers of each part; every machine is in exactly one. One part heals.
        bridges_now: How many bridges there are; those not needed any more are left alone.
        address: The address of a machine.
    """
    commands: list[str] = []
    for part in range(bridges_now, len(parts)):
        commands += _create_bridge(part)
    for part, members in enumerate(parts):
        for number in members:
            # More specific than the network's route, which every bridge has.
            route = f"{address(number)}/32 dev {bridge_name(part)}"
            commands.append(f"route replace {route} src {OPERATOR_ADDRESS}")
    return commands


def _create_bridge(part: int) -> Sequence[str]:
    name = bridge_name(part)
    return (
        f"link add {name} address {_OPERATOR_MAC} type bridge",
        f"address add {OPERATOR_ADDRESS}/{PREFIX_LENGTH} dev {name}",
        f"link set {name} up",
        # Find out within 0.3 s, not 3, that a machine is not there, or that it is there by now.
        f"ntable change name arp_cache dev {name} retrans {_ARP_AGAIN_MS}",
    )


def mac(number: int) -> str:
    """The hardware address of a machine's network card."""
    return f"02:00:0a:01:00:{2 + number:02x}"
