# SPDX-License-Identifier: Apache-2.0
"""Sizes, what images they want, and how many are kept for whom."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from metropolis.base.errors import InvalidArgumentError
from metropolis.ctl.metal.cells import Json
from metropolis.ctl.metal.entity import Entity
from metropolis.ctl.metal.flags import number_flag, pairs_flag, text_flag, texts_flag
from metropolis.ctl.metal.tables import inventory

_TYPES: Final = ("cores", "memory", "storage", "gpu")
_NAMED: Final = frozenset({"name", "description"})


def _add_constraint(body: Json, given: Mapping[str, Any]) -> None:
    """Flags can say one constraint; files any number."""
    constraint = {name: given.get(f"{name}_value") for name in ("type", "min", "max")}
    stated = {name: value for name, value in constraint.items() if value is not None}
    if stated and "type" not in stated:
        raise InvalidArgumentError(
            "--min and --max are of no type", remedy="Add --type cores, memory, storage or gpu."
        )
    body["constraints"] = [stated] if stated else []


SIZE: Final = Entity(
    words="size",
    noun="size",
    tabulate=inventory.sizes,
    create_flags=(
        text_flag("id", "Id of the size.", "id", is_required=True),
        text_flag("name", "Name.", "name"),
        text_flag("description", "Description.", "description"),
        number_flag("min", "Least of what --type counts: cores, bytes, GPUs."),
        number_flag("max", "Most of what --type counts: cores, bytes, GPUs."),
        text_flag("type", "Kind of constraint: cores, memory, storage or gpu.", choices=_TYPES),
    ),
    create_fields=_NAMED | {"constraints", "labels"},
    update_fields=_NAMED | {"constraints", "labels"},
    finish_create=_add_constraint,
    sort_keys={"id": "id", "name": "name", "description": "description"},
)

CONSTRAINT: Final = Entity(
    words="size imageconstraint",
    noun="size image constraint",
    tabulate=inventory.size_image_constraints,
    create_fields=_NAMED | {"constraints"},
    update_fields=_NAMED | {"constraints"},
    sort_keys={"id": "id", "name": "name", "description": "description"},
)

_PROJECT: Final = text_flag("project", "For whom.", "projectid", completes="project")
_SIZE: Final = text_flag("size", "Size.", "sizeid", completes="size")

RESERVATION: Final = Entity(
    words="size reservation",
    noun="size reservation",
    tabulate=inventory.reservations,
    find="/v1/size/reservations/find",
    list_flags=(
        text_flag("id", "Id of the reservation.", "id", completes="size reservation"),
        text_flag("partition", "Partition.", "partitionid", completes="partition"),
        _PROJECT,
        _SIZE,
    ),
    create_flags=(
        number_flag("amount", "How many machines.", "amount", is_required=True),
        text_flag("description", "Description.", "description"),
        text_flag("id", "Id; one is made when none is given.", "id"),
        pairs_flag("labels", "Labels.", "labels"),
        texts_flag("partitions", "Where.", "partitionids", completes="partition", is_required=True),
        replace(_PROJECT, is_required=True),
        replace(_SIZE, is_required=True),
    ),
    update_flags=(
        number_flag("amount", "How many machines.", "amount"),
        text_flag("description", "Description.", "description"),
        pairs_flag("labels", "Labels; they replace those that there are.", "labels"),
        texts_flag("partitions", "Where.", "partitionids", completes="partition"),
    ),
    create_fields=_NAMED | {"amount", "labels", "partitionids", "projectid", "sizeid"},
    update_fields=_NAMED | {"amount", "labels", "partitionids"},
    sort_keys={
        "id": "id",
        "amount": "amount",
        "description": "description",
        "project": "projectid",
        "size": "sizeid",
    },
)
