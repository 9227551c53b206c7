# SPDX-License-Identifier: Apache-2.0
"""Plans, diffs, sorting and documents: what is to be done, before anything is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from metropolis.base.errors import InvalidArgumentError, NotFoundError
from metropolis.ctl.metal.client import Access, Client
from metropolis.ctl.metal.diff import diff_text, differs
from metropolis.ctl.metal.documents import parse_documents, read_documents
from metropolis.ctl.metal.entities import entity_of
from metropolis.ctl.metal.flags import body_of, parse_duration
from metropolis.ctl.metal.plan import (
    CREATE,
    DELETE,
    LEAVE,
    UPDATE,
    Step,
    plan_apply,
    plan_create,
    plan_delete,
    plan_update,
)
from metropolis.ctl.metal.sorting import ordered

SIZE = {
    "id": "s1",
    "name": "S 1",
    "description": "",
    "constraints": [{"type": "cores", "min": 1, "max": 2, "identifier": ""}],
    "labels": {},
    "created": "2026-11-20T00:00:00Z",
    "changed": "2026-11-20T00:00:00Z",
}
PROJECT = {
    "meta": {"id": "p1", "kind": "Project", "version": 4, "labels": ["a"], "annotations": {}},
    "name": "shop",
    "description": "",
    "tenant_id": "acme",
}
NETWORK = {"id": "n1", "name": "n", "prefixes": ["10.0.0.0/8"], "vrf": 7, "usage": {"used_ips": 2}}


class Stored(Client):
    """Answers GETs from what it was given."""

    def __init__(self, **items: Any) -> None:
        super().__init__(Access(url="http://nowhere"))
        self._items = {path.replace("__", "/"): item for path, item in items.items()}

    @override
    def call(self, method: str, path: str, body: object = None, **more: Any) -> Any:
        assert (method, body, more) == ("GET", None, {})
        found = self._items.get(path.removeprefix("/v1/"))
        if found is None:
            raise NotFoundError("there is none", remedy="Look.")
        return found


CLIENT = Stored(size__s1=SIZE, project__p1=PROJECT, network__n1=NETWORK)


def applied(words: str, document: dict[str, Any]) -> Step:
    return plan_apply(CLIENT, entity_of(words), document)


def test_what_is_not_there_is_created_and_what_is_there_updated() -> None:
    assert applied("size", {**SIZE, "id": "s2"}).verb == CREATE
    step = applied("size", {"id": "s1", "description": "new"})
    assert (step.verb, step.body) == (UPDATE, {"id": "s1", "description": "new"})


def test_what_describe_prints_applies_as_no_change() -> None:
    assert applied("size", SIZE).verb == LEAVE
    assert applied("project", PROJECT).verb == LEAVE
    assert applied("network", NETWORK).verb == LEAVE


def test_what_answers_alone_have_is_never_sent() -> None:
    step = plan_create(entity_of("size"), SIZE)
    assert set(step.body) == {"id", "name", "description", "constraints", "labels"}
    assert "usage" not in plan_create(entity_of("network"), NETWORK).body


def test_what_nobody_knows_is_sent_so_that_the_server_refuses_it() -> None:
    assert applied("size", {"id": "s1", "desription": "x"}).body == {"id": "s1", "desription": "x"}
    assert applied("size", {"id": "s1", "desription": "x"}).verb == UPDATE


def test_what_cannot_change_is_warned_about_and_left() -> None:
    step = applied("network", {**NETWORK, "vrf": 8, "name": "m"})
    assert step.warnings == ("vrf of network n1 cannot be changed; it stays as it is",)
    assert "vrf" not in step.body
    assert step.body["name"] == "m"
    assert applied("network", {**NETWORK, "name": "m"}).warnings == ()


def test_what_every_update_must_have_is_sent_as_it_is() -> None:
    client = Stored(switch__leaf01={"id": "leaf01", "rack_id": "rack-1", "mode": "operational"})
    step = plan_update(client, entity_of("switch"), {"id": "leaf01", "mode": "replace"})
    assert step.body == {"id": "leaf01", "rack_id": "rack-1", "mode": "replace"}


def test_what_machines_print_is_turned_into_what_may_change() -> None:
    machine = {
        "id": "m1",
        "hardware": {"memory": 1},
        "description": "",
        "tags": ["a"],
        "allocation": {"description": "old", "ssh_pub_keys": ["k"], "hostname": "h"},
    }
    client = Stored(machine__m1=machine)
    assert plan_update(client, entity_of("machine"), machine).verb == LEAVE
    changed = {**machine, "tags": ["b"]}
    assert plan_update(client, entity_of("machine"), changed).body == {
        "id": "m1",
        "description": "old",
        "ssh_pub_keys": ["k"],
        "tags": ["b"],
    }


def test_meta_data_keep_the_version_that_locks_them() -> None:
    step = applied("project", {"meta": {"id": "p1", "labels": ["b"]}, "name": "shop"})
    assert step.body["meta"]["version"] == 4
    assert step.body["meta"]["labels"] == ["b"]
    mine = applied("project", {"meta": {"id": "p1", "version": 3}, "name": "x"})
    assert mine.body["meta"]["version"] == 3, "whoever names a version means that one"


def test_updates_name_what_they_change_and_it_must_be_there() -> None:
    with pytest.raises(InvalidArgumentError, match="without id"):
        plan_update(CLIENT, entity_of("size"), {"name": "x"})
    with pytest.raises(NotFoundError):
        plan_update(CLIENT, entity_of("size"), {"id": "s9"})
    with pytest.raises(NotFoundError):
        plan_delete(CLIENT, entity_of("size"), "s9")
    assert plan_delete(CLIENT, entity_of("size"), "s1").verb == DELETE


def test_a_diff_shows_what_changes_and_nothing_that_is_merely_empty() -> None:
    after = {**SIZE, "description": "new", "labels": None}
    assert diff_text("size/s1", SIZE, after, paint=str).splitlines()[:2] == [
        "--- a/size/s1",
        "+++ b/size/s1",
    ]
    changed = [
        line
        for line in diff_text("size/s1", SIZE, after, paint=str).splitlines()[2:]
        if line[0] in "+-"
    ]
    assert changed == ["+description: new"]
    assert diff_text("x", SIZE, {**SIZE, "labels": None}, paint=str) == ""
    assert diff_text("x", None, {"nat": False}, paint=str).endswith("+nat: false\n")
    assert diff_text("x", {"a": 1}, None, paint=str).splitlines()[1] == "+++ /dev/null"


def test_empty_is_absent_but_zero_is_not_one() -> None:
    assert not differs({"a": [], "b": {"c": ""}}, {"d": None, "e": False})
    assert differs({"a": 0}, {"a": 1})
    assert differs({"a": [0, 1]}, {"a": [1, 0]})


def names(found: Sequence[dict[str, Any]]) -> str:
    return "".join(each["id"] for each in found)


def test_entities_are_sorted_by_id_or_by_what_is_named() -> None:
    items: list[dict[str, Any]] = [
        {"id": "c", "name": "x", "amount": 10},
        {"id": "a", "name": "y", "amount": 9},
        {"id": "b", "name": "x"},
    ]
    entity = entity_of("size reservation")
    assert names(ordered(items, entity, ())) == "abc"
    assert names(ordered(items, entity, ["id:desc"])) == "cba"
    assert names(ordered(items, entity, ["amount"])) == "acb"
    assert names(ordered(items, entity, ["amount:desc"])) == "bca"
    assert names(ordered(items, entity_of("size"), ["name,id:desc"])) == "cba"
    assert names(ordered(items, entity_of("size"), ["name", "id"])) == "bca"
    for wrong in ("nope", "id:up"):
        with pytest.raises(InvalidArgumentError, match="nothing to sort by"):
            ordered(items, entity, [wrong])


def test_files_hold_documents_lists_and_times_that_stay_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("id: a\nat: 2026-11-20T10:00:00Z\n---\n- id: b\n- id: c\n---\n", "utf-8")
    assert read_documents(str(path)) == [
        {"id": "a", "at": "2026-11-20T10:00:00Z"},
        {"id": "b"},
        {"id": "c"},
    ]
    assert parse_documents('{"id": "a"}', where="x") == [{"id": "a"}]


@pytest.mark.parametrize("text", ["", "---\n---\n", "a", "[1]", "a: [", "!!python/object:os.x {}"])
def test_what_is_no_entity_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^here: "):
        parse_documents(text, where="here")


def test_flags_become_bodies() -> None:
    entity = entity_of("partition")
    given = {"id_value": "p", "dnsservers_value": ("1.1.1.1,9.9.9.9",), "cmdline_value": "quiet"}
    assert body_of(entity.create_flags, given) == {
        "id": "p",
        "dns_servers": [{"ip": "1.1.1.1"}, {"ip": "9.9.9.9"}],
        "bootconfig": {"commandline": "quiet"},
    }
    with pytest.raises(InvalidArgumentError, match="--id is missing"):
        body_of(entity.create_flags, {})


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("1h30m", 5400), ("7d", 604_800), ("1.5h", 5400)]
)
def test_durations_are_understood(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "h", "1x", "1h x", "-1h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="no duration"):
        parse_duration(text)
