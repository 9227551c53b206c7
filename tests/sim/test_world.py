# SPDX-License-Identifier: Apache-2.0
"""A world of small nodes: a consensus member, an election, and a leader that counts."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import pytest

from metropolis.api.common_pb2 import NodeRoles
from metropolis.base.errors import MetropolisError
from metropolis.base.ids import NodeId
from metropolis.consensus.election import Election, Leading, fence
from metropolis.consensus.member.start import peer_url
from metropolis.consensus.member.status import ConsensusStatus
from metropolis.consensus.store import Put, Store
from metropolis.host.sim.entropy import SimEntropy
from metropolis.node.intent import ConsensusIntent
from metropolis.pki.keys import generate_key
from metropolis.sim import Trace, simulate
from metropolis.sim.invariants import InvariantViolated, OnlyTheLeaderWrites, single_leader
from metropolis.sim.nemesis import Nemesis
from metropolis.sim.world import Boot, World, make_world
from metropolis.supervision import Context, Supervisor, Value

COUNTER = b"counter"
KEY = generate_key(SimEntropy(1))
NAMES = ["m1", "m2", "m3"]


@dataclass
class Ledger:
    """What the small nodes told the world."""

    acknowledged: int = 0
    claims: dict[str, Callable[[], bool]] = field(default_factory=dict)
    ignores_fence: bool = False


def node_id(name: str) -> NodeId:
    return NodeId(f"metropolis-{name}")


def small_node(boot: Boot, ledger: Ledger) -> Supervisor:
    status: Value[ConsensusStatus | None] = Value(None)
    intent = ConsensusIntent(
        node_id=node_id(boot.name),
        founds=boot.name == NAMES[0],
        role=NodeRoles.ConsensusMember(),
        key=KEY,
    )

    async def elect(ctx: Context) -> None:
        current = await status.wait_for(lambda value: value is not None)
        assert current is not None
        election = Election(current.store, prefix=b"leader/", node_id=boot.name)
        ledger.claims[boot.name] = lambda: isinstance(election.state.current, Leading)
        ctx.run_group({"contend": partial(_contend, election), "lead": partial(lead, election)})
        ctx.healthy()
        try:
            await status.wait_for(lambda value: value is None)
            raise MetropolisError("the member is gone")
        finally:
            ledger.claims.pop(boot.name, None)

    async def lead(election: Election, ctx: Context) -> None:
        ctx.healthy()
        while True:
            await asyncio.sleep(0.5)
            current = status.current
            leading = election.state.current
            if current is None or not isinstance(leading, Leading):
                continue
            try:
                await invite(current)
                await count(current.store, leading)
            except MetropolisError as error:
                ctx.log.warning("%s", error)

    async def invite(current: ConsensusStatus) -> None:
        members = await current.membership.members()
        known = {url for member in members for url in member.peer_urls}
        for name in NAMES:
            if peer_url(node_id(name)) not in known:
                await current.membership.add_learner(peer_url(node_id(name)))

    async def count(store: Store, leading: Leading) -> None:
        found = await store.get(COUNTER)
        value = 1 + (int(found.value) if found else 0)
        guard = [] if ledger.ignores_fence else [fence(leading)]
        written = await store.transact(guard, [Put(COUNTER, b"%d" % value)])
        if written.succeeded:
            ledger.acknowledged = max(ledger.acknowledged, value)

    async def root(ctx: Context) -> None:
        ctx.run("consensus", boot.member(intent, status))
        ctx.run("elect", elect)
        ctx.healthy()
        await ctx.wait_cancelled()

    return Supervisor(
        root,
        log_tree=boot.log_tree,
        clock=boot.host.clock,
        rng=boot.host.entropy.jitter(),
    )


async def _contend(election: Election, ctx: Context) -> None:
    ctx.healthy()
    await election.run()


def watch_counter(world: World, ledger: Ledger) -> None:
    def check() -> str | None:
        found = world.consensus.cluster.keyspace.get(COUNTER)
        value = int(found.value) if found else 0
        if value < ledger.acknowledged:
            return f"{ledger.acknowledged} was acknowledged, the store holds {value}"
        return None

    world.invariants.add("no acknowledged count is lost", check)
    writes = OnlyTheLeaderWrites(world.consensus, election=b"leader/", guarded=[COUNTER])
    world.invariants.add("only the leader writes", writes.check)


async def wait_converged(world: World, ledger: Ledger) -> None:
    """Wait until three members vote and the counter grows under one leader."""
    for _ in range(600):
        before = ledger.acknowledged
        await asyncio.sleep(1)
        voters = world.consensus.cluster.roster.voters()
        if ledger.acknowledged > before and len(voters) == len(NAMES):
            return
    raise AssertionError(f"no convergence: {ledger}, {[*world.consensus.cluster.roster]}")


def run(
    seed: int,
    *,
    faults_s: float,
    ledger: Ledger | None = None,
    trace: Trace | None = None,
    only: Sequence[str] = (),
) -> dict[str, int]:
    ledger = ledger or Ledger()

    async def scenario() -> dict[str, int]:
        async with make_world(
            seed=seed, machine_count=len(NAMES), program=partial(small_node, ledger=ledger)
        ) as world:
            watch_counter(world, ledger)
            if only:
                world.invariants.add("at most one claims to lead", single_leader(ledger.claims))
            nemesis = Nemesis(world, only=only)
            for machine in world.machines:
                machine.boot()
            await wait_converged(world, ledger)
            await nemesis.run(faults_s)
            await wait_converged(world, ledger)
            return nemesis.happened

    return simulate(scenario, seed=seed, trace=trace)


@pytest.mark.parametrize("seed", range(6))
def test_small_nodes_count_on_through_every_fault(seed: int) -> None:
    run(seed, faults_s=400)


@pytest.mark.parametrize("seed", range(6))
def test_at_most_one_claims_to_lead_while_leases_keep_their_time(seed: int) -> None:
    run(
        seed, faults_s=400, only=["slow store", "no store leader", "lost replies", "crash", "split"]
    )


def test_a_leader_that_forgets_its_fence_is_caught() -> None:
    with pytest.raises(InvariantViolated, match="only the leader writes"):
        run(1, faults_s=100, ledger=Ledger(ignores_fence=True))


def test_one_seed_is_one_run() -> None:
    digests = []
    for _ in range(2):
        trace = Trace()
        run(7, faults_s=150, trace=trace)
        digests.append(trace.hexdigest())
    assert digests[0] == digests[1]


def test_a_violation_names_what_broke_and_how_to_see_it_again() -> None:
    async def scenario() -> None:
        async with make_world(
            seed=42, machine_count=3, program=partial(small_node, ledger=Ledger())
        ) as world:
            world.invariants.add("the world is young", _young)
            world.machines[0].boot()
            await asyncio.sleep(100)

    def _young() -> str | None:
        now_s = asyncio.get_running_loop().time()
        return f"it is {now_s:.0f} s old" if now_s > 50 else None

    with pytest.raises(InvariantViolated, match=r"the world is young: it is 5\d s old") as caught:
        simulate(scenario, seed=42)
    assert "metropolis sim --seed 42" in str(caught.value)


def test_a_runnable_that_dies_of_a_bug_ends_the_run() -> None:
    def buggy(boot: Boot) -> Supervisor:
        async def root(ctx: Context) -> None:
            ctx.healthy()
            await asyncio.sleep(5)
            raise KeyError("nothing")

        return Supervisor(
            root, log_tree=boot.log_tree, clock=boot.host.clock, rng=boot.host.entropy.jitter()
        )

    async def scenario() -> None:
        async with make_world(seed=1, machine_count=1, program=buggy) as world:
            world.machines[0].boot()
            await asyncio.sleep(100)

    with pytest.raises(InvariantViolated, match=r"nothing fails but with operating.*KeyError"):
        simulate(scenario, seed=1)


def test_a_machine_that_lost_its_power_changes_nothing_more() -> None:
    ledger = Ledger()

    async def scenario() -> None:
        async with make_world(
            seed=1, machine_count=3, program=partial(small_node, ledger=ledger)
        ) as world:
            for machine in world.machines:
                machine.boot()
            await wait_converged(world, ledger)
            for machine in world.machines:
                await machine.crash()
            revision = world.consensus.cluster.keyspace.revision
            await asyncio.sleep(100)
            assert world.consensus.cluster.keyspace.revision <= revision + 3  # leases end
            counted = ledger.acknowledged
            for machine in world.machines:
                machine.boot()
            await wait_converged(world, ledger)
            assert ledger.acknowledged > counted

    simulate(scenario, seed=1)
