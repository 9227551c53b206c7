# SPDX-License-Identifier: Apache-2.0
"""Nodes come back at other addresses: each stays the node it was, and the cluster follows."""

import asyncio
from collections.abc import Iterator

import pytest

from e2e.cluster.ledger import Ledger
from e2e.cluster.site import Site, launched_site

COUNT = 3
FIRST_NEW_HOST = 40
FIRST_HOST_AFTER_ALL = 60
MET_S = 25.0  # a call that began before the introduction takes its 10 s

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Three nodes, all members of the consensus."""
    with launched_site(tmp_path_factory.mktemp("addresses"), count=COUNT) as made:
        yield made


def new_address(number: int, first: int = FIRST_NEW_HOST) -> str:
    return f"10.1.0.{first + number}"


async def move(site: Site, number: int) -> None:
    """Restart one node at another address, and wait until the cluster has taken it in."""
    before = await site.nodes()
    await site.cluster.power(number, "off")
    await site.cluster.readdress(number, new_address(number))
    await site.cluster.power(number, "on")
    after = await site.wait_calm(restarted={number: before[number]})
    assert after[number].status.external_address == new_address(number)
    assert after[number].id == before[number].id


def test_every_node_gets_another_address_while_clients_write(site: Site) -> None:
    async def scenario() -> None:
        before = await site.nodes()
        ledger = Ledger(site, before)
        leader = await site.leader()
        async with ledger.writing():
            for number in [*(each for each in site.numbers if each != leader), leader]:
                await move(site, number)
                await ledger.wait_writes(1)
        # From here on only the new addresses are known.
        after = await site.wait_calm()
        ledger.check(after)
        assert {number: node.id for number, node in after.items()} == {
            number: node.id for number, node in before.items()
        }
        assert {number: node.status.external_address for number, node in after.items()} == {
            number: new_address(number) for number in site.numbers
        }
        for number in site.numbers:  # each of them alone leads a newcomer to the leader
            listed = site.metroctl("node", "list", endpoints=[number])
            assert listed.status == 0, listed.err
            assert all(new_address(each) in listed.out for each in site.numbers)
        # They find each other by names alone: with one node lost, the other two go on.
        later = Ledger(site, after)
        await site.cluster.power(await site.leader(), "kill")
        async with later.writing():
            await later.wait_writes(1)
        later.check(await site.nodes())

    site.run(scenario)


def test_all_nodes_that_moved_at_once_find_each_other_once_they_are_introduced(site: Site) -> None:
    async def scenario() -> None:
        for number, machine in enumerate(await site.cluster.status()):
            if machine.power == "off":  # another test has left it so
                await site.cluster.power(number, "on")
        before = await site.wait_calm()
        ledger = Ledger(site, before)
        async with ledger.writing():
            await ledger.wait_writes(5)
        for number in site.numbers:
            await site.cluster.power(number, "off")
        moved = [new_address(number, FIRST_HOST_AFTER_ALL) for number in site.numbers]
        for number, address in enumerate(moved):
            await site.cluster.readdress(number, address)
        for number in site.numbers:
            await site.cluster.power(number, "on")
        introduced = None

        async def problem() -> str | None:
            """The machines have to boot first."""
            nonlocal introduced
            introduced = await asyncio.to_thread(site.metroctl, "cluster", "introduce", *moved)
            return None if introduced.err.count("knows where") == len(moved) else introduced.err

        await site.eventually("introductions", problem)
        async with ledger.writing():
            await ledger.wait_writes(1, through=site.numbers, within_s=MET_S)
        after = await site.wait_calm(restarted=before)
        assert {number: node.id for number, node in after.items()} == {
            number: node.id for number, node in before.items()
        }
        ledger.check(after)
        # It lasts: from here on they find each other without help.
        for number in site.numbers:
            await site.cluster.power(number, "kill")
        for number in site.numbers:
            await site.cluster.power(number, "on")
        ledger.check(await site.wait_calm(restarted=after))

    site.run(scenario)
