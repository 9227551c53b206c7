# SPDX-License-Identifier: Apache-2.0
"""What a rack is: names, sizes, roles, and its record on disk."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from metropolis.base.errors import (
    DataLossError,
    InvalidArgumentError,
    NotFoundError,
)
from metropolis.lab.model import (
    Rack,
    check_driver,
    check_name,
    check_node_count,
    plan_roles,
    rack_from_json,
    rack_to_json,
)
from metropolis.lab.state import ClusterDirectory, cluster_names, state_root

RACK = Rack(
    name="demo",
    count=3,
    proxy_tcp_port=1080,
    program=("python", "-m", "metropolis.node"),
    created="2026-01-01T00:00:00+00:00",
    node_ids={0: "metropolis-00"},
)


@pytest.mark.parametrize("count", range(1, 10))
def test_the_number_of_voting_members_is_odd_and_node_0_votes(count: int) -> None:
    roles = plan_roles(count)
    assert len(roles) == count
    assert sum(role.consensus_member for role in roles) == (3 if count >= 3 else 1)
    assert roles[0].consensus_member
    for role in roles:
        assert role.kubernetes_controller == role.consensus_member
        assert role.kubernetes_worker != role.kubernetes_controller


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a.b", "../x", "a/b", "a" * 33, "ä"])
def test_a_name_that_could_be_no_directory_or_host_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        check_name(name)
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["a", "demo-2", "a" * 32])
def test_ordinary_names_are_fine(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("count", [-1, 0, 10])
def test_a_rack_holds_one_to_nine_nodes(count: int) -> None:
    with pytest.raises(InvalidArgumentError):
        check_node_count(count)


def test_there_are_two_drivers() -> None:
    with pytest.raises(InvalidArgumentError, match="docker"):
        check_driver("docker")
    assert check_driver("qemu") == "qemu"
    assert check_driver("namespace") == "namespace"


def test_a_record_survives_its_file() -> None:
    assert rack_from_json(json.loads(json.dumps(rack_to_json(RACK)))) == RACK


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"nodes": []},
        {"nodes": None},
        {"program": 7},
        {"name": "../x"},
        {"nodes": [{}]},
        {"addresses": 7},
        {"addresses": {"0": "192.0.2.1"}},
    ],
)
def test_a_damaged_record_is_data_loss_with_a_remedy(change: dict[str, object]) -> None:
    with pytest.raises(DataLossError) as caught:
        rack_from_json({**rack_to_json(RACK), **change})
    assert "destroy" in caught.value.remedy


@pytest.mark.parametrize("record", [None, [], "x", 1, {}])
def test_a_record_that_is_something_else_is_data_loss(record: object) -> None:
    with pytest.raises(DataLossError):
        rack_from_json(record)


def test_another_address_is_kept_and_the_others_stay() -> None:
    moved = RACK.readdressed(1, "10.1.0.77").readdressed(1, "10.1.0.78")
    assert [moved.address(number) for number in moved.numbers] == [
        "10.1.0.2",
        "10.1.0.78",
        "10.1.0.4",
    ]
    assert rack_from_json(json.loads(json.dumps(rack_to_json(moved)))) == moved
    assert [node["address"] for node in rack_to_json(moved)["nodes"]][1] == "10.1.0.78"


def test_a_rack_of_blank_machines_is_one_when_it_is_read_again() -> None:
    blank = replace(RACK, is_blank=True)
    assert rack_from_json(json.loads(json.dumps(rack_to_json(blank)))) == blank


def test_an_address_that_was_left_is_free_for_another_machine() -> None:
    swapped = RACK.readdressed(0, "10.1.0.9").readdressed(1, "10.1.0.2").readdressed(0, "10.1.0.3")
    assert [swapped.address(number) for number in swapped.numbers][:2] == ["10.1.0.3", "10.1.0.2"]


@pytest.mark.parametrize(
    "address",
    ["", "x", "10.1.0.0", "10.1.0.1", "10.1.0.255", "10.1.1.2", "10.1.0.02", "::1", "10.1.0.4"],
)
def test_an_address_outside_or_of_somebody_else_is_refused(address: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        RACK.readdressed(1, address)
    assert caught.value.remedy


def test_a_machine_that_does_not_exist_gets_no_address() -> None:
    with pytest.raises(InvalidArgumentError):
        RACK.readdressed(3, "10.1.0.77")


def test_a_record_from_before_addresses_could_change_is_read() -> None:
    record = {**rack_to_json(RACK)}
    del record["addresses"], record["blank"]
    assert rack_from_json(record) == RACK


def test_a_cluster_directory_is_private_and_complete(tmp_path: Path) -> None:
    directory = ClusterDirectory(tmp_path / "clusters" / "demo")
    with pytest.raises(NotFoundError, match="demo"):
        directory.read()
    directory.create(RACK)
    assert directory.read() == RACK
    assert cluster_names(tmp_path / "clusters") == ["demo"]
    assert directory.path.stat().st_mode & 0o777 == 0o700
    assert directory.record.stat().st_mode & 0o777 == 0o600
    assert [directory.storage(number).is_dir() for number in range(4)] == [True] * 3 + [False]
    directory.remove()
    directory.remove()
    assert not directory.path.exists()
    assert cluster_names(tmp_path / "clusters") == []


def test_a_torn_record_is_data_loss(tmp_path: Path) -> None:
    directory = ClusterDirectory(tmp_path / "demo")
    directory.create(RACK)
    directory.record.write_text('{"version": 1, "na')
    with pytest.raises(DataLossError):
        directory.read()


def test_clusters_live_where_xdg_says() -> None:
    assert state_root({"XDG_STATE_HOME": "/s", "HOME": "/h"}) == Path("/s/metropolis/clusters")
    assert state_root({"HOME": "/h"}) == Path("/h/.local/state/metropolis/clusters")
