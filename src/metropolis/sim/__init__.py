# SPDX-License-Identifier: Apache-2.0
"""Whole worlds from one seed: an event loop in virtual time, and what runs on it.

Refuses real I/O, threads and real time: whatever escapes the simulation fails loudly. A seed
names one run: the same decisions, the same interleaving, the same trace hash in every process.

    loop          the seeded event loop: `simulate(scenario, seed=...)`, `note(text)`, `Trace`
    waiting       who waits, and where: the text of a deadlock
    world         machines with power switches, network and consensus; the program is an argument
    consensus     consensus members of simulated machines, over the model of the store
    nemesis       faults: crashes, splits, loss, store and lease trouble, clocks, disks
    invariants    what must be true after every step
    logs          follows the machines' logs, with an eye for bugs
    operator      the owner of a simulated cluster, who knows only its API
    node_program  the real node on a simulated machine
    life          a cluster founded, grown and used while things break, then calm
    run           `run_seed(seed)`: one life, one report; `metropolis sim --seed N`

      seed ---> ready tasks, sorted by age, then shuffled ---> one batch ---> after-batch checks
                      ^                                                            |
                      +------- nothing ready: jump to the next timer <-------------+
"""

from metropolis.sim.loop import Trace, note, simulate

__all__ = ["Trace", "note", "simulate"]
