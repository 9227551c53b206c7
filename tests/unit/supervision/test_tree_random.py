# SPDX-License-Identifier: Apache-2.0
"""Random trees of random runnables: the axioms hold whatever fails, and calm heals everything."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

import pytest

from metropolis.host.sim.clock import SimClock
from metropolis.sim import Trace, note, simulate
from metropolis.supervision import Context, LogTree, Runnable, State, Supervisor

SEEDS = range(16)
CALM_AFTER_S = 120.0  # from then on nobody fails
END_S = 400.0  # longer than any back-off after that
DEPTH_MAX = 4
PROMPT_S = 2.0  # the slowest clean-up of a random runnable


@dataclass
class Plan:
    """A place in a random tree."""

    dn: str
    groups: list[dict[str, "Plan"]] = field(default_factory=list)

    def everywhere(self) -> Iterator["Plan"]:
        yield self
        for group in self.groups:
            for plan in group.values():
                yield from plan.everywhere()


@dataclass(eq=False)
class Life:
    """One incarnation of a runnable."""

    dn: str
    start_s: float
    end_s: float | None = None
    ending: str = ""  # failed, cancelled or done


def plan_tree(rng: Random, dn: str = "root", depth: int = 0) -> Plan:
    plan = Plan(dn)
    if depth == DEPTH_MAX:
        return plan
    number = 0
    for _ in range(rng.choice([0, 1, 1, 2, 3]) if depth else 2):
        group: dict[str, Plan] = {}
        for _ in range(rng.choice([1, 1, 2, 3])):
            group[f"c{number}"] = plan_tree(rng, f"{dn}.c{number}", depth + 1)
            number += 1
        plan.groups.append(group)
    return plan


class World:
    """Runs one plan and checks what may be checked at once."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.plan = plan_tree(self.rng)
        self.lives: list[Life] = []
        self.running: dict[str, Life] = {}
        self.broken: list[str] = []  # axioms; an assertion would only fail the runnable

    def runnable(self, plan: Plan) -> Runnable:
        async def live(ctx: Context) -> None:
            life = self.begin(ctx.dn)
            try:
                await self.act(ctx, plan)
                life.ending = "done"
            except asyncio.CancelledError:
                if self.rng.random() < 0.3:
                    await asyncio.sleep(self.rng.uniform(0, PROMPT_S))
                if self.rng.random() < 0.15:
                    life.ending = "failed"
                    raise OSError("while stopping") from None
                life.ending = "cancelled"
                raise
            except OSError:
                life.ending = "failed"
                raise
            finally:
                life.end_s = asyncio.get_running_loop().time()
                del self.running[ctx.dn]
                note(f"{ctx.dn} {life.ending}")

        return live

    def begin(self, dn: str) -> Life:
        below = [other for other in self.running if other.startswith(f"{dn}.") or other == dn]
        if below:
            self.broken.append(f"{dn} starts while {below} still run")
        above = dn.rpartition(".")[0]
        while above:
            last = next(life for life in reversed(self.lives) if life.dn == above)
            if above not in self.running and last.ending != "done":
                self.broken.append(f"{dn} starts without {above}")
            above = above.rpartition(".")[0]
        life = Life(dn, asyncio.get_running_loop().time())
        self.lives.append(life)
        self.running[dn] = life
        note(f"{dn} starts")
        return life

    async def act(self, ctx: Context, plan: Plan) -> None:
        for group in plan.groups:
            ctx.run_group({name: self.runnable(child) for name, child in group.items()})
            if self.rng.random() < 0.2:
                await asyncio.sleep(self.rng.uniform(0, 1))
        is_calm = asyncio.get_running_loop().time() > CALM_AFTER_S
        fate = "steady" if is_calm else self.rng.choice(["early", "late", "late", "done", "steady"])
        if fate == "early":
            raise OSError("before being healthy")
        ctx.healthy()
        if fate == "done":
            ctx.done()
            await asyncio.sleep(self.rng.uniform(0, 5))
            return
        if fate == "late":
            await asyncio.sleep(self.rng.uniform(0, 30))
            raise OSError("after being healthy")
        await asyncio.sleep(max(0.0, CALM_AFTER_S - asyncio.get_running_loop().time()))
        await ctx.wait_cancelled()


def run(seed: int) -> tuple[World, dict[str, State], str]:
    world, trace = World(seed), Trace()

    async def scenario() -> dict[str, State]:
        clock = SimClock()
        log_tree = LogTree(clock=clock)
        root = world.runnable(world.plan)
        tree = Supervisor(root, log_tree=log_tree, clock=clock, rng=Random(seed))
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(tree.run())
            await asyncio.sleep(END_S)
            states = tree.states()
            for dn, status in states.items():
                parent = dn.rpartition(".")[0]
                births = [i for i, life in enumerate(world.lives) if life.dn == parent]
                mine = [x for x in world.lives[births[-1] if births else 0 :] if x.dn == dn]
                assert status.restarts >= len(mine) - 1, "a start that was not counted"
                assert (dn in world.running) == (status.state is State.HEALTHY)
            running.cancel()
        assert not world.running
        assert not world.broken
        return {dn: status.state for dn, status in states.items()}

    return world, simulate(scenario, seed=seed, trace=trace), trace.hexdigest()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_tree_keeps_the_axioms_and_recovers(seed: int) -> None:
    world, states, _ = run(seed)
    assert list(states.values()).count(State.DEAD) == 0
    assert set(states.values()) <= {State.HEALTHY, State.DONE}
    assert sorted(states) == sorted(plan.dn for plan in world.plan.everywhere())
    for plan in world.plan.everywhere():
        for group in plan.groups:
            check_group(world, sorted(child.dn for child in group.values()))


def check_group(world: World, dns: list[str]) -> None:
    """A failure ends every sibling that ran; whoever failed waits before it starts again."""
    lives = [life for life in world.lives if life.dn in dns]
    for failed in (life for life in lives if life.ending == "failed"):
        assert failed.end_s is not None
        for mate in lives:
            if mate.dn != failed.dn and mate.start_s < failed.end_s:
                assert mate.end_s is not None, f"{mate} outlives {failed}"
                assert mate.end_s <= failed.end_s + PROMPT_S, f"{mate} outlives {failed}"
        parent = failed.dn.rpartition(".")[0]
        later = world.lives[world.lives.index(failed) + 1 :]
        again = next((life for life in later if life.dn in (failed.dn, parent)), None)
        if again is not None and again.dn == failed.dn:  # not because the parent started again
            assert again.start_s - failed.end_s >= 0.25, f"{failed} did not wait"


def test_the_random_trees_reach_what_they_should() -> None:
    worlds = [run(seed)[0] for seed in range(5)]
    endings = {life.ending for world in worlds for life in world.lives}
    assert endings == {"failed", "cancelled", "done"}
    assert max(len(list(world.plan.everywhere())) for world in worlds) > 20


def test_one_seed_gives_one_history() -> None:
    assert run(7)[2] == run(7)[2]
    assert run(7)[2] != run(8)[2]
