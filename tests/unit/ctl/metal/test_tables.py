# SPDX-License-Identifier: Apache-2.0
"""Tables and help texts, against what is written down in tests/golden/ctl/metal."""

from dataclasses import replace
from pathlib import Path

import pytest

from metropolis.ctl.metal.cells import View, age, byte_count, duration, expiry
from metropolis.ctl.metal.output import markdown, table_text
from metropolis.ctl.metal.settings import MetalSettings
from metropolis.ctl.metal.tables import books, inventory, machines, networks
from metropolis.ctl.text_table import width
from unit.ctl.metal.conftest import Metalctl
from unit.ctl.metal.documents import (
    ADDRESSES,
    CAPACITY,
    IMAGES,
    MACHINES,
    NETWORKS,
    NOW,
    PROJECTS,
    SIZES,
    SWITCHES,
    ago,
)

GOLDEN = Path(__file__).resolve().parents[3] / "golden" / "ctl" / "metal"
PLAIN = View(now=NOW)
WIDE = replace(PLAIN, is_wide=True)
SYMBOLS = replace(PLAIN, has_symbols=True)
TABLES = {
    "machine_list": (machines.machines, MACHINES, PLAIN),
    "machine_list_wide": (machines.machines, MACHINES, WIDE),
    "machine_list_symbols": (machines.machines, MACHINES, SYMBOLS),
    "machine_ipmi": (machines.ipmi, MACHINES, PLAIN),
    "machine_issues": (machines.issues, MACHINES, PLAIN),
    "machine_logs": (machines.events, MACHINES[0]["events"]["log"], PLAIN),
    "firewall_list": (machines.firewalls, MACHINES[1:2], PLAIN),
    "network_list": (networks.networks, NETWORKS, PLAIN),
    "network_list_symbols": (networks.networks, NETWORKS, SYMBOLS),
    "machine_ipmi_chassis_list": (machines.chassis, MACHINES, PLAIN),
    "network_ip_list": (networks.addresses, ADDRESSES, PLAIN),
    "project_list": (books.projects, PROJECTS, PLAIN),
    "switch_list": (networks.switches, SWITCHES, PLAIN),
    "switch_list_wide": (networks.switches, SWITCHES, WIDE),
    "switch_detail": (networks.switch_ports, SWITCHES, PLAIN),
    "switch_connected_machines": (networks.connected_machines, SWITCHES, SYMBOLS),
    "image_list": (inventory.images, IMAGES, PLAIN),
    "size_list": (inventory.sizes, SIZES, PLAIN),
    "partition_capacity": (inventory.capacity, CAPACITY, PLAIN),
    "partition_capacity_wide": (inventory.capacity, CAPACITY, WIDE),
}
HELP = {
    "help": ("--help",),
    "help_machine": ("machine", "--help"),
    "help_machine_create": ("machine", "create", "--help"),
    "help_size_apply": ("size", "apply", "--help"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_what_was_written_down(name: str) -> None:
    tabulate, items, view = TABLES[name]
    text = table_text(MetalSettings(), tabulate(items, view))
    assert text == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", HELP)
def test_help_is_what_was_written_down(name: str, metalctl: Metalctl) -> None:
    done = metalctl(*HELP[name])
    assert (done.status, done.err) == (0, "")
    assert done.out == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", TABLES)
def test_columns_do_not_depend_on_what_is_in_them(name: str) -> None:
    tabulate, items, view = TABLES[name]
    table = tabulate(items, view)
    assert tabulate([], view).headers == table.headers
    assert all(len(row) == len(table.headers) for row in table.rows)


def test_markdown_escapes_what_would_be_another_column() -> None:
    text = markdown(inventory.images(IMAGES[:1], PLAIN))
    assert text.splitlines()[0].startswith("| ID | Name |")
    assert text.splitlines()[1] == "| --- " * 7 + "|"
    assert "Ubuntu\\|24" in text
    assert len(markdown(inventory.images(IMAGES, PLAIN), has_headers=False).splitlines()) == 3


def test_without_headers_columns_are_as_wide_as_the_cells() -> None:
    text = table_text(MetalSettings(has_headers=False), inventory.images(IMAGES[1:2], PLAIN))
    assert text == "old-1.0.1            expired   deprecated\n"
    assert table_text(MetalSettings(has_headers=False), inventory.images([], PLAIN)) == ""


def test_the_id_of_a_machine_whose_light_is_on_is_blue() -> None:
    text = table_text(MetalSettings(force_color=True), machines.machines(MACHINES, PLAIN))
    assert f"\x1b[34m{MACHINES[1]['id']}\x1b[0m" in text
    assert f"\x1b[34m{MACHINES[0]['id']}" not in text


def test_an_error_is_marked_only_within_its_threshold() -> None:
    crashed = MACHINES[2]
    assert "last-error" in machines.marks(crashed, PLAIN)
    day = replace(PLAIN, error_threshold_s=86_400)
    assert "last-error" not in machines.marks(crashed, day)


def test_pictures_take_two_columns() -> None:
    assert width("💀") == 2
    assert width("└─ x") == 4
    assert width("e\u0301") == 1
    lines = (GOLDEN / "machine_list_symbols.txt").read_text(encoding="utf-8").splitlines()
    starts = {width(line[: line.index("s1")]) for line in lines if "s1" in line}
    assert len(starts) == 1


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0s"), (-5, "0s"), (59, "59s"), (61, "1m 1s"), (3600, "1h"), (90061, "1d 1h"),
     (86_400 + 59, "1d")],
)  # fmt: skip
def test_durations_have_two_units_at_most(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_times_that_were_never_set_are_blank() -> None:
    assert age("0001-01-01T00:00:00Z", NOW) == ""
    assert age(None, NOW) == ""
    assert age("yesterday", NOW) == ""
    assert expiry("0001-01-01T00:00:00Z", NOW) == "never"
    assert expiry(ago(seconds=1), NOW) == "expired"
    assert [byte_count(n) for n in (0, 1023, 1024, 3 * 2**40)] == [
        "0 B",
        "1023 B",
        "1 KiB",
        "3 TiB",
    ]
    assert byte_count(2**60) == "1024 PiB"
