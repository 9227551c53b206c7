# SPDX-License-Identifier: Apache-2.0
"""Sorting entities as `--sort-by` says. Pure."""

from collections.abc import Callable, Mapping, Sequence

from metropolis.base.errors import InvalidArgumentError
from metropolis.ctl.metal.cells import Json, at
from metropolis.ctl.metal.diff import meant
from metropolis.ctl.metal.entity import Entity
from metropolis.ctl.metal.flags import split


def ordered(items: Sequence[Json], entity: Entity, given: Sequence[str]) -> list[Json]:
    """Sort entities by keys such as `name` or `age:desc`; by id when there are none.

    Raises:
        InvalidArgumentError: there is no such key.
    """
    return sorted_by(items, {"id": entity.key, **entity.sort_keys}, given or ("id",))


def sorted_by(items: Sequence[Json], keys: Mapping[str, str], given: Sequence[str]) -> list[Json]:
    """Sort objects by named keys; the first counts most.

    Args:
        keys: Dotted paths by name.
        given: Names, with commas, each with `:asc` or `:desc` behind it or not.

    Raises:
        InvalidArgumentError: there is no such key.
    """
    found = list(items)
    for each in reversed(split(given)):
        name, _, direction = each.partition(":")
        if name not in keys or direction not in ("", "asc", "desc"):
            raise InvalidArgumentError(
                f"{each[:64]!r} is nothing to sort by",
                remedy=f"Choose from {', '.join(sorted(keys))}, with :asc or :desc.",
            )
        found.sort(key=_sorting(keys[name]), reverse=direction == "desc")
    return found


def _sorting(path: str) -> Callable[[Json], tuple[int, float, str]]:
    return lambda each: _sortable(at(each, path))


def _sortable(value: object) -> tuple[int, float, str]:
    if value is None:
        return 2, 0.0, ""
    if isinstance(value, int | float):
        return 0, float(value), ""
    return 1, 0.0, str(meant(value))
