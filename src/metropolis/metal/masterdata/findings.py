# SPDX-License-Identifier: Apache-2.0
"""Filters and pages: everything that is given must hold, ordered by id."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from metropolis.metal.masterdata.model import (
    Project,
    ProjectMember,
    Tenant,
    TenantMember,
    annotation_facet,
)
from metropolis.metal.store import Kind, Reader, Scalar, Stored

MasterT = TypeVar("MasterT", Tenant, Project, TenantMember, ProjectMember)

PAGE_COUNT = 100  # entities of a page whose size nobody named


@dataclass(frozen=True, slots=True, kw_only=True)
class Paging:
    """Which part of what was found is wanted; pages count from 0."""

    page: int = 0
    count: int = PAGE_COUNT


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What an entity must be; None and empty mean anything.

    Attributes:
        facets: By facet.
        annotations: That it has, with these values.
        labels: That it has, all of them.
    """

    id: str | None = None
    facets: Mapping[str, Scalar | None] = field(default_factory=dict[str, Scalar | None])
    annotations: Mapping[str, str] = field(default_factory=dict[str, str])
    labels: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[MasterT]):
    """A part of what was found.

    Attributes:
        next_page: When this one is full; there may be nothing in it.
    """

    entities: list[Stored[MasterT]]
    next_page: int | None = None


async def find(
    reader: Reader, kind: Kind[MasterT], wanted: Filter, paging: Paging | None = None
) -> Page[MasterT]:
    """Find entities: all of them without paging, else a page."""
    found = [each for each in await _candidates(reader, kind, wanted) if _fits(each, wanted)]
    if paging is None:
        return Page(entities=found)
    count = paging.count or PAGE_COUNT
    part = found[paging.page * count :][:count]
    return Page(entities=part, next_page=paging.page + 1 if len(part) == count else None)


async def _candidates(reader: Reader, kind: Kind[MasterT], wanted: Filter) -> list[Stored[MasterT]]:
    """Read what one value of each facet leaves."""
    where: dict[str, Scalar] = {
        name: value for name, value in wanted.facets.items() if value is not None
    }
    for name, value in wanted.annotations.items():
        where["annotation"] = annotation_facet(name, value)
    for label in wanted.labels:
        where["label"] = label
    if wanted.id is None:
        return await reader.find(kind, where)
    one = await reader.lookup(kind, wanted.id)
    if one is None or not where:
        return [] if one is None else [one]
    return [each for each in await reader.find(kind, where) if each.id == wanted.id]


def _fits(found: Stored[MasterT], wanted: Filter) -> bool:
    meta = found.value.meta
    return wanted.annotations.items() <= meta.annotations.items() and set(wanted.labels) <= set(
        meta.labels
    )
