# SPDX-License-Identifier: Apache-2.0
"""Tables of sizes, images, layouts, partitions, firmware. Pure."""

from collections.abc import Callable, Sequence
from typing import Final

from metropolis.ctl.metal.cells import (
    Json,
    Table,
    View,
    at,
    byte_count,
    entries,
    expiry,
    fields,
    listed,
    number,
    text,
)

_BAR: Final = "|"


def sizes(items: Sequence[Json], _view: View) -> Table:
    """Sizes with what hardware must have."""
    return Table(
        headers=(
            *("ID", "Name", "Description", "CPU Range", "Memory Range"),
            *("Storage Range", "GPU Range"),
        ),
        rows=[
            (
                text(each, "id"),
                text(each, "name"),
                text(each, "description"),
                _ranges(each, "cores", str),
                _ranges(each, "memory", byte_count),
                _ranges(each, "storage", byte_count),
                _ranges(each, "gpu", str),
            )
            for each in items
        ],
    )


def constraints(items: Sequence[Json], _view: View) -> Table:
    """Constraints of a size, one per line."""
    return Table(
        headers=("Type", "Min", "Max", "Identifier"),
        rows=[
            (
                text(each, "type"),
                text(each, "min"),
                text(each, "max"),
                text(each, "identifier"),
            )
            for each in items
        ],
    )


def _ranges(size: Json, kind: str, shown: Callable[[int], str]) -> str:
    parts: list[str] = []
    for each in entries(size, "constraints"):
        if each.get("type") != kind:
            continue
        low, high = number(each, "min"), number(each, "max")
        bounds = shown(low) if low == high else f"{shown(low)} - {shown(high)}"
        identifier = each.get("identifier")
        parts.append(f"{bounds} {identifier}" if identifier else bounds)
    return ", ".join(parts)


def size_image_constraints(items: Sequence[Json], _view: View) -> Table:
    """What images sizes want."""
    return Table(
        headers=("ID", "Name", "Description", "Image", "Constraint"),
        rows=[
            (
                text(each, "id"),
                text(each, "name"),
                text(each, "description"),
                image,
                str(wanted),
            )
            for each in items
            for image, wanted in fields(each, "constraints.images").items()
        ],
    )


def reservations(items: Sequence[Json], _view: View) -> Table:
    """Machines that are kept for projects."""
    return Table(
        headers=("ID", "Size", "Project", "Partitions", "Description", "Amount"),
        rows=[
            (
                text(each, "id"),
                text(each, "sizeid"),
                text(each, "projectid"),
                listed(at(each, "partitionids")),
                text(each, "description"),
                text(each, "amount"),
            )
            for each in items
        ],
    )


def reservation_usage(items: Sequence[Json], _view: View) -> Table:
    """How much of what is kept for projects they use."""
    return Table(
        headers=("ID", "Size", "Project", "Partition", "Description", "Used/Amount"),
        rows=[
            (
                text(each, "id"),
                text(each, "sizeid"),
                text(each, "projectid"),
                text(each, "partitionid"),
                text(each, "description"),
                f"{text(each, 'usedamount')}/{text(each, 'amount')}",
            )
            for each in items
        ],
    )


def images(items: Sequence[Json], view: View) -> Table:
    """Images with how long they last."""
    return Table(
        headers=("ID", "Name", "Description", "Features", "Expiration", "Status", "UsedBy"),
        rows=[
            (
                text(each, "id"),
                text(each, "name"),
                text(each, "description"),
                listed(at(each, "features")),
                expiry(at(each, "expirationDate"), view.now),
                text(each, "classification"),
                "" if at(each, "usedby") is None else str(len(at(each, "usedby"))),
            )
            for each in items
        ],
    )


def layouts(items: Sequence[Json], _view: View) -> Table:
    """Filesystem layouts with what they are for."""
    return Table(
        headers=("ID", "Description", "Filesystems", "Sizes", "Images"),
        rows=[
            (
                text(each, "id"),
                text(each, "description"),
                ", ".join(
                    f"{text(fs, 'path') or '-'} {text(fs, 'device')} {text(fs, 'format')}"
                    for fs in entries(each, "filesystems")
                ),
                listed(at(each, "constraints.sizes")),
                ", ".join(
                    f"{name} {wanted}"
                    for name, wanted in fields(each, "constraints.images").items()
                ),
            )
            for each in items
        ],
    )


def partitions(items: Sequence[Json], _view: View) -> Table:
    """Partitions, one per line."""
    return Table(
        headers=("ID", "Name", "Description"),
        rows=[(text(each, "id"), text(each, "name"), text(each, "description")) for each in items],
    )


def capacity(items: Sequence[Json], view: View) -> Table:
    """What partitions have of each size, with a sum when there is more than one line."""
    counted = ["allocated", "free", "unavailable"]
    headers = ["Partition", "Size", "Allocated", "Free", "Unavailable", "Reservations", _BAR]
    headers += ["Total", _BAR, "Faulty"]
    extra = ["phoned_home", "waiting", "other"] if view.is_wide else []
    headers += ["Phoned Home", "Waiting", "Other"] if view.is_wide else []
    lines = [(text(each, "id"), server) for each in items for server in entries(each, "servers")]

    def row(partition: str, size: str, count: Callable[[str], int]) -> list[str]:
        reserved = f"{count('usedreservations')}/{count('reservations')}"
        return [
            *(partition, size, *(str(count(name)) for name in counted)),
            *(reserved if count("reservations") else "0", _BAR, str(count("total"))),
            *(_BAR, str(count("faulty"))),
            *(str(count(name)) for name in extra),
        ]

    def counts_of(servers: Sequence[Json]) -> Callable[[str], int]:
        return lambda name: sum(number(each, name) for each in servers)

    rows = [
        row(partition, text(server, "size"), counts_of([server])) for partition, server in lines
    ]
    if len(rows) > 1:
        rows.append(row("Total", "", counts_of([server for _, server in lines])))
    return Table(headers=headers, rows=rows)


def firmwares(items: Sequence[Json], _view: View) -> Table:
    """Firmware that was uploaded; items are of kind, vendor, board and revision."""
    return Table(
        headers=("Kind", "Vendor", "Board", "Revision"),
        rows=[
            (text(each, "kind"), text(each, "vendor"), text(each, "board"), text(each, "revision"))
            for each in items
        ],
    )
