# SPDX-License-Identifier: Apache-2.0
"""Whole worlds from one seed: an event loop in virtual time, and what runs on it.

Refuses real I/O, threads and real time: whatever escapes the simulation fails loudly. A seed
names one run: the same decisions, the same interleaving, the same trace hash in every process.

    loop        the seeded event loop: `simulate(scenario, seed=...)`, `note(text)`, `Trace`

      seed ---> ready tasks, sorted by age, then shuffled ---> one batch ---> after-batch checks
                      ^                                                            |
                      +------- nothing ready: jump to the next timer <-------------+
"""

from metropolis.sim.loop import Trace, note, simulate

__all__ = ["Trace", "note", "simulate"]
