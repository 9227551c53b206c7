# SPDX-License-Identifier: Apache-2.0
"""`metalctl machine issues`."""

from collections.abc import Sequence
from typing import Any, Final

import click

from metropolis.ctl.metal.cells import Json, text
from metropolis.ctl.metal.completions import complete_ids, complete_words
from metropolis.ctl.metal.entities import entity_of
from metropolis.ctl.metal.entities.machines import SEARCH_FLAGS, THRESHOLD
from metropolis.ctl.metal.flags import Kind, body_of, parse_duration, split
from metropolis.ctl.metal.options import MetalctlCommand, settings_of
from metropolis.ctl.metal.output import emit_list
from metropolis.ctl.metal.session import opened
from metropolis.ctl.metal.sorting import ordered, sorted_by
from metropolis.ctl.metal.tables import machines

NANOSECONDS: Final = 10**9
_SEVERITIES: Final = ("minor", "major", "critical")
_LISTS: Final = ("omit", "only")


def _find(**given: Any) -> None:  # noqa: ANN401  # of the flags
    settings = settings_of(click.get_current_context())
    search = body_of(SEARCH_FLAGS, given)
    if given.get("machine"):
        search["id"] = given["machine"]
    threshold_s = parse_duration(given[THRESHOLD.parameter])
    wanted = {**search, "last_error_threshold": int(threshold_s * NANOSECONDS)}
    wanted |= {name: split(given[name]) for name in _LISTS if given[name]}
    if given["severity"]:
        wanted["severity"] = given["severity"]
    with opened(settings) as client:
        found: list[Json] = client.call("POST", "/v1/machine/issues/evaluate", wanted) or []
        kinds: list[Json] = client.call("GET", "/v1/machine/issues")
        known: list[Json] = client.call("POST", "/v1/machine/ipmi/find", search) if found else []
    items = _joined(found, kinds, known)
    entity = entity_of("machine")
    emit_list(
        settings,
        ordered(items, entity, given["sort_by"]),
        machines.issues,
        error_threshold_s=threshold_s,
    )


def _joined(found: Sequence[Json], kinds: Sequence[Json], known: Sequence[Json]) -> list[Json]:
    """Put what is wrong with a machine beside what else is known of it."""
    descriptions = {text(kind, "id"): text(kind, "description") for kind in kinds}
    by_id = {text(machine, "id"): machine for machine in known}
    items: list[Json] = []
    for each in found:
        key = text(each, "machineid")
        issues: list[str] = each.get("issues") or []
        shown = [f"{descriptions.get(issue, issue)} ({issue})" for issue in issues]
        machine = by_id.get(key, {"id": key})
        items.append({**machine, "issues": issues, "issues_text": "; ".join(shown)})
    return items


machine_issues: Final = MetalctlCommand(
    "find",
    callback=_find,
    help="List machines that something is wrong with, all or one.",
    params=[
        click.Argument(["machine"], required=False, shell_complete=complete_ids("machine")),
        click.Option(
            ["--only"], multiple=True, metavar="ISSUE,…", help="These issues and no others."
        ),
        click.Option(["--omit"], multiple=True, metavar="ISSUE,…", help="All but these issues."),
        click.Option(
            ["--severity"],
            metavar="SEVERITY",
            help="At least minor, major or critical.",
            shell_complete=complete_words(_SEVERITIES),
        ),
        *(flag.option() for flag in SEARCH_FLAGS if flag.kind is not Kind.PAIRS),
        click.Option(["--sort-by"], multiple=True, metavar="COLUMN,…", help="As of `list`."),
    ],
)


_KIND_KEYS: Final = {"id": "id", "severity": "severity", "description": "description"}


def _list(sort_by: tuple[str, ...]) -> None:
    settings = settings_of(click.get_current_context())
    with opened(settings) as client:
        found: list[Json] = client.call("GET", "/v1/machine/issues")
    emit_list(settings, sorted_by(found, _KIND_KEYS, sort_by), machines.issue_kinds)


issues_list: Final = MetalctlCommand(
    "list",
    callback=_list,
    help="List what can be wrong with machines.",
    params=[
        click.Option(
            ["--sort-by"], multiple=True, metavar="COLUMN,…", help="id, severity or description."
        )
    ],
)
