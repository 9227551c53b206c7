# SPDX-License-Identifier: Apache-2.0
"""Links of this process's network namespace, over rtnetlink and sysfs."""

import asyncio
import errno
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, final

from metropolis.base.errors import FailedPreconditionError
from metropolis.host.linux import route_messages as wire
from metropolis.host.linux.modules import load_on_demand
from metropolis.host.linux.netlink import (
    ALREADY_GONE,
    CREATE,
    EXCLUSIVE,
    REPLACE,
    KernelRefusedError,
    NetlinkSocket,
)
from metropolis.host.network import BondSettings, Link, LinkAddress, LinkChanges, Route

_GROUPS: Final = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, _IPV4_IFADDR, _IPV6_IFADDR
_RECEIVE_BYTES: Final = 1 << 16
_SYSFS: Final = Path("/sys/class/net")


@final
class LinuxLinks:
    """The kernel's links. See `metropolis.host.network.Links`."""

    def links(self) -> Sequence[Link]:
        answers = self._dump(wire.GET_LINK, wire.encode_link(), what="list the links")
        links = [wire.decode_link(body) for kind, body in answers if kind == wire.NEW_LINK]
        return sorted((_with_hardware(link) for link in links), key=lambda link: link.index)

    def change_link(
        self,
        index: int,
        *,
        is_up: bool | None = None,
        name: str | None = None,
        mtu_bytes: int | None = None,
        master: int | None = None,
    ) -> None:
        body = wire.encode_link(
            index=index, is_up=is_up, name=name, mtu_bytes=mtu_bytes, master=master
        )
        self._change(wire.NEW_LINK, 0, body, what=f"change link {name or index}")

    def create_bond(self, name: str, settings: BondSettings) -> None:
        load_on_demand("bonding")
        body = wire.encode_bond(name, settings)
        self._change(wire.NEW_LINK, CREATE | EXCLUSIVE, body, what=f"make bond {name}")

    def create_vlan(self, name: str, *, parent: int, vlan_id: int, is_service: bool) -> None:
        load_on_demand("8021q")
        body = wire.encode_vlan(name, parent=parent, vlan_id=vlan_id, is_service=is_service)
        self._change(wire.NEW_LINK, CREATE | EXCLUSIVE, body, what=f"make VLAN {name}")

    def delete_link(self, index: int) -> None:
        self._remove(wire.DELETE_LINK, wire.encode_link(index=index), what=f"remove link {index}")

    def addresses(self, index: int) -> Sequence[LinkAddress]:
        body = wire.encode_address_filter(index)
        answers = self._dump(wire.GET_ADDRESS, body, what=f"list the addresses of link {index}")
        found = [wire.decode_address(body) for _, body in answers]
        return [each for each in found if each is not None and each.link_index == index]

    def put_address(self, address: LinkAddress) -> None:
        what = f"give a link the address {address.interface}"
        self._change(wire.NEW_ADDRESS, CREATE | REPLACE, wire.encode_address(address), what=what)

    def remove_address(self, address: LinkAddress) -> None:
        what = f"remove the address {address.interface}"
        self._remove(wire.DELETE_ADDRESS, wire.encode_address(address), what=what)

    def routes(self, index: int, protocol: int) -> Sequence[Route]:
        body = wire.encode_route_filter(index, protocol)
        answers = self._dump(wire.GET_ROUTE, body, what=f"list the routes of link {index}")
        found = [wire.decode_route(body) for _, body in answers]
        return [
            each
            for each in found
            if each is not None and each.link_index == index and each.protocol == protocol
        ]

    def put_route(self, route: Route) -> None:
        what = f"route {route.destination} through {route.gateway or 'its link'}"
        self._change(wire.NEW_ROUTE, CREATE | REPLACE, wire.encode_route(route), what=what)

    def remove_route(self, route: Route) -> None:
        what = f"remove the route to {route.destination}"
        self._remove(wire.DELETE_ROUTE, wire.encode_route(route), what=what)

    def watch(self) -> LinkChanges:
        return _LinuxLinkChanges()

    def _dump(self, kind: int, body: bytes, *, what: str) -> Sequence[tuple[int, bytes]]:
        with NetlinkSocket(socket.NETLINK_ROUTE) as kernel:
            try:
                return kernel.dump(kind, body, what=what)
            except KernelRefusedError as error:
                if error.number in ALREADY_GONE:  # a link that has just vanished has nothing
                    return ()
                raise

    def _change(self, kind: int, flags: int, body: bytes, *, what: str) -> None:
        with NetlinkSocket(socket.NETLINK_ROUTE) as kernel:
            kernel.change(kind, flags, body, what=what)

    def _remove(self, kind: int, body: bytes, *, what: str) -> None:
        try:
            self._change(kind, 0, body, what=what)
        except KernelRefusedError as error:
            if error.number not in ALREADY_GONE:
                raise


def _with_hardware(link: Link) -> Link:
    """Add what sysfs knows of a device; in a namespace without its own sysfs that is nothing."""
    device = _SYSFS / link.name / "device"
    try:
        if int((device.parent / "ifindex").read_text(encoding="ascii")) != link.index:
            return link
        place = device.resolve(strict=True)
        driver = (device / "driver").resolve(strict=True).name
    except (OSError, ValueError):
        return link
    return replace(link, driver=driver, place=str(place))


@final
class _LinuxLinkChanges:
    """A subscription; what it is told is only looked at to know that there was something."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(
            socket.AF_NETLINK,
            socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
            socket.NETLINK_ROUTE,
        )
        self._socket.bind((0, _GROUPS))
        self._changed = asyncio.Event()
        self._loop.add_reader(self._socket.fileno(), self._read)

    async def receive(self) -> None:
        await self._changed.wait()
        self._changed.clear()

    def close(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()

    def _read(self) -> None:
        self._changed.set()
        try:
            while self._socket.recv(_RECEIVE_BYTES):
                pass
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # more changes than fit: still only "something"
                raise


@final
class LinuxKernelSettings:
    """/proc/sys."""

    def __init__(self, root: Path = Path("/proc/sys")) -> None:
        self._root = root

    def write(self, name: str, value: str) -> None:
        """Set one."""
        try:
            (self._root / name).write_text(f"{value}\n", encoding="ascii")
        except OSError as cause:
            raise FailedPreconditionError(
                f"the kernel does not take {value!r} for {name}: {cause.strerror}",
                remedy="Nothing: this machine works without it.",
            ) from cause
