# SPDX-License-Identifier: Apache-2.0
"""The same machines, of which only that is read by which they are counted.

Most of a stored machine is its hardware: to leave that out takes a sixth of the time, which counts
where all machines are looked at.
"""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct, field

from metropolis.metal.model.machine import MACHINES, MachineRole, MachineState, is_candidate
from metropolis.metal.store import Kind, Scalar


class HasAsn(Protocol):
    """A network of a machine."""

    @property
    def asn(self) -> int: ...


class CountableAllocation(Protocol):
    """Whose a machine is."""

    @property
    def project_id(self) -> str: ...
    @property
    def role(self) -> MachineRole: ...
    @property
    def networks(self) -> Sequence[HasAsn]: ...


class CountableMachine(Protocol):
    """What a machine is counted by, and judged by where all are."""

    @property
    def id(self) -> str: ...
    @property
    def partition_id(self) -> str: ...
    @property
    def size_id(self) -> str: ...
    @property
    def allocation(self) -> CountableAllocation | None: ...
    @property
    def candidate(self) -> bool: ...


class CountedNetwork(Struct, frozen=True, kw_only=True):
    """See `MachineNetwork`."""

    asn: int = 0


class CountedAllocation(Struct, frozen=True, kw_only=True):
    """See `Allocation`."""

    project_id: str = field(name="project")
    role: MachineRole
    networks: tuple[CountedNetwork, ...]


class CountedMachine(Struct, frozen=True, kw_only=True):
    """See `Machine`."""

    id: str
    partition_id: str = field(name="partitionid")
    size_id: str = field(name="sizeid")
    waiting: bool
    state: MachineState
    allocation: CountedAllocation | None = None

    @property
    def candidate(self) -> bool:
        """Whether it may be allocated to somebody who does not care which one it is."""
        return is_candidate(self.waiting, self.allocation, self.state)


def _only_read(_machine: CountedMachine) -> Sequence[Scalar]:
    raise AssertionError("machines are written whole")


COUNTED_MACHINES = Kind(
    name=MACHINES.name, type=CountedMachine, facets=dict.fromkeys(MACHINES.facets, _only_read)
)
