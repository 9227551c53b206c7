# SPDX-License-Identifier: Apache-2.0
"""A machine with a power switch."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Final, final

from metropolis.host import Host
from metropolis.host.sim.clock import SimClock
from metropolis.host.sim.directory import SimDirectory
from metropolis.host.sim.disk import SimDisk
from metropolis.host.sim.entropy import SimEntropy
from metropolis.host.sim.names import SimNames
from metropolis.host.sim.processes import Program, SimProcesses

_BOOT_ID_BYTES: Final = 16
_SEED_BITS: Final = 64


@final
class SimHost:
    """What stays when the power goes: disk, hardware clock, addresses. `boot` gives the rest.

    Attributes:
        disk: The storage; set its latency, capacity and defects here.
        clock: Steps and drifts here; it runs on through a crash, as a hardware clock does.
        boots: How many times it was started.
    """

    def __init__(
        self,
        name: str,
        *,
        rng: Random,
        addresses: Sequence[str],
        programs: Mapping[str, Program] | None = None,
    ) -> None:
        assert addresses, "a machine has an address"
        self.name = name
        self.addresses = tuple(addresses)
        self.clock = SimClock()
        self.disk = SimDisk(_fork(rng))
        self.boots = 0
        self._rng = _fork(rng)
        self._programs = dict(programs or {})
        self._running: tuple[SimProcesses, SimDisk] | None = None

    @property
    def has_power(self) -> bool:
        """Whether it was booted and not crashed since."""
        return self._running is not None

    def boot(self) -> Host:
        """Start the machine: a new boot id, an empty ephemeral directory, the storage as it was."""
        assert self._running is None, f"{self.name} runs already"
        self.boots += 1
        entropy = SimEntropy(self._rng.getrandbits(_SEED_BITS))
        processes = SimProcesses(self._programs)
        memory = SimDisk(_fork(self._rng))
        self._running = (processes, memory)
        return Host(
            clock=self.clock,
            entropy=entropy,
            storage=SimDirectory(self.disk, mount_point=f"/sim/{self.name}/storage"),
            ephemeral=SimDirectory(memory, mount_point=f"/sim/{self.name}/ephemeral"),
            processes=processes,
            names=SimNames(),
            addresses=self.addresses,
            boot_id=entropy.token_bytes(_BOOT_ID_BYTES),
        )

    def crash(self) -> None:
        """Cut the power. The last boot's Host is dead; stop the tasks that use it afterwards."""
        if self._running is None:
            return
        processes, memory = self._running
        self._running = None
        self.disk.crash()
        memory.crash()
        processes.crash()

    def restart(self) -> Host:
        """Cut the power if there is any, and boot."""
        self.crash()
        return self.boot()


def _fork(rng: Random) -> Random:
    """Give each part its own generator, so that one more choice here changes nothing there."""
    return Random(rng.getrandbits(_SEED_BITS))  # noqa: S311  # a seeded generator is the point
