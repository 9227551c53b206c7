# SPDX-License-Identifier: Apache-2.0
"""Nodes that are killed at every step of founding and joining a cluster come through alone."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from e2e.cluster import fragile_node
from e2e.cluster.site import Site, unlaunched_site
from metropolis.api.enrolment_pb2 import EnrolmentRecord
from metropolis.base.errors import FailedPreconditionError
from metropolis.lab.model import address_of
from metropolis.node.enrolment.lifecycle import FLOWS, Flow
from metropolis.node.storage import (
    CA_CERTIFICATE,
    ENROLMENT_RECORD,
    ETCD,
    LOCAL_ROLES,
    NODE_CERTIFICATE,
    NODE_KEY,
    SEALED_CONFIGURATION,
)

FOUNDER, NEWCOMER, STURDY = range(3)
LIFE_S = 200.0
LOOK_S = 0.02
LEARNS = "Waiting for the promotion of this learner"
VOTES = "votes and answers"


def expected_crashes(flow: Flow) -> set[str]:
    """Where a machine must have been killed, at least."""
    steps = [EnrolmentRecord.Step.Name(step) for step in FLOWS[flow][:-1]]
    record = ENROLMENT_RECORD.path
    places = {f"{when} writing {record} {step}" for when in ("before", "after") for step in steps}
    places |= {f"{when} removing {record}" for when in ("before", "after")}
    places |= {
        f"after writing {each.path}" for each in (CA_CERTIFICATE, NODE_CERTIFICATE, NODE_KEY)
    }
    places |= {
        "after making data",
        f"after writing {SEALED_CONFIGURATION.path} with the CA",
        f"after writing {LOCAL_ROLES.path} of a member",
        "after writing data/etcd/peer_pki/cert-key.pem",
    }
    return places


@pytest.mark.timeout(LIFE_S + 20)
def test_nodes_killed_at_every_step_found_and_join_a_cluster_without_help(tmp_path: Path) -> None:
    fragile = ",".join(address_of(number) for number in (FOUNDER, NEWCOMER))
    program = (sys.executable, fragile_node.__file__, fragile)
    with unlaunched_site(tmp_path, count=3, program=program) as site:

        async def scenario() -> None:
            await site.launch().prepare()
            site.cluster.start()
            async with hurried(site):
                await asyncio.gather(
                    launched(site), killed_while_joining_the_consensus(site, STURDY)
                )
            found = await site.wait_calm()
            assert sorted(found) == [0, 1, 2]
            assert len({node.pubkey for node in found.values()}) == 3

        site.run(scenario, limit_s=LIFE_S)
        crashes = [read_crashes(site, number) for number in site.numbers]
        assert crashes[FOUNDER] >= expected_crashes(EnrolmentRecord.FLOW_BOOTSTRAP)
        assert crashes[NEWCOMER] >= expected_crashes(EnrolmentRecord.FLOW_REGISTER)
        assert not crashes[STURDY]


async def launched(site: Site) -> None:
    """Launch, and run the launch again whenever it gives up on machines that only crash."""
    while True:
        try:
            await site.launch().run()
        except FailedPreconditionError as error:
            if "again and again" not in str(error):
                raise
        else:
            return


async def killed_while_joining_the_consensus(site: Site, number: int) -> None:
    """Kill a machine when etcd begins its log there, when it learns, and when it votes."""
    wal = site.cluster.directory.storage(number) / ETCD.path / "data" / "member" / "wal"

    async def begins_its_log() -> str | None:
        return None if wal.exists() else f"there is no {wal}"

    async def learns() -> str | None:
        # A busy machine may look at etcd for the first time when it was promoted already.
        printed = site.printed(number)
        return None if LEARNS in printed or VOTES in printed else "it does not learn"

    async def votes() -> str | None:
        return None if VOTES in site.printed(number) else "it does not vote"

    for problem in (begins_its_log, learns, votes):
        what = f"machine {number}: {problem.__name__}"
        await site.eventually(what, problem, within_s=LIFE_S, every_s=LOOK_S)
        site.kill(number)


def read_crashes(site: Site, number: int) -> set[str]:
    path = site.cluster.directory.storage(number) / fragile_node.CRASHES
    return set(path.read_text().splitlines()) if path.exists() else set()


@asynccontextmanager
async def hurried(site: Site) -> AsyncIterator[None]:
    """Switch machines on at once when they have crashed, however often that was."""

    async def hurry() -> None:
        while True:
            for machine in await site.cluster.status():
                if machine.power == "on" and not machine.is_running:
                    await site.cluster.power(machine.number, "on")
            await asyncio.sleep(LOOK_S)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(hurry())
        yield
        task.cancel()
