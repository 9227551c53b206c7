# SPDX-License-Identifier: Apache-2.0
"""Tables of networks, addresses and switches. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from metropolis.ctl.metal.cells import (
    NANOSECOND_S,
    Json,
    Table,
    View,
    age,
    at,
    entries,
    fields,
    listed,
    number,
    parsed_time,
    text,
    yes,
)

FULL: Final = 0.9  # of addresses in use, from where on people should care
FILLING: Final = 0.7
SYNC_LATE_S: Final = 60.0  # switches ask every ten seconds
_SYMBOLS: Final[Mapping[str, str]] = {
    "full": "🔴",
    "filling": "🟡",
    "ok": "🟢",
    "error": "🔴",
    "stale": "🟡",
    "never": "⚪",
    "replace": "🔁",
}


def networks(items: Sequence[Json], view: View) -> Table:
    """Networks, children below their parents."""
    return Table(
        headers=(
            *("ID", "Name", "Project", "Partition", "Nat", "Shared", ""),
            *("Prefixes", "IP Usage"),
        ),
        rows=[
            (
                branch + text(each, "id"),
                text(each, "name"),
                text(each, "projectid"),
                text(each, "partitionid"),
                yes(at(each, "nat")),
                yes(at(each, "shared")),
                _symbol(_fullness(each), view),
                listed(at(each, "prefixes")),
                _usage_text(each),
            )
            for branch, each in _as_tree(items)
        ],
    )


def _as_tree(items: Sequence[Json]) -> Iterator[tuple[str, Json]]:
    """Yield what stands before an id, and the network; order is kept among siblings."""
    known = {text(each, "id") for each in items}
    children: dict[str, list[Json]] = {}
    for each in items:
        parent = text(each, "parentnetworkid")
        children.setdefault(parent if parent in known else "", []).append(each)
    for root in children.get("", []):
        yield "", root
        below = children.get(text(root, "id"), [])
        for each in below:
            yield "└─ " if each is below[-1] else "├─ ", each


def _fullness(network: Json) -> str:
    available = number(network, "usage.available_ips")
    share = number(network, "usage.used_ips") / available if available else 0
    prefixes = number(network, "usage.available_prefixes")
    if prefixes and text(network, "networktype").startswith("super"):
        share = max(share, number(network, "usage.used_prefixes") / prefixes)
    return "full" if share >= FULL else "filling" if share >= FILLING else ""


def _usage_text(network: Json) -> str:
    usages = [fields(network, f"consumption.{family}") for family in ("ipv4", "ipv6")]
    parts = [
        f"{number(usage, 'used_ips')}/{number(usage, 'available_ips')}" for usage in usages if usage
    ]
    return " ".join(parts)


def addresses(items: Sequence[Json], _view: View) -> Table:
    """Addresses, one per line."""
    return Table(
        headers=("IP", "Description", "Name", "Network", "Project", "Type", "Tags"),
        rows=[
            (
                text(each, "ipaddress"),
                text(each, "description"),
                text(each, "name"),
                text(each, "networkid"),
                text(each, "projectid"),
                text(each, "type"),
                listed(at(each, "tags")),
            )
            for each in items
        ],
    )


def address_issues(items: Sequence[Json], _view: View) -> Table:
    """Addresses that nobody seems to need; each has `issue`."""
    return Table(
        headers=("IP", "Network", "Project", "Name", "Tags", "Issue"),
        rows=[
            (
                text(each, "ipaddress"),
                text(each, "networkid"),
                text(each, "projectid"),
                text(each, "name"),
                listed(at(each, "tags")),
                text(each, "issue"),
            )
            for each in items
        ],
    )


def switches(items: Sequence[Json], view: View) -> Table:
    """Switches, one per line."""
    headers = ["ID", "Partition", "Rack", "OS", "Status", "Last Sync"]
    if view.is_wide:
        headers += ["Metalcore", "IP", "Mode", "Sync Duration", "Last Error"]
    rows: list[list[str]] = []
    for each in items:
        row = [
            text(each, "id"),
            text(each, "partition.id"),
            text(each, "rack_id"),
            f"{text(each, 'os.vendor')}/{text(each, 'os.version')}".strip("/"),
            _symbol(switch_status(each, view), view),
            _ago(at(each, "last_sync.time"), view),
        ]
        if view.is_wide:
            row += [
                text(each, "os.metal_core_version"),
                text(each, "management_ip"),
                text(each, "mode"),
                _sync_duration(each),
                _last_error(each, view),
            ]
        rows.append(row)
    return Table(headers=headers, rows=rows)


def switch_status(switch: Json, view: View) -> str:
    """Return how a switch does: `ok`, `stale`, `error`, `never`, `replace`."""
    if text(switch, "mode") == "replace":
        return "replace"
    synced = parsed_time(at(switch, "last_sync.time"))
    failed = parsed_time(at(switch, "last_sync_error.time"))
    if failed is not None and (synced is None or failed > synced):
        return "error"
    if synced is None:
        return "never"
    return "stale" if (view.now - synced).total_seconds() > SYNC_LATE_S else "ok"


def _sync_duration(switch: Json) -> str:
    duration_ns = at(switch, "last_sync.duration")
    return f"{duration_ns * NANOSECOND_S * 1e3:.0f} ms" if duration_ns else ""


def _last_error(switch: Json, view: View) -> str:
    found = text(switch, "last_sync_error.error")
    return f"{_ago(at(switch, 'last_sync_error.time'), view)}: {found}" if found else ""


def _ago(value: object, view: View) -> str:
    found = age(value, view.now)
    return f"{found} ago" if found else ""


def switch_ports(items: Sequence[Json], _view: View) -> Table:
    """Ports of switches that machines are at."""
    rows: list[Sequence[str]] = []
    for each in items:
        nics = {text(nic, "name"): nic for nic in entries(each, "nics")}
        for connection in entries(each, "connections"):
            nic = fields(connection, "nic")
            known = nics.get(text(nic, "name"), nic)
            rows.append(
                (
                    text(each, "partition.id"),
                    text(each, "rack_id"),
                    text(each, "id"),
                    text(nic, "name"),
                    text(connection, "machine_id"),
                    listed(at(known, "filter.vnis")),
                    listed(at(known, "filter.cidrs")),
                )
            )
    return Table(
        headers=("Partition", "Rack", "Switch", "Port", "Machine", "VNI-Filter", "CIDR-Filter"),
        rows=rows,
    )


def connected_machines(items: Sequence[Json], view: View) -> Table:
    """Switches with the machines at them below; a connection's machine is at `machine`."""
    rows: list[Sequence[str]] = []
    for each in items:
        partition, rack = text(each, "partition.id"), text(each, "rack_id")
        status = _symbol(switch_status(each, view), view) if view.has_symbols else ""
        rows.append((f"{text(each, 'id')} {status}".rstrip(), "", "", partition, rack, "", "", ""))
        connections = entries(each, "connections")
        for connection in connections:
            machine = fields(connection, "machine")
            branch = "└─ " if connection is connections[-1] else "├─ "
            rows.append(
                (
                    branch + text(connection, "machine_id"),
                    text(connection, "nic.name"),
                    text(connection, "nic.identifier"),
                    text(machine, "partition.id"),
                    text(machine, "rackid"),
                    text(machine, "size.id"),
                    text(machine, "ipmi.fru.product_serial"),
                    text(machine, "ipmi.fru.chassis_part_serial"),
                )
            )
    return Table(
        headers=(
            *("ID", "NIC Name", "Identifier", "Partition", "Rack", "Size"),
            *("Product Serial", "Chassis Serial"),
        ),
        rows=rows,
    )


def _symbol(word: str, view: View) -> str:
    return _SYMBOLS.get(word, word) if view.has_symbols else word
