# SPDX-License-Identifier: Apache-2.0
"""What a size reservation promises, and how much of it is used."""

from collections import Counter
from dataclasses import dataclass

from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.model.reservation import Reservation


def validate(reservation: Reservation) -> None:
    """Judge a reservation by itself.

    Raises:
        InvalidArgumentError: which field is wrong, and why.
    """
    if reservation.amount <= 0:
        raise InvalidArgumentError(
            f"amount: {reservation.amount} is not more than 0",
            remedy="Reserve at least one machine, or delete the reservation.",
        )
    if not reservation.partition_ids:
        raise InvalidArgumentError(
            "partitionids: at least one is needed", remedy="Name the partitions."
        )
    for partition, count in Counter(reservation.partition_ids).items():
        if count > 1:
            raise InvalidArgumentError(
                f"partitionids: {partition!r} is there {count} times",
                remedy="Name each partition once.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """How much of what is reserved in a partition is in use."""

    reserved: int
    used: int

    @property
    def remaining(self) -> int:
        """What is kept back."""
        return self.reserved - self.used


def use_of(reserved: int, allocated: int) -> Use:
    """Say how much is used when the project has so many machines of the size in the partition."""
    return Use(reserved=reserved, used=min(reserved, allocated))
