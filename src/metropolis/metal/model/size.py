# SPDX-License-Identifier: Apache-2.0
"""Sizes: what a machine's hardware must look like to be counted as one of a kind."""

from datetime import datetime
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct, field

from metropolis.metal.store import Kind, Stored

ConstraintType: TypeAlias = Literal["cores", "gpu", "memory", "storage"]
Amount: TypeAlias = Annotated[int, Meta(ge=0)]
AMOUNT_MAX = 2**64 - 1

UNKNOWN_SIZE = "unknown"  # of machines whose hardware matches no size, or several


class SizeConstraint(Struct, frozen=True, kw_only=True):
    """A range that one aspect of the hardware must lie in.

    Attributes:
        minimum: Cores, GPUs, or bytes of memory or storage; the range includes both ends.
        identifier: Shell pattern of CPU models, disk names or GPU models; empty matches all.
    """

    type: ConstraintType
    minimum: Amount = field(name="min", default=0)
    maximum: Amount = field(name="max", default=0)
    identifier: str = ""


class Size(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A size as it is stored."""

    name: str = ""
    description: str = ""
    constraints: tuple[SizeConstraint, ...] = ()
    labels: dict[str, str] = field(default_factory=dict[str, str])


SIZES = Kind(name="size", type=Size)


class SizeConstraintRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A constraint as a client states it."""

    type: ConstraintType
    minimum: Amount | None = field(name="min", default=None)
    maximum: Amount | None = field(name="max", default=None)
    identifier: str | None = None

    def stored(self) -> SizeConstraint:
        """Fill in what was left out."""
        return SizeConstraint(
            type=self.type,
            minimum=self.minimum or 0,
            maximum=self.maximum or 0,
            identifier=self.identifier or "",
        )


class SizeCreateRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `createSize` takes."""

    id: str
    constraints: tuple[SizeConstraintRequest, ...] | None
    name: str | None = None
    description: str | None = None
    labels: dict[str, str] | None = None


class SizeUpdateRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `updateSize` takes; what is absent stays as it is."""

    id: str
    constraints: tuple[SizeConstraintRequest, ...] | None = None
    name: str | None = None
    description: str | None = None
    labels: dict[str, str] | None = None


class SizeSuggestRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `suggest` takes."""

    machine_id: str = field(name="machineID")


class SizeResponse(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A size on the wire."""

    id: str
    name: str
    description: str
    constraints: tuple[SizeConstraint, ...]
    labels: dict[str, str]
    created: datetime | None = None
    changed: datetime | None = None

    @classmethod
    def of(cls, size: Stored[Size]) -> "SizeResponse":
        """Show a stored size."""
        value = size.value
        return cls(
            id=size.id,
            name=value.name,
            description=value.description,
            constraints=value.constraints,
            labels=value.labels,
            created=size.created,
            changed=size.changed,
        )


UNKNOWN_SIZE_RESPONSE = SizeResponse(
    id=UNKNOWN_SIZE, name=UNKNOWN_SIZE, description="", constraints=(), labels={}
)
