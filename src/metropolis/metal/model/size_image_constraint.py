# SPDX-License-Identifier: Apache-2.0
"""Size-image constraints: which versions of an operating system run on a size."""

from msgspec import Struct, field

from metropolis.metal.store import Kind, Stored


class SizeImageConstraint(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A constraint as it is stored, under the id of its size.

    Attributes:
        images: Version constraint by operating system, `{"ubuntu": ">= 24.04.20250101"}`.
    """

    name: str = ""
    description: str = ""
    images: dict[str, str] = field(default_factory=dict[str, str])


SIZE_IMAGE_CONSTRAINTS = Kind(name="size-image-constraint", type=SizeImageConstraint)


class SizeImageConstraintBaseRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The images of a constraint, as a client states them."""

    images: dict[str, str] | None


class SizeImageConstraintCreateRequest(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """What `createSizeImageConstraint` takes."""

    id: str
    constraints: SizeImageConstraintBaseRequest | None = None
    name: str | None = None
    description: str | None = None


class SizeImageConstraintUpdateRequest(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """What `updateSizeImageConstraint` takes; what is absent stays as it is."""

    id: str
    constraints: SizeImageConstraintBaseRequest | None = None
    name: str | None = None
    description: str | None = None


class SizeImageConstraintTryRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `trySizeImageConstraint` takes."""

    image: str
    size: str


class SizeImageConstraintBase(Struct, frozen=True, kw_only=True):
    """The images of a constraint."""

    images: dict[str, str]


class SizeImageConstraintResponse(Struct, frozen=True, kw_only=True):
    """A size-image constraint on the wire."""

    id: str
    name: str
    description: str
    constraints: SizeImageConstraintBase

    @classmethod
    def of(cls, constraint: Stored[SizeImageConstraint]) -> "SizeImageConstraintResponse":
        """Show a stored constraint."""
        value = constraint.value
        return cls(
            id=constraint.id,
            name=value.name,
            description=value.description,
            constraints=SizeImageConstraintBase(images=value.images),
        )
