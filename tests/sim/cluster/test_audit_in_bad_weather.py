# SPDX-License-Identifier: Apache-2.0
"""Every acknowledged change has exactly one record, whatever happens to replies and leaders.

Two or three leaders believe to lead, replies are lost, and callers repeat what failed. What was
acknowledged is there with its record; what has a record is there; and the chain verifies.
"""

import asyncio
from collections import Counter
from contextlib import suppress
from random import Random

import pytest

from metropolis.api.audit_pb2 import OUTCOME_DONE, Head, Record
from metropolis.api.management_pb2 import (
    ApproveNodeRequest,
    DeleteNodeRequest,
    UpdateNodeLabelsRequest,
    UpdateNodeRolesRequest,
)
from metropolis.api.rpc_curator import Curator
from metropolis.api.rpc_management import Management
from metropolis.base.errors import PermissionDeniedError
from metropolis.cluster.leader import Leader
from metropolis.cluster.services.enrolment import commit_node, register_node
from metropolis.cluster.services.management import (
    approve_node,
    delete_node,
    update_node_labels,
    update_node_roles,
)
from metropolis.cluster.state import keys, records
from metropolis.cluster.state.audit import sequence_of
from metropolis.formats.audit.chain import decode
from metropolis.formats.audit.verification import verify
from metropolis.sim.loop import simulate
from sim.cluster.weather import Cabinet, Weather
from unit.cluster.harness import FIRST, OWNER, Bench, Machine, bench, commit_request, machine

MACHINES = [machine(number) for number in range(2, 6)]
RECORDS_MAX = 70  # so that checkpoints are written under fire, too


def shrink(leader: Leader) -> Leader:
    """Let a leader keep few records."""
    leader.store._records_max = RECORDS_MAX
    return leader


async def enrol(cabinet: Cabinet, made: Bench, one: Machine) -> None:
    """Take a machine to UP and give it a role; every step until it is acknowledged."""
    request = await cabinet.ask(lambda _: made.register_request(one))

    async def register(leader: Leader) -> None:
        with shrink(leader).auditor.calling(Curator.REGISTER_NODE, one.stranger, request):
            await register_node(leader, request, one.stranger)

    async def approve(leader: Leader) -> None:
        wanted = ApproveNodeRequest(pubkey=one.key)
        with shrink(leader).auditor.calling(Management.APPROVE_NODE, OWNER, wanted):
            await approve_node(leader, wanted, OWNER)

    async def commit(leader: Leader) -> None:
        wanted = commit_request(one)
        with shrink(leader).auditor.calling(Curator.COMMIT_NODE, one.stranger, wanted):
            await commit_node(leader, wanted, one.stranger)

    async def give_role(leader: Leader) -> None:
        wanted = UpdateNodeRolesRequest(id=one.node_id, kubernetes_worker=True)
        with shrink(leader).auditor.calling(Management.UPDATE_NODE_ROLES, OWNER, wanted):
            await update_node_roles(leader, wanted, OWNER)

    for step in (register, approve, commit, give_role):
        with suppress(PermissionDeniedError):
            await cabinet.ask(step)


async def label(cabinet: Cabinet, key: str, value: str = "set") -> None:
    """Set a label of the node on which everybody sets one."""
    request = UpdateNodeLabelsRequest(id=FIRST.node_id)
    request.upsert.add(key=key, value=value)

    async def attempt(leader: Leader) -> None:
        with shrink(leader).auditor.calling(Management.UPDATE_NODE_LABELS, OWNER, request):
            await update_node_labels(leader, request, OWNER)

    await cabinet.ask(attempt)


async def remove(cabinet: Cabinet, one: Machine) -> None:
    """Forget a node that is UP."""
    request = DeleteNodeRequest(
        id=one.node_id,
        safety_bypass_has_roles=DeleteNodeRequest.SafetyBypassHasRoles(),
        safety_bypass_not_decommissioned=DeleteNodeRequest.SafetyBypassNotDecommissioned(),
    )

    async def attempt(leader: Leader) -> None:
        if await leader.find(one.node_id) is None:
            return  # the reply of the deletion was lost
        with shrink(leader).auditor.calling(Management.DELETE_NODE, OWNER, request):
            await delete_node(leader, request, OWNER)

    await cabinet.ask(attempt)


async def grumble(cabinet: Cabinet) -> None:
    """Write refusals down meanwhile, as leaders do; they may be lost."""
    for _ in range(10):
        for leader in cabinet.leaders:
            leader.auditor.refused(Management.APPROVE_NODE, OWNER, PermissionDeniedError("no"))
            await shrink(leader).auditor.flush()
        await asyncio.sleep(0.3)


async def told(made: Bench) -> tuple[list[Record], Head]:
    """Read the log past every leader, and verify it."""
    items = (await made.store.range(keys.AUDIT_RECORDS)).items
    stored = [(sequence_of(item.key) or 0, item.value) for item in items]
    head = Head.FromString(await made.raw(keys.AUDIT_HEAD) or b"")
    assert verify(stored, end=head).broken is None
    assert len(stored) <= RECORDS_MAX
    return [decode(data) for _, data in stored], head


@pytest.mark.parametrize("seed", range(25))
def test_every_acknowledged_change_has_exactly_one_record(seed: int) -> None:
    async def scenario() -> None:
        async with bench(seed=seed) as made:
            weather = Weather(seed)
            made.cluster.faults = weather.faults()
            cabinet = Cabinet(made, seed)
            async with asyncio.TaskGroup() as group:
                group.create_task(cabinet.revolt(Random(seed), longest_s=1.5))
                group.create_task(grumble(cabinet))
                for one in MACHINES:
                    group.create_task(enrol(cabinet, made, one))
                for number in range(6):
                    group.create_task(label(cabinet, f"label-{number}"))
            await remove(cabinet, MACHINES[0])
            weather.is_calm = True
            await check(made)
            cabinet.close()

    simulate(scenario, seed=seed)


async def check(made: Bench) -> None:
    log, head = await told(made)
    assert head.first == 1, "nothing was dropped, so everything can be counted"
    done = Counter(
        (each.method, each.object, each.sentence) for each in log if each.outcome == OUTCOME_DONE
    )
    for one in MACHINES:
        node = one.node_id
        for method, sentence in (
            ("Curator.RegisterNode", "registered, waits for approval"),
            ("Management.ApproveNode", "approved: NEW => STANDBY"),
            ("Curator.CommitNode", "committed: STANDBY => UP"),
        ):
            assert done.pop((method, node, sentence)) == 1
    for number in range(6):
        key = ("Management.UpdateNodeLabels", FIRST.node_id, f"set label-{number}=set")
        assert done.pop(key) == 1
    assert done.pop(("Management.DeleteNode", MACHINES[0].node_id, "deleted when UP")) == 1
    assert len(done) == len(MACHINES)
    assert {(method, number) for (method, _, _), number in done.items()} == {
        ("Management.UpdateNodeRoles", 1)
    }
    left = {
        each.node_id for each in map(records.decode, (await made.store.range(keys.NODES)).items)
    }
    assert left == {FIRST.node_id, *(one.node_id for one in MACHINES[1:])}


@pytest.mark.parametrize("seed", range(25))
def test_a_log_that_is_shortened_under_fire_still_verifies(seed: int) -> None:
    async def scenario() -> None:
        async with bench(seed=seed) as made:
            weather = Weather(seed)
            made.cluster.faults = weather.faults()
            cabinet = Cabinet(made, seed)
            async with asyncio.TaskGroup() as group:
                group.create_task(cabinet.revolt(Random(seed), longest_s=2.5))
                for worker in range(4):
                    group.create_task(_relabel(cabinet, worker))
            weather.is_calm = True
            log, head = await told(made)
            assert head.sequence >= 160
            assert head.first > 1
            assert any(each.HasField("checkpoint") for each in log)
            cabinet.close()

    simulate(scenario, seed=seed)


async def _relabel(cabinet: Cabinet, worker: int) -> None:
    for number in range(40):
        await label(cabinet, f"worker-{worker}", f"{number}")
