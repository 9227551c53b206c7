# SPDX-License-Identifier: Apache-2.0
"""The network of a machine that nobody configured: DHCP on every Ethernet device."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from metropolis.base.errors import MetropolisError
from metropolis.host.network import Link
from metropolis.node.network.automatic_plan import Candidate, Choice, choose_device
from metropolis.node.network.edges import NetworkEdges, in_bus_order
from metropolis.node.network.kernel_settings import write_settings
from metropolis.node.network.lease_apply import apply_lease, withdraw_lease
from metropolis.node.network.lease_keeper import HeldLease, LeaseKeeper
from metropolis.node.network.publication import FIREWALL, publish, say_waiting
from metropolis.node.network.status import NetworkStatus
from metropolis.node.network.wake import Wake, wait_change
from metropolis.supervision import Context


async def automatic(ctx: Context, *, edges: NetworkEdges) -> None:
    """Find a network and stay on it."""
    wake = Wake(edges.links)
    try:
        async with asyncio.TaskGroup() as group:
            finder = _Finder(ctx, edges, wake, group)
            group.create_task(_wake_when_guarded(edges, wake))
            ctx.healthy()
            while True:
                choice = finder.look()
                await wait_change(wake, until_s=choice.look_again_s, clock=edges.clock)
    finally:
        wake.close()


async def _wake_when_guarded(edges: NetworkEdges, wake: Wake) -> None:
    await edges.wait_guarded()
    wake.set()


@dataclass(slots=True, kw_only=True)
class _Asking:
    """A device on which a client runs."""

    keeper: LeaseKeeper
    task: asyncio.Task[None]
    answered_s: float | None = None


class _Finder:
    """Looks at the devices whenever something changed, and does what the plan says."""

    def __init__(
        self, ctx: Context, edges: NetworkEdges, wake: Wake, group: asyncio.TaskGroup
    ) -> None:
        self._ctx = ctx
        self._edges = edges
        self._wake = wake
        self._group = group
        self._asking: dict[int, _Asking] = {}
        self._chosen: int | None = None
        self._applied: HeldLease | None = None

    def look(self) -> Choice:
        now_s = self._edges.clock.monotonic_s()
        devices = self._devices()
        if self._switch_on(devices):
            devices = self._devices()  # some have their carrier at once
        self._observe(devices, now_s=now_s)
        choice = choose_device(
            [self._candidate(each) for each in devices], self._chosen, now_s=now_s
        )
        if choice.chosen != self._chosen:
            self._leave()
            self._chosen = choice.chosen
        self._ask([each for each in devices if each.index in choice.asks])
        say_waiting(self._ctx, self._edges, choice.waits_for)
        self._use()
        return choice

    def _devices(self) -> Sequence[Link]:
        found = filter(self._is_candidate, self._edges.links.links())
        return sorted(found, key=in_bus_order)

    def _switch_on(self, devices: Sequence[Link]) -> bool:
        """Switch on what is off; tell whether there was anything."""
        off = [each for each in devices if not each.is_up]
        for link in off:
            unasked = {f"net/ipv6/conf/{link.name}/accept_ra": "0"}  # nobody configured IPv6
            write_settings(unasked, settings=self._edges.settings)
            try:
                self._edges.links.change_link(link.index, is_up=True)
            except MetropolisError as error:
                self._ctx.log.warning("%s", error)
        return bool(off)

    def _is_candidate(self, link: Link) -> bool:
        return self._edges.is_device(link) and link.master == 0

    def _candidate(self, link: Link) -> Candidate:
        asking = self._asking.get(link.index)
        return Candidate(
            index=link.index,
            name=link.name,
            has_carrier=link.has_carrier,
            answered_s=None if asking is None else asking.answered_s,
        )

    def _observe(self, devices: Sequence[Link], *, now_s: float) -> None:
        """Bring what we remember up to date with the links and the clients."""
        present = {each.index: each for each in devices}
        for index, asking in [*self._asking.items()]:
            link = present.get(index)
            if link is None or asking.keeper.is_gone:
                self._stop(index)
                continue
            asking.keeper.observe(link)
            if asking.keeper.held is None:
                asking.answered_s = None
            elif asking.answered_s is None:
                asking.answered_s = now_s

    def _ask(self, devices: Sequence[Link]) -> None:
        """Run a client on these devices, and on no other."""
        wanted = {each.index for each in devices}
        for index in [each for each in self._asking if each not in wanted]:
            self._stop(index)
        for link in devices:
            if link.index in self._asking:
                continue
            keeper = LeaseKeeper(link, edges=self._edges, log=self._ctx.log, changed=self._wake.set)
            self._asking[link.index] = _Asking(
                keeper=keeper,
                task=self._group.create_task(keeper.run()),
            )

    def _stop(self, index: int) -> None:
        self._asking.pop(index).task.cancel()

    def _leave(self) -> None:
        """Stop using the device of before."""
        if self._chosen is not None:
            withdraw_lease(self._edges.links, self._chosen)
            self._applied = None
            publish(self._ctx, self._edges, None)

    def _use(self) -> None:
        """Use the lease of the chosen device, if that is not what we do already."""
        asking = None if self._chosen is None else self._asking.get(self._chosen)
        held = None if asking is None else asking.keeper.held
        if held is None or held is self._applied:
            return
        if not self._edges.may_take_addresses:
            say_waiting(self._ctx, self._edges, FIREWALL)
            return
        assert self._chosen is not None
        apply_lease(
            self._edges.links,
            self._chosen,
            held,
            now_s=self._edges.clock.monotonic_s(),
            log=self._ctx.log,
        )
        self._applied = held
        lease = held.lease
        publish(
            self._ctx,
            self._edges,
            NetworkStatus(
                addresses=(str(lease.address.ip),),
                name_servers=tuple(map(str, lease.name_servers)),
                time_servers=tuple(map(str, lease.time_servers)),
            ),
        )
