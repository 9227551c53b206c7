# SPDX-License-Identifier: Apache-2.0
"""What a shell is offered."""

import click

from metropolis.api import common_pb2
from metropolis.ctl.command_line import CommandGroup
from metropolis.ctl.command_tree import TREE
from metropolis.ctl.completions import complete_new_nodes, complete_nodes
from metropolis.ctl.options import settings_of
from metropolis.ctl.settings import Settings
from unit.ctl.conftest import Metroctl
from unit.ctl.remote import Remote, a_node


def offered(arguments: list[str], incomplete: str) -> list[str]:
    from click.shell_completion import ShellComplete  # noqa: PLC0415

    shell = ShellComplete(CommandGroup("metroctl", TREE), {}, "metroctl", "_METROCTL_COMPLETE")
    return [item.value for item in shell.get_completions(arguments, incomplete)]


def test_commands_and_flags_are_offered_without_importing_them() -> None:
    assert offered([], "ap") == ["approve"]
    assert offered(["node"], "re") == ["remove", "reboot"]
    assert "certs" not in offered([], "c")
    assert "--endpoints" in offered(["node", "list"], "--e")


def test_ids_of_live_nodes_are_offered_with_the_flags_given_before(
    remote: Remote, owner: list[str]
) -> None:
    new = remote.add(a_node(0xA1, state=common_pb2.NODE_STATE_NEW))
    assert sorted(offered([*owner, "explain"], "")) == sorted(remote.nodes)
    assert offered([*owner, "approve"], "") == [new.id]
    assert offered([*owner, "node", "list", new.id], "metro") == [remote.own.id]


def test_a_cluster_that_is_away_offers_nothing(metroctl: Metroctl) -> None:
    assert metroctl(["version"]).status == 0
    ctx = click.Context(CommandGroup("metroctl", TREE), obj=Settings(context="nope"))
    assert settings_of(ctx).context == "nope"
    parameter = click.Argument(["node_id"])
    assert complete_nodes(ctx, parameter, "") == []
    assert complete_new_nodes(ctx, parameter, "") == []


def test_roles_and_fields_are_offered() -> None:
    assert offered(["node", "add", "role"], "kubernetesW") == ["KubernetesWorker"]
    assert offered(["cluster", "configure", "get"], "tpm") == ["tpm_mode"]
