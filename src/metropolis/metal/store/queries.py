# SPDX-License-Identifier: Apache-2.0
"""The statements that look entities up, in either dialect."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Literal

from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.store.documents import facet_value, is_storable
from metropolis.metal.store.interface import Kind, Scalar

Dialect = Literal["sqlite", "postgres"]
Where = Mapping[str, Scalar | Sequence[Scalar]]

ROW: Final = "e.id, e.revision, e.created, e.changed, e.doc"
_PLACE: Final = re.compile(r"\$(\d+)")


@lru_cache(maxsize=2048)
def sqlite_statement(sql: str) -> str:
    """Return a statement with SQLite's `?1` for `$1`. Its texts may hold no `$1` of their own."""
    return _PLACE.sub(r"?\1", sql)


def selection(
    dialect: Dialect,
    kind: Kind[Any],
    columns: str,
    where: Where | None,
    *,
    after: str | None = None,
    limit: int | None = None,
    ordered: bool = True,
    beside: Kind[Any] | None = None,
) -> tuple[str, list[Any]]:
    """Return the statement that selects entities by facets, and its arguments.

    Args:
        columns: Of `e`, and of `b` where there is a kind beside.
        beside: With each entity comes the one of this kind that has the same id, or nothing.

    Raises:
        InvalidArgumentError: `after` is no id.
    """
    args: list[Any] = [kind.name]

    def place(value: object) -> str:
        args.append(value)
        return f"${len(args)}"

    joined = ""
    if beside is not None:
        joined = f"LEFT JOIN entity b ON b.kind = {place(beside.name)} AND b.id = e.id"
    parts = [f"SELECT {columns} FROM entity e {joined} WHERE e.kind = $1"]  # noqa: S608  # ours

    if after is not None:
        if not is_storable(after):
            raise InvalidArgumentError(
                "the page begins after an id that no entity can have",
                remedy="Give the id that the page before ended with.",
            )
        parts.append(f"AND e.id > {place(after)}")
    for name, wanted in (where or {}).items():
        assert name in kind.facets, f"{kind.name} has no facet {name}"
        named = f"f.kind = $1 AND f.name = {place(name)}"
        if isinstance(wanted, str | int):
            value = f"= {place(facet_value(wanted))}"
        else:
            values = [facet_value(each) for each in wanted]
            value = (
                f"= ANY({place(values)}::text[])"
                if dialect == "postgres"
                else f"IN (SELECT value FROM json_each({place(json.dumps(values))}))"  # noqa: S608  # places
            )
        parts.append(
            f"AND e.id IN (SELECT f.id FROM facet f WHERE {named} AND f.value {value})"  # noqa: S608  # places
        )
    if ordered:
        parts.append("ORDER BY e.id")
    if limit is not None:
        parts.append(f"LIMIT {place(limit)}")
    return " ".join(parts), args
