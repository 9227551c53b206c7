# SPDX-License-Identifier: Apache-2.0
"""The pages hang together: links, chapters, the map of rooms, the parts drawn from the code."""

import ast
import importlib
import re
import tomllib
from pathlib import Path

import pytest

from golden.docs.pages import HANDBOOK, PAGES, ROOT, anchors, blocks, named, prose, read, tool
from metropolis.cluster.lifecycle import NodeState

CHAPTERS = (
    "Introduction",
    "How to use this handbook",
    "Metropolis in your organization",
    "The demo cluster",
    "Launch locally",
    "Node",
    "Node runnables and logging",
    "Node storage",
    "Cluster",
    "Cluster API",
    "Identity and authentication",
    "Cluster policy",
    "Hardware attestation",
    "Stability and releases",
    "Hardware requirements",
    "Threat model",
    "Organizational requirements",
    "The metroctl tool",
    "Configuration and deployment",
    "API and daily management",
    "Authorization and giving access",
    "The audit log",
    "Metrics and monitoring",
    "Troubleshooting and runbooks",
    "Backup and disaster",
    "Architecture of Metal",
    "API and access",
    "The metalctl tool",
    "Tenants, projects and address books",
    "Inventory: sizes, images, layouts, partitions",
    "Networks, IPs and switches",
    "Machine life cycle",
    "Messages to partitions",
    "Operations and backup",
    "Developing Metropolis",
)
WRITTEN = {
    "Introduction",
    "How to use this handbook",
    "Metropolis in your organization",
    "The demo cluster",
    "Launch locally",
    "Node runnables and logging",
    "Cluster",
    "Cluster API",
    "Identity and authentication",
    "Organizational requirements",
    "The metroctl tool",
    "API and daily management",
    "Authorization and giving access",
    "The audit log",
    "Troubleshooting and runbooks",
    "Backup and disaster",
    "Architecture of Metal",
    "API and access",
    "The metalctl tool",
    "Tenants, projects and address books",
    "Inventory: sizes, images, layouts, partitions",
    "Networks, IPs and switches",
    "Machine life cycle",
    "Messages to partitions",
    "Operations and backup",
    "Developing Metropolis",
}
README_LINES_MAX = 150
_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_internal_link_leads_somewhere(page: Path) -> None:
    for text, target in _LINK.findall(prose(page)):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), f"{named(page)}: [{text}]({target}) leads nowhere"
        if anchor:
            assert anchor in anchors(place), f"{named(page)}: {target} names no heading"


def test_the_table_of_contents_lists_every_chapter_in_order_and_says_which_are_missing() -> None:
    entries = re.findall(r"^ *(?:\*|\d+\.) (.+)$", prose(HANDBOOK / "README.md"), re.MULTILINE)
    listed = []
    for entry in entries:
        link = _LINK.match(entry)
        title, colon, excuse = (link[1], "", "") if link else entry.partition(":")
        if not link and not colon:
            continue  # the title of a part
        listed.append(title)
        assert link or excuse.startswith(" not written yet, comes with "), entry
        assert link or title not in WRITTEN, f"{title} has a page; link it"
        if link:
            assert read(HANDBOOK / link[2]).startswith(f"# {title}\n"), link[2]
    assert listed == [*CHAPTERS]


def test_every_page_of_the_handbook_is_a_chapter() -> None:
    contents = {target for _, target in _LINK.findall(read(HANDBOOK / "README.md"))}
    pages = {path.name for path in HANDBOOK.glob("*.md")} - {"README.md"}
    assert pages <= contents


def test_the_readme_shows_every_room_on_its_map_in_the_order_of_the_walls() -> None:
    settings = tomllib.loads(read(ROOT / "pyproject.toml"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = next(each["layers"] for each in contracts if each["type"] == "layers")
    rows = prose(ROOT / "README.md").partition("| room | holds |")[2]
    cells = re.findall(r"^\| (\(?`[^|]+) \|", rows, re.MULTILINE)
    shown = [room for cell in cells for room in re.findall(r"\(?`[a-z]+`\)?", cell)]
    assert [room.replace("`", "") for room in shown] == list(reversed(layers))


def test_the_readme_is_short() -> None:
    assert len(read(ROOT / "README.md").splitlines()) <= README_LINES_MAX


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_what_is_drawn_from_the_code_is_up_to_date(page: Path) -> None:
    text = read(page)
    assert text.count("<!-- generated: ") == text.count("<!-- end of generated -->")
    assert tool().renewed(text) == text, f"run: python tools/handbook.py  ({named(page)})"


def test_every_section_that_can_be_drawn_is_on_a_page() -> None:
    used = {name for page in PAGES for name in re.findall(r"<!-- generated: (\S+) -->", read(page))}
    assert used == set(tool().SECTIONS)


def test_the_table_of_methods_knows_what_is_served_and_what_is_refused() -> None:
    handlers = tool().handlers()
    assert all(handlers.values())
    assert "GET_NODES" in {constant for service, constant in handlers if service == "Management"}
    refused = {constant for (_, constant), page in handlers.items() if page.startswith("Refuse")}
    assert "UPDATE_NODE" in refused


def test_the_drawing_of_the_life_cycle_shows_the_transitions_of_the_table_and_no_other() -> None:
    drawn: set[tuple[str, str, str]] = set()
    for line in tool().lifecycle_drawing().splitlines():
        parts = re.split(r" ──(.+?)──▶ ", line)
        for start, event, to in zip(parts[:-1:2], parts[1::2], parts[2::2], strict=True):
            drawn |= {(each, event, to) for each in start.split(", ")}

    def name(state: NodeState) -> str:
        return "(no record)" if state is NodeState.ABSENT else state.name

    assert drawn == {
        (name(start), event, name(to))
        for (start, to), events in tool().transitions().items()
        for event in events
    }
    assert ("NEW", "approve", "STANDBY") in drawn


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_python_on_a_page_is_python_and_imports_what_exists(page: Path) -> None:
    for block in blocks(page):
        if block.language != "python":
            continue
        for node in ast.walk(ast.parse("\n".join(block.lines))):
            if isinstance(node, ast.ImportFrom):
                assert node.module is not None
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{named(page)}: no {alias.name}"
