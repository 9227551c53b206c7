# SPDX-License-Identifier: Apache-2.0
"""Tables of machines and firewalls. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from metropolis.ctl.metal.cells import (
    Json,
    Table,
    View,
    age,
    at,
    entries,
    listed,
    moment,
    parsed_time,
    text,
)

# What is the matter with a machine: the picture, the word where pictures cannot be shown.
_SYMBOLS: Final[Mapping[str, str]] = {
    "dead": "💀",
    "unknown": "❓",
    "locked": "🔒",
    "reserved": "🚧",
    "failed-reclaim": "🚑",
    "last-error": "❗",
    "crash-loop": "⭕",
    "vpn": "🛡",
}


def machines(items: Sequence[Json], view: View) -> Table:
    """Machines, one per line."""
    return _wide(items, view) if view.is_wide else _plain(items, view)


def _plain(items: Sequence[Json], view: View) -> Table:
    return Table(
        headers=(
            *("ID", "", "Last Event", "When", "Age", "Hostname", "Project"),
            *("Size", "Image", "Partition", "Rack"),
        ),
        rows=[
            (
                text(each, "id"),
                marks(each, view),
                last_event(each),
                age(at(each, "events.last_event_time"), view.now),
                age(at(each, "allocation.created"), view.now),
                text(each, "allocation.hostname"),
                text(each, "allocation.project"),
                text(each, "size.id"),
                text(each, "allocation.image.id"),
                text(each, "partition.id"),
                text(each, "rackid"),
            )
            for each in items
        ],
        lit=_lit(items),
    )


def _wide(items: Sequence[Json], view: View) -> Table:
    return Table(
        headers=(
            *("ID", "Last Event", "When", "Age", "Description", "Name", "Hostname", "Project"),
            *("Ips", "Size", "Image", "Partition", "Rack", "Started", "Tags", "Lock/Reserve"),
        ),
        rows=[
            (
                text(each, "id"),
                last_event(each),
                age(at(each, "events.last_event_time"), view.now),
                age(at(each, "allocation.created"), view.now),
                text(each, "allocation.description") or text(each, "description"),
                text(each, "allocation.name") or text(each, "name"),
                text(each, "allocation.hostname"),
                text(each, "allocation.project"),
                listed(_addresses(each)),
                text(each, "size.id"),
                text(each, "allocation.image.id"),
                text(each, "partition.id"),
                text(each, "rackid"),
                moment(at(each, "allocation.created")),
                listed(at(each, "tags")),
                lock_text(each),
            )
            for each in items
        ],
        lit=_lit(items),
    )


def ipmi(items: Sequence[Json], view: View) -> Table:
    """Machines as their BMCs report them."""
    return Table(
        headers=(
            *("ID", "", "Power", "IP", "Mac", "Board Part Number", "Bios", "BMC"),
            *("Size", "Partition", "Rack", "Updated"),
        ),
        rows=[
            (
                text(each, "id"),
                marks(each, view),
                power_text(each),
                text(each, "ipmi.address"),
                text(each, "ipmi.mac"),
                text(each, "ipmi.fru.board_part_number"),
                text(each, "bios.version"),
                text(each, "ipmi.bmcversion"),
                text(each, "size.id"),
                text(each, "partition.id"),
                text(each, "rackid"),
                age(at(each, "ipmi.last_updated"), view.now),
            )
            for each in items
        ],
        lit=_lit(items),
    )


def chassis(items: Sequence[Json], _view: View) -> Table:
    """Machines by the chassis that they are in."""
    return Table(
        headers=(
            *("Chassis Serial", "Chassis Part Number", "ID", "Product Serial"),
            *("Product Part Number", "Size", "Partition", "Rack"),
        ),
        rows=sorted(
            (
                text(each, "ipmi.fru.chassis_part_serial"),
                text(each, "ipmi.fru.chassis_part_number"),
                text(each, "id"),
                text(each, "ipmi.fru.product_serial"),
                text(each, "ipmi.fru.product_part_number"),
                text(each, "size.id"),
                text(each, "partition.id"),
                text(each, "rackid"),
            )
            for each in items
        ),
    )


def issues(items: Sequence[Json], view: View) -> Table:
    """Machines that something is wrong with; each has `issues_text`."""
    return Table(
        headers=("ID", "Power", "Allocated", "", "Lock Reason", "Last Event", "When", "Issues"),
        rows=[
            (
                text(each, "id"),
                power_text(each),
                "yes" if at(each, "allocation") else "no",
                marks(each, view),
                lock_text(each),
                last_event(each),
                age(at(each, "events.last_event_time"), view.now),
                text(each, "issues_text"),
            )
            for each in items
        ],
        lit=_lit(items),
    )


def issue_kinds(items: Sequence[Json], _view: View) -> Table:
    """What can be wrong with a machine."""
    return Table(
        headers=("ID", "Severity", "Description", "Reference"),
        rows=[
            (
                text(each, "id"),
                text(each, "severity"),
                text(each, "description"),
                text(each, "ref_url"),
            )
            for each in items
        ],
    )


def events(items: Sequence[Json], _view: View) -> Table:
    """Provisioning events, newest first."""
    return Table(
        headers=("Time", "Event", "Message"),
        rows=[
            (moment(at(each, "time")), text(each, "event"), text(each, "message")) for each in items
        ],
    )


def firewalls(items: Sequence[Json], view: View) -> Table:
    """Firewalls, one per line."""
    return Table(
        headers=("ID", "Age", "Hostname", "Project", "Networks", "Ips", "Partition"),
        rows=[
            (
                text(each, "id"),
                age(at(each, "allocation.created"), view.now),
                text(each, "allocation.hostname"),
                text(each, "allocation.project"),
                listed([text(net, "networkid") for net in entries(each, "allocation.networks")]),
                listed(_addresses(each)),
                text(each, "partition.id"),
            )
            for each in items
        ],
        lit=_lit(items),
    )


def obstacles(items: Sequence[Json], _view: View) -> Table:
    """Why machines are not what they should be."""
    return Table(
        headers=("Reason", "Remedy"),
        rows=[
            (text(obstacle, "reason"), text(obstacle, "remedy"))
            for each in items
            for obstacle in entries(each, "obstacles")
        ],
    )


def marks(machine: Json, view: View) -> str:
    """Return what is the matter with a machine, as pictures or words."""
    found = list(_matters(machine, view))
    return " ".join(_SYMBOLS[each] for each in found) if view.has_symbols else ",".join(found)


def _matters(machine: Json, view: View) -> Iterator[str]:
    liveliness = text(machine, "liveliness")
    if liveliness == "Dead":
        yield "dead"
    elif liveliness != "Alive":
        yield "unknown"
    state = text(machine, "state.value")
    if state in ("LOCKED", "RESERVED"):
        yield state.lower()
    if at(machine, "events.failed_machine_reclaim"):
        yield "failed-reclaim"
    error = parsed_time(at(machine, "events.last_error_event.time"))
    if error is not None and (view.now - error).total_seconds() <= view.error_threshold_s:
        yield "last-error"
    if at(machine, "events.crash_loop"):
        yield "crash-loop"
    if at(machine, "allocation.vpn.connected"):
        yield "vpn"


def last_event(machine: Json) -> str:
    """Return the name of the newest provisioning event."""
    log = entries(machine, "events.log")
    return text(log[0], "event") if log else ""


def lock_text(machine: Json) -> str:
    """Return why nobody else gets a machine."""
    state = text(machine, "state.value")
    return f"{state}: {text(machine, 'state.description')}".rstrip(": ") if state else ""


def power_text(machine: Json) -> str:
    """Return whether a machine is on and what it takes."""
    state = text(machine, "ipmi.powerstate")
    watts = at(machine, "ipmi.powermetric.averageconsumedwatts")
    return f"{state} {watts:.0f}W" if watts else state


def _addresses(machine: Json) -> list[str]:
    return [
        str(address)
        for network in entries(machine, "allocation.networks")
        for address in network.get("ips", ())
    ]


def _lit(items: Sequence[Json]) -> frozenset[str]:
    return frozenset(text(each, "id") for each in items if text(each, "ledstate.value") == "LED-ON")
