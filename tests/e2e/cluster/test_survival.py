# SPDX-License-Identifier: Apache-2.0
"""What three nodes survive without help: killed leaders, cut cables, restarts in every order."""

import asyncio
import json
import subprocess
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from e2e.cluster.ledger import Ledger
from e2e.cluster.site import METROCTL, Site, launched_site
from metropolis.base.errors import MetropolisError
from metropolis.ctl import nodes
from unit.ctl.dashboard.program import on_terminal

FAILOVER_S = 12.0

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Three voting members; every test leaves them HEALTHY."""
    with launched_site(tmp_path_factory.mktemp("survival")) as made:
        yield made


def test_a_killed_leader_is_replaced_in_time_and_comes_back_by_itself(site: Site) -> None:
    async def scenario() -> None:
        before = await site.wait_calm()
        leader = await site.leader()
        others = [number for number in site.numbers if number != leader]
        target = before[others[0]].id
        loop = asyncio.get_running_loop()
        async with site.operator() as connection:
            await nodes.list_nodes(connection.channel)
            site.kill(leader)
            killed_s = loop.time()

            async def problem() -> None:
                await nodes.update_labels(
                    connection.channel, target, upsert={"failover": "done"}, timeout_s=2
                )

            await site.eventually("a write", problem, within_s=FAILOVER_S)
        assert loop.time() - killed_s <= FAILOVER_S
        views = [await site.nodes(number) for number in others]
        assert [sorted(view) for view in views] == [[0, 1, 2]] * 2
        labels = {pair.key: pair.value for pair in views[1][others[0]].labels.pairs}
        assert labels["failover"] == "done"
        after = await site.wait_calm(restarted={leader: before[leader]})
        assert {number: node.id for number, node in after.items()} == {
            number: node.id for number, node in before.items()
        }
        assert await site.boots(leader) == 2
        boot_ids = [(before[each].status.boot_id, after[each].status.boot_id) for each in (0, 1, 2)]
        assert [old == new for old, new in boot_ids] == [each != leader for each in (0, 1, 2)]

    site.run(scenario)


def test_a_cut_off_leader_serves_nobody_while_the_others_go_on(site: Site) -> None:
    async def scenario() -> None:
        before = await site.wait_calm()
        ledger = Ledger(site, before)
        leader = await site.leader()
        others = [number for number in site.numbers if number != leader]
        async with ledger.writing():
            await ledger.wait_writes(3)
            await site.cluster.split([[leader], others])
            await ledger.wait_writes(1, through=others)
            await asyncio.gather(
                _refuses(site, leader, before[others[0]].id),
                asyncio.to_thread(_metroctl_says_try_again, site, leader),
            )
            await site.cluster.split([site.numbers])
            await ledger.wait_writes(1, through=site.numbers)
        after = await site.wait_calm()
        assert {node.id for node in after.values()} == {node.id for node in before.values()}
        ledger.check(after)
        for number in site.numbers:
            ledger.check(await site.nodes(number))

    site.run(scenario)


async def _refuses(site: Site, minority: int, node_id: str) -> None:
    """Nothing is read there, and nothing written: what it knows may be outdated."""
    async with site.node(minority) as channel:
        with pytest.raises(MetropolisError) as write:
            await nodes.update_labels(channel, node_id, upsert={"minority": "wrote"}, timeout_s=4)
        with pytest.raises(MetropolisError) as read:
            await nodes.list_nodes(channel, timeout_s=4)
    assert (write.value.code, read.value.code) == ("not-leader", "not-leader")


def _metroctl_says_try_again(site: Site, minority: int) -> None:
    for words in (["node", "list"], ["cluster", "get"]):
        done = site.metroctl("--timeout", "3", *words, endpoints=[minority])
        assert (done.status, done.out) == (2, ""), done
        assert "remedy: " in done.err


def test_a_leader_whose_cable_is_out_comes_back_when_it_is_in(site: Site) -> None:
    async def scenario() -> None:
        before = await site.wait_calm()
        ledger = Ledger(site, before)
        leader = await site.leader()
        others = [number for number in site.numbers if number != leader]
        await site.cluster.link(leader, "down")
        async with ledger.writing(through=others):
            await ledger.wait_writes(3)
        await site.cluster.link(leader, "up")
        after = await site.wait_calm()
        assert {node.id for node in after.values()} == {node.id for node in before.values()}
        ledger.check(after)

    site.run(scenario)


def test_programs_that_last_outlive_the_endpoint_that_they_began_with(
    site: Site, tmp_path: Path
) -> None:
    async def scenario() -> None:
        before = await site.wait_calm()
        leader = await site.leader()
        others = [number for number in site.numbers if number != leader]
        flags = site.flags(leader)
        log = tmp_path / "audit.jsonl"
        follow = [*flags, "audit", "list", "-f", "-o", "json", "--method", "labels"]
        with (
            on_terminal([*flags, "--timeout", "4", "dashboard", "-n", "0.5"]) as page,
            log.open("wb") as out,
            subprocess.Popen([METROCTL, *follow], stdout=out) as following,  # noqa: ASYNC220
        ):
            try:
                await asyncio.to_thread(page.wait_text, "3 of 3 healthy")
                await _label(site, before[leader].id, "first", others)
                await site.eventually("the first record", partial(_tells, log, "first"))
                await site.cluster.power(leader, "kill")
                await _label(site, before[leader].id, "second", others)
                await site.eventually("the second record", partial(_tells, log, "second"))
                await asyncio.to_thread(page.wait_text, "2 of 3 voting members")
                page.type("q")
                assert await asyncio.to_thread(page.wait_end) == 0
            finally:
                following.terminate()
        numbers = [json.loads(line)["sequence"] for line in log.read_text().splitlines()]
        assert numbers == sorted(set(numbers), key=int), "a record came twice, or too early"
        await site.cluster.power(leader, "on")
        await site.wait_calm(restarted={leader: before[leader]})

    site.run(scenario)


async def _label(site: Site, node_id: str, value: str, through: Sequence[int]) -> None:
    async with site.operator(*through) as connection:

        async def problem() -> None:
            await nodes.update_labels(connection.channel, node_id, upsert={"follow": value})

        await site.eventually("a write", problem)


async def _tells(log: Path, value: str) -> str | None:
    text = log.read_text()
    return None if f"follow={value}" in text else f"it says {text!r}"


def test_writes_go_on_while_every_node_restarts_one_by_one(site: Site) -> None:
    async def scenario() -> None:
        before = after = await site.wait_calm()
        ledger = Ledger(site, before)
        async with ledger.writing():
            for number in site.numbers:
                boots = await site.boots(number)
                await site.cluster.power(number, "off")
                others = [other for other in site.numbers if other != number]
                await ledger.wait_writes(1, through=others)
                await site.cluster.power(number, "on")
                after = await site.wait_calm(restarted={number: before[number]})
                assert await site.boots(number) == boots + 1
        assert {node.id for node in after.values()} == {node.id for node in before.values()}
        ledger.check(await site.nodes())

    site.run(scenario)


def test_after_all_nodes_were_killed_at_once_nothing_is_lost(site: Site) -> None:
    async def scenario() -> None:
        before = await site.wait_calm()
        ledger = Ledger(site, before)
        async with ledger.writing():
            await ledger.wait_writes(5)
            for number in site.numbers:
                site.kill(number)
            await ledger.wait_writes(1)
        after = await site.wait_calm(restarted=before)
        assert {number: node.id for number, node in after.items()} == {
            number: node.id for number, node in before.items()
        }
        ledger.check(after)

    site.run(scenario)
