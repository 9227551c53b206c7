# SPDX-License-Identifier: Apache-2.0
"""Machines that their operator installs: sticks, and the context that leads to them."""

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError
from metropolis.ctl import contexts, credentials
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.lab.launch import cluster_context, remove_context
from metropolis.lab.model import QEMU_DRIVER, Rack
from metropolis.lab.qemu import blank
from metropolis.lab.rack_context import check_free

RACK = Rack(
    name="demo",
    count=2,
    proxy_tcp_port=1080,
    program=(),
    created="2026-01-01T00:00:00+00:00",
    driver=QEMU_DRIVER,
    is_blank=True,
    node_ids={},
)


def test_a_stick_is_a_private_copy_and_can_be_pulled_out_twice(tmp_path: Path) -> None:
    machine = tmp_path / "machine"
    machine.mkdir()
    for content in (b"first", b"second"):
        (tmp_path / "medium").write_bytes(content)
        blank.plug_in(machine, tmp_path / "medium")
        assert (machine / blank.MEDIUM).read_bytes() == content
    assert stat.S_IMODE((machine / blank.MEDIUM).stat().st_mode) == 0o600
    (tmp_path / "medium").unlink()
    assert [path.name for path in machine.iterdir()] == [blank.MEDIUM]
    for _ in range(2):
        blank.pull_out(machine)
    assert list(machine.iterdir()) == []


def test_what_is_no_file_is_no_stick(tmp_path: Path) -> None:
    for wrong in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InvalidArgumentError) as caught:
            blank.plug_in(tmp_path, wrong)
        assert "genusb" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_the_context_of_a_blank_rack_knows_the_way_and_nothing_else(tmp_path: Path) -> None:
    context = cluster_context(tmp_path, RACK)
    assert (context.endpoints, context.proxy) == ((), RACK.proxy)
    assert [path.name for path in context.directory.iterdir()] == ["context.yaml"]


def test_another_port_is_learned_and_what_the_operator_did_is_kept(tmp_path: Path) -> None:
    context = cluster_context(tmp_path, RACK)
    credentials.create_owner_key(context, LinuxEntropy())
    contexts.learn(tmp_path, replace(context, endpoints=("10.1.0.2",)))
    moved = cluster_context(tmp_path, replace(RACK, proxy_tcp_port=1090))
    assert (moved.endpoints, moved.proxy) == (("10.1.0.2",), "127.0.0.1:1090")
    assert contexts.load(tmp_path, "demo") == moved
    assert moved.owner_key_path.exists()


def test_a_context_goes_with_its_rack_unless_it_leads_elsewhere_by_now(tmp_path: Path) -> None:
    contexts.create(tmp_path, "demo", endpoints=["192.0.2.1"])
    remove_context(tmp_path, RACK)
    assert contexts.names(tmp_path) == ["demo"]
    cluster_context(tmp_path, RACK)
    remove_context(tmp_path, RACK)
    assert contexts.names(tmp_path) == []


def test_no_rack_takes_the_name_of_a_context_that_holds_keys(tmp_path: Path) -> None:
    check_free(tmp_path, "demo")
    context = cluster_context(tmp_path, RACK)
    check_free(tmp_path, "demo")  # of a command that was interrupted
    credentials.create_owner_key(context, LinuxEntropy())
    with pytest.raises(FailedPreconditionError) as caught:
        check_free(tmp_path, "demo")
    assert "metroctl context remove demo" in caught.value.remedy
