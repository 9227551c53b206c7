# SPDX-License-Identifier: Apache-2.0
"""`metropolis sim`: whole clusters in one process, from seeds, in virtual time."""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Final, Protocol

import click

from metropolis.base.errors import InvalidArgumentError

# By name: the simulation stands above this room and builds its worlds from everything below it.
_SIMULATION: Final = "metropolis.sim.run"


class _Report(Protocol):
    """See `metropolis.sim.run.Report`."""

    seed: int
    virtual_s: float
    steps: int
    trace_hash: str
    faults: Mapping[str, int]
    calls: int
    refusals: int
    failure: str | None
    last_notes: Sequence[str]


@click.command("sim")
@click.option("--seed", type=click.IntRange(min=0), help="Replay this one seed.")
@click.option("--seeds", type=click.IntRange(min=1), help="Run this many seeds, from 0 on.")
@click.option("--minutes", type=click.FloatRange(min=0), help="Virtual time with faults.")
def sim(seed: int | None, seeds: int | None, minutes: float | None) -> int:
    """Run simulated clusters: crashes, splits, lost messages and full disks, all from a seed.

    The same seed gives the same trace hash in every process. Exit status 1 when an invariant broke.
    """
    if (seed is None) == (seeds is None):
        raise InvalidArgumentError(
            "give either --seed or --seeds", remedy="Try `metropolis sim --seeds 10`."
        )
    run_seed = import_module(_SIMULATION).run_seed
    limits = {} if minutes is None else {"minutes": minutes}
    chosen = range(seeds or 0) if seed is None else [seed]
    failures = 0
    for each in chosen:
        report: _Report = run_seed(each, **limits)
        failures += report.failure is not None
        _print(report)
    if len(chosen) > 1:
        print(f"{len(chosen) - failures} of {len(chosen)} seeds passed", file=sys.stderr)
    return 1 if failures else 0


def _print(report: _Report) -> None:
    faults = sum(report.faults.values())
    print(
        f"seed {report.seed}: {'FAILED' if report.failure else 'passed'}, "
        f"{report.virtual_s:.0f} s of virtual time, {report.steps} steps, {faults} faults, "
        f"{report.calls} calls, {report.refusals} refused, trace {report.trace_hash[:16]}",
        flush=True,
    )
    if report.failure:
        story = "\n".join(report.last_notes)
        print(f"{story}\n{report.failure}", file=sys.stderr)
        print(f"replay: metropolis sim --seed {report.seed}", file=sys.stderr)
