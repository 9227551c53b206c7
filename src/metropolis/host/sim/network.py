# SPDX-License-Identifier: Apache-2.0
"""Links, addresses, routes and frames that do not exist. See `metropolis.host.network`.

A link is plugged into a `Segment`, or into nothing; what is sent on it reaches everybody else on
that segment. An address with an end is gone when its time has come, as the kernel does it.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Final, final

from metropolis.base.errors import FailedPreconditionError, UnavailableError
from metropolis.host.network import (
    BondSettings,
    DhcpSocket,
    Link,
    LinkAddress,
    LinkChanges,
    Route,
)
from metropolis.protocols.dhcp4.packet import encode_packet

_FIRST_INDEX: Final = 2  # 1 is the loopback link


@final
class Segment:
    """An Ethernet segment. `servers` hear what machines on it send."""

    def __init__(self) -> None:
        self.servers: list[Callable[[bytes], None]] = []
        self._listeners: list[SimDhcpSocket] = []

    def listen(self, socket: "SimDhcpSocket") -> None:
        """Let a socket hear what is delivered while its card is plugged in here."""
        self._listeners.append(socket)

    def deliver(self, packet: bytes) -> None:
        """Let every machine that is plugged in here hear an IPv4 packet."""
        for socket in self._listeners:
            socket.hear(self, packet)


@dataclass(slots=True, kw_only=True)
class _Card:
    link: Link
    segment: Segment | None


@final
class SimLinks:
    """The links of a machine, with cables to pull."""

    def __init__(self) -> None:
        self._cards: dict[int, _Card] = {}
        self._addresses: list[tuple[LinkAddress, float | None]] = []  # and when it ends
        self._routes: list[Route] = []
        self._watching: list[asyncio.Event] = []
        self._next_index = _FIRST_INDEX

    def add_card(self, name: str, segment: Segment | None, *, place: str = "") -> int:
        """Put a network card in; return its index. It is switched off."""
        index = self._next_index
        self._next_index += 1
        hardware_address = bytes([2, 0, 0, 0, 0, index])
        link = Link(
            index=index,
            name=name,
            hardware_address=hardware_address,
            permanent_hardware_address=hardware_address,
            place=place,
        )
        self._cards[index] = _Card(link=link, segment=segment)
        self._tell()
        return index

    def plug(self, index: int, segment: Segment | None) -> None:
        """Move the cable of a card to another segment, or pull it."""
        card = self._cards[index]
        if card.link.has_carrier:
            losses = card.link.carrier_losses + 1
            card.link = replace(card.link, has_carrier=False, carrier_losses=losses)
        card.segment = segment
        self._settle(card)
        self._tell()

    def segment_of(self, index: int) -> Segment | None:
        """What a card hears; None without a cable or power. Unplugged and gone are the same."""
        card = self._cards.get(index)
        return card.segment if card is not None and card.link.has_carrier else None

    def links(self) -> Sequence[Link]:
        return [self._cards[index].link for index in sorted(self._cards)]

    def change_link(
        self,
        index: int,
        *,
        is_up: bool | None = None,
        name: str | None = None,
        mtu_bytes: int | None = None,
        master: int | None = None,
    ) -> None:
        card = self._card(index)
        if name is not None and any(each.name == name for each in self.links()):
            raise _refused(f"change link {name}", "File exists")
        link = card.link
        card.link = replace(
            link,
            is_up=link.is_up if is_up is None else is_up,
            name=link.name if name is None else name,
            mtu_bytes=link.mtu_bytes if mtu_bytes is None else mtu_bytes,
            master=link.master if master is None else master,
        )
        self._settle(card)
        self._tell()

    def create_bond(self, name: str, settings: BondSettings) -> None:
        del settings
        self._make(name, "bond")

    def create_vlan(self, name: str, *, parent: int, vlan_id: int, is_service: bool) -> None:
        del vlan_id, is_service
        self._card(parent)
        self._make(name, "vlan")

    def delete_link(self, index: int) -> None:
        if self._cards.pop(index, None) is None:
            return
        self._addresses = [each for each in self._addresses if each[0].link_index != index]
        self._routes = [each for each in self._routes if each.link_index != index]
        self._tell()

    def addresses(self, index: int) -> Sequence[LinkAddress]:
        self._expire()
        now_s = asyncio.get_running_loop().time()
        return [
            replace(address, valid_s=None if end_s is None else int(end_s - now_s))
            for address, end_s in self._addresses
            if address.link_index == index
        ]

    def put_address(self, address: LinkAddress) -> None:
        self._card(address.link_index)
        now_s = asyncio.get_running_loop().time()
        end_s = None if address.valid_s is None else now_s + address.valid_s
        self._addresses = [each for each in self._addresses if not _is_same(each[0], address)]
        self._addresses.append((address, end_s))
        if address.valid_s is not None:
            asyncio.get_running_loop().call_later(address.valid_s + 0.001, self._expire)
        self._tell()

    def remove_address(self, address: LinkAddress) -> None:
        self._addresses = [each for each in self._addresses if not _is_same(each[0], address)]
        self._drop_routes_from_nowhere()
        self._tell()

    def routes(self, index: int, protocol: int) -> Sequence[Route]:
        return [
            each for each in self._routes if each.link_index == index and each.protocol == protocol
        ]

    def put_route(self, route: Route) -> None:
        self._card(route.link_index)
        owned = {address.interface.ip for address, _ in self._addresses}
        if route.source is not None and route.source not in owned:
            raise _refused(f"route {route.destination}", "Invalid argument")
        key = (route.destination, route.metric)
        self._routes = [each for each in self._routes if (each.destination, each.metric) != key]
        self._routes.append(route)

    def remove_route(self, route: Route) -> None:
        self._routes = [each for each in self._routes if each != route]

    def watch(self) -> LinkChanges:
        return _SimLinkChanges(self._watching)

    def _card(self, index: int) -> _Card:
        card = self._cards.get(index)
        if card is None:
            raise _refused(f"use link {index}", "No such device")
        return card

    def _make(self, name: str, kind: str) -> None:
        index = self.add_card(name, Segment())
        self._cards[index].link = replace(self._cards[index].link, kind=kind)

    def _settle(self, card: _Card) -> None:
        """A card that is switched on and has a cable has a carrier."""
        card.link = replace(card.link, has_carrier=card.link.is_up and card.segment is not None)

    def _expire(self) -> None:
        now_s = asyncio.get_running_loop().time()
        kept = [each for each in self._addresses if each[1] is None or each[1] > now_s]
        if len(kept) != len(self._addresses):
            self._addresses = kept
            self._drop_routes_from_nowhere()
            self._tell()

    def _drop_routes_from_nowhere(self) -> None:
        owned = {address.interface.ip for address, _ in self._addresses}
        self._routes = [
            each for each in self._routes if each.source is None or each.source in owned
        ]

    def _tell(self) -> None:
        for event in self._watching:
            event.set()


def _is_same(one: LinkAddress, other: LinkAddress) -> bool:
    return (one.link_index, one.interface) == (other.link_index, other.interface)


def _refused(what: str, why: str) -> FailedPreconditionError:
    return FailedPreconditionError(f"cannot {what}: {why}", remedy="Compare it with the machine.")


@final
class _SimLinkChanges:
    def __init__(self, watching: list[asyncio.Event]) -> None:
        self._watching = watching
        self._event = asyncio.Event()
        watching.append(self._event)

    async def receive(self) -> None:
        await self._event.wait()
        self._event.clear()

    def close(self) -> None:
        self._watching.remove(self._event)


@final
class SimDhcpSocket:
    """See `metropolis.host.network.DhcpSocket`."""

    def __init__(self, links: SimLinks, index: int, segments: Sequence[Segment]) -> None:
        self._links = links
        self._index = index
        self._packets: asyncio.Queue[bytes] = asyncio.Queue()
        self._is_open = True
        for segment in segments:
            segment.listen(self)

    def hear(self, segment: Segment, packet: bytes) -> None:
        """Take a packet, if the card is plugged in there."""
        if self._is_open and self._links.segment_of(self._index) is segment:
            self._packets.put_nowait(packet)

    async def receive(self) -> bytes:
        return await self._packets.get()

    def broadcast(self, packet: bytes) -> None:
        segment = self._links.segment_of(self._index)
        for server in [] if segment is None else [*segment.servers]:
            server(packet)

    def send(self, payload: bytes, *, source: IPv4Address, to: IPv4Address) -> None:
        owned = [each.interface.ip for each in self._links.addresses(self._index)]
        if source in owned:  # else the kernel would not let us bind to it
            self.broadcast(encode_packet(payload, source=source, destination=to))

    def announce(self, address: IPv4Address, hardware_address: bytes) -> None:
        """Nobody here keeps a table of neighbours."""

    def close(self) -> None:
        self._is_open = False


@final
class SimDhcpSockets:
    """Makes them, for a machine that may be plugged into any of some segments."""

    def __init__(self, links: SimLinks, segments: Sequence[Segment]) -> None:
        self._links = links
        self._segments = tuple(segments)

    def open(self, link_index: int) -> DhcpSocket:
        if all(each.index != link_index for each in self._links.links()):
            raise UnavailableError(
                f"cannot listen on link {link_index}", remedy="Check that the device is there."
            )
        return SimDhcpSocket(self._links, link_index, self._segments)


@final
class SimKernelSettings:
    """Remembers what was set."""

    def __init__(self) -> None:
        self.written: dict[str, str] = {}

    def write(self, name: str, value: str) -> None:
        self.written[name] = value
