# SPDX-License-Identifier: Apache-2.0
"""What a client got when it asked with an idempotency key."""

from msgspec import Struct

from metropolis.metal.store import Kind


class RememberedAllocation(Struct, frozen=True, kw_only=True):
    """The machine that was allocated, for as long as it is; under a hash of project and key."""

    machine_id: str
    allocation_uuid: str


REMEMBERED_ALLOCATIONS = Kind(
    name="remembered-allocation",
    type=RememberedAllocation,
    facets={"machine": lambda each: (each.machine_id,)},
)
