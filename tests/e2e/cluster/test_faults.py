# SPDX-License-Identifier: Apache-2.0
"""Disks that are full or stall, a cable that loses or delays: below real nodes, under real clients.

A leader is hit each time, of the cluster or of its store. Clients go on through the other two while
the fault lasts, and through everybody soon after; nothing that was acknowledged is lost; people are
told where to look.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from e2e.cluster.ledger import Ledger
from e2e.cluster.site import Site, launched_site
from metropolis.api.management_pb2 import Node
from metropolis.lab.faults import HICCUP_S

DISK_BYTES = 256 << 20
ALONE_S = 15.0
# TCP that waits for its next repetition alone takes as long as the split took, and so it does on
# kernels before 6.15, see `metropolis.host.linux.silence`.
REUNION_S = 8.0 if Path("/proc/sys/net/ipv4/tcp_rto_max_ms").exists() else 30.0
GO_ON_S = 30.0  # within which clients of the other nodes write while the fault lasts
RESUME_S = 15.0  # within which everybody's clients write when it is over
ALL_REACHABLE = "3 of 3 voting members can be reached"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Three voting members with disks of their own; every test leaves them HEALTHY."""
    with launched_site(tmp_path_factory.mktemp("faults"), disk_bytes=DISK_BYTES) as made:
        yield made


class Struck:
    """A cluster of which one machine has a fault."""

    def __init__(self, site: Site, nodes: dict[int, Node], number: int) -> None:
        self.site = site
        self.number = number
        self.node_id = nodes[number].id
        self.others = [other for other in site.numbers if other != number]

    async def tells(self, what: str, *command: str) -> None:
        """Wait until a command of people who ask the other nodes says something."""

        async def problem() -> str | None:
            done = await asyncio.to_thread(self.site.metroctl, *command, endpoints=self.others)
            told = done.out + done.err
            return None if what in told else f"`metroctl {' '.join(command)}` said {told!r}"

        await self.site.eventually(f"{what!r}", problem)


Fault = Callable[[int], AbstractAsyncContextManager[None]]


async def survive(
    site: Site,
    fault: Fault,
    *,
    whom: Callable[[], Awaitable[int]] | None = None,
    meanwhile: Callable[[Struck], Awaitable[None]] | None = None,
) -> None:
    """Strike a machine under load, the leader by default; see the module."""
    before = await site.wait_calm()
    ledger = Ledger(site, before)
    struck = Struck(site, before, await (whom or site.leader)())
    async with ledger.writing():
        await ledger.wait_writes(1, through=site.numbers)
        async with fault(struck.number):
            await ledger.wait_writes(3, through=struck.others, within_s=GO_ON_S)
            if meanwhile is not None:
                await meanwhile(struck)
        await ledger.wait_writes(3, through=site.numbers, within_s=RESUME_S)
    await struck.tells(ALL_REACHABLE, "consensus", "status")
    after = await site.wait_calm()
    assert {node.id for node in after.values()} == {node.id for node in before.values()}
    for number in site.numbers:
        ledger.check(await site.nodes(number))


def test_a_leader_whose_disk_is_full_hands_over_and_says_so(site: Site) -> None:
    async def restart(struck: Struck) -> None:
        """What etcd allocated lasts for a while, but seldom beyond a restart."""
        site.kill(struck.number)
        await struck.tells("[DISK_FULL]", "explain", struck.node_id)

    site.run(lambda: survive(site, site.faults.full_disk, meanwhile=restart))


def test_writes_go_on_while_the_disk_of_the_stores_leader_stalls(site: Site) -> None:
    site.run(lambda: survive(site, site.faults.slow_disk, whom=site.store_leader))


def test_a_leader_of_the_store_whose_disk_is_slow_says_so(site: Site) -> None:
    async def scenario() -> None:
        nodes = await site.wait_calm()
        struck = Struck(site, nodes, await site.store_leader())
        logs = ("node", "logs", struck.node_id, "--severity", "warning", "--backlog", "50")
        async with site.faults.slow_disk(struck.number, stall_s=HICCUP_S):
            await struck.tells("leader is overloaded likely from slow disk", *logs)
        await site.wait_calm()

    site.run(scenario)


def test_half_of_all_frames_lost_at_the_leader_interrupt_nobody_for_long(site: Site) -> None:
    def bad_cable(number: int) -> AbstractAsyncContextManager[None]:
        return site.faults.bad_cable(number, loss=0.5, delay_s=0.0)

    site.run(lambda: survive(site, bad_cable))


def test_a_leader_that_hears_everything_a_second_late_hands_over(site: Site) -> None:
    def slow_cable(number: int) -> AbstractAsyncContextManager[None]:
        return site.faults.bad_cable(number, loss=0.0, delay_s=1.0)

    async def handed_over(struck: Struck) -> None:
        assert await site.leader() in struck.others

    site.run(lambda: survive(site, slow_cable, meanwhile=handed_over))


def test_after_everybody_was_alone_writes_resume_soon(site: Site) -> None:
    async def scenario() -> None:
        before = await site.wait_calm()
        ledger = Ledger(site, before)
        async with ledger.writing():
            await ledger.wait_writes(1, through=site.numbers)
            await site.cluster.split([[number] for number in site.numbers])
            await asyncio.sleep(ALONE_S)  # how long a network is cut is not to be waited for
            await site.cluster.split([site.numbers])
            await ledger.wait_writes(1, within_s=REUNION_S)
            await ledger.wait_writes(1, through=site.numbers, within_s=REUNION_S + RESUME_S)
        ledger.check(await site.wait_calm())

    site.run(scenario)
