# SPDX-License-Identifier: Apache-2.0
"""The consensus grows from one member to five and shrinks again, while clients write."""

from collections.abc import Iterator, Sequence

import pytest

from e2e.cluster.ledger import Ledger
from e2e.cluster.site import CALL_TIMEOUT_S, Site, launched_site
from metropolis.ctl import nodes

MEMBER = ("ConsensusMember", "KubernetesController")
COUNT = 5
LADDER_S = 150.0

pytestmark = pytest.mark.timeout(200)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Five nodes."""
    with launched_site(tmp_path_factory.mktemp("ladder"), count=COUNT) as made:
        yield made


async def climb(site: Site, members: Sequence[str]) -> None:
    """Let exactly these nodes be members, one after the other, as an operator does."""
    async with site.operator() as connection:

        async def problem() -> str | None:
            """A change that would risk the majority is put off, and asked for again."""
            found = await nodes.list_nodes(connection.channel, timeout_s=CALL_TIMEOUT_S)
            holders = [node.id for node in found if node.roles.HasField("consensus_member")]
            gains = [each for each in members if each not in holders]
            losses = [each for each in holders if each not in members]
            for each in gains[:1] or losses[:1]:
                add, remove = (MEMBER[:1], ()) if gains else ((), MEMBER)
                await nodes.update_roles(
                    connection.channel, each, add=add, remove=remove, timeout_s=CALL_TIMEOUT_S
                )
            return f"{len(holders)} members" if gains or losses else None

        await site.eventually(f"{len(members)} members", problem)
    await site.wait_calm(count=COUNT, voters=len(members))


def test_no_acknowledged_write_is_lost_from_one_member_to_five_and_back(site: Site) -> None:
    async def scenario() -> None:
        before = await site.nodes()
        ids = [before[number].id for number in site.numbers]
        await climb(site, ids[:1])
        ledger = Ledger(site, before)
        async with ledger.writing(through=[0]):
            # Down again with other nodes than those that began: the founder leaves, too.
            for members in (ids[:3], ids, ids[2:], ids[4:]):
                await climb(site, members)
                await ledger.wait_writes(1)
        after = await site.nodes()
        ledger.check(after)
        holders = [node.id for node in after.values() if node.roles.HasField("consensus_member")]
        assert holders == ids[4:]

    site.run(scenario, limit_s=LADDER_S)
