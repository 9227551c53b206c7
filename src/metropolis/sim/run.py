# SPDX-License-Identifier: Apache-2.0
"""Runs the life of one cluster from one seed, and says what happened."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from metropolis.base.errors import leaves
from metropolis.sim.life import CALM_S, ENROLMENT_S, FOUNDING_S, ClusterLife
from metropolis.sim.loop import Trace, simulate
from metropolis.sim.nemesis import HURRIED_S, PAUSE_S, Nemesis
from metropolis.sim.node_program import metropolis_node
from metropolis.sim.world import make_world

MINUTES: Final = 10.0
MACHINES: Final = 3
NOTES_SHOWN: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one seed did.

    Attributes:
        trace_hash: The same for the same seed and the same code, in every process.
        faults: Name of a fault -> how often it struck.
        changes: What the operator did to nodes, roles and settings -> how often.
        calls: Requests of the operator that were acknowledged; `refusals` those that failed.
        failure: What broke, with the seed in it; None if all was well in the end.
        last_notes: The end of the story, for a failure.
    """

    seed: int
    virtual_s: float
    steps: int
    trace_hash: str
    faults: Mapping[str, int] = field(default_factory=dict[str, int])
    changes: Mapping[str, int] = field(default_factory=dict[str, int])
    calls: int = 0
    refusals: int = 0
    failure: str | None = None
    last_notes: Sequence[str] = ()


def run_seed(
    seed: int,
    *,
    minutes: float = MINUTES,
    machines: int = MACHINES,
    only: Sequence[str] = (),
) -> Report:
    """Run the life of a cluster.

    Args:
        minutes: Virtual time during which things break.
        machines: How many nodes there are to be; one more machine is never approved.
        only: Names of faults, see `metropolis.sim.nemesis`; all by default.
    """
    trace = Trace()
    lives: list[tuple[ClusterLife, Nemesis]] = []

    async def scenario() -> None:
        async with make_world(
            seed=seed, machine_count=machines + 1, program=metropolis_node
        ) as world:
            nemesis = Nemesis(world, only=only, pause_s=world.rng.choice([PAUSE_S, HURRIED_S]))
            lives.append((ClusterLife(world, nemesis), nemesis))
            await lives[0][0].run(minutes * 60)

    failure = None
    try:
        limit_s = FOUNDING_S + 3 * ENROLMENT_S + minutes * 60 + CALM_S + 600
        simulate(scenario, seed=seed, trace=trace, limit_s=limit_s)
    except Exception as error:  # noqa: BLE001  # whatever it is, it is what this seed found
        failure = "\n".join(f"{type(leaf).__name__}: {leaf}" for leaf in leaves(error))
    return Report(
        seed=seed,
        virtual_s=trace.virtual_s,
        steps=trace.steps,
        trace_hash=trace.hexdigest(),
        faults={name: count for _, each in lives for name, count in each.happened.items()},
        changes={name: n for life, _ in lives for name, n in life.changes.happened.items()},
        calls=sum(life.ledger.calls for life, _ in lives),
        refusals=sum(life.ledger.refusals for life, _ in lives),
        failure=failure,
        last_notes=_last_notes(trace),
    )


def format_report(report: Report) -> str:
    """Say it in a few lines; a failure with the end of its story."""
    faults = ", ".join(f"{count}x {name}" for name, count in report.faults.items() if count)
    changes = ", ".join(f"{count}x {name}" for name, count in report.changes.items())
    verdict = "FAILED" if report.failure else "ok"
    time = f"{report.virtual_s:.0f} s of virtual time in {report.steps} steps"
    lines = [
        f"seed {report.seed}: {verdict}, {time}",
        f"  trace {report.trace_hash}",
        f"  faults: {faults or 'none'}",
        f"  changes: {changes or 'none'}",
        f"  operator: {report.calls} requests acknowledged, {report.refusals} failed",
    ]
    if report.failure is not None:
        lines += ["", *report.last_notes, "", report.failure]
        lines += ["", f"Replay: metropolis sim --seed {report.seed}"]
    return "\n".join(lines)


def _last_notes(trace: Trace) -> list[str]:
    notes = [*trace.notes][-NOTES_SHOWN:]
    return [f"{now_s:10.3f}  {text}" for now_s, text in notes]
