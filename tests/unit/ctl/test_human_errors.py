# SPDX-License-Identifier: Apache-2.0
"""What people do by mistake: the wrong node, a typo, everything at once, the wrong cluster."""

import io

import pytest
from typing_extensions import override

from metropolis.api.common_pb2 import NODE_STATE_UP
from unit.ctl.conftest import Metroctl
from unit.ctl.remote import Remote, a_node


class Terminal(io.StringIO):
    """A person who types one line."""

    @override
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("command", ["delete", "decommission"])
def test_only_yes_in_full_removes_a_node(
    metroctl: Metroctl,
    remote: Remote,
    owner: list[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    for answer in ("", "y\n", "YES\n", "no\n", "yes please\n"):
        monkeypatch.setattr("sys.stdin", Terminal(answer))
        done = metroctl([*owner, "node", command, remote.own.id])
        assert done.status == 1
        assert "remedy: Type yes in full" in done.err
    assert not remote.requests("DeleteNode")
    assert not remote.requests("DecommissionNode")


@pytest.mark.parametrize("command", ["delete", "decommission"])
def test_the_question_names_the_cluster_the_node_and_what_it_does(
    metroctl: Metroctl,
    remote: Remote,
    owner: list[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    remote.own.roles.consensus_member.SetInParent()
    monkeypatch.setattr("sys.stdin", Terminal("no\n"))
    err = metroctl([*owner, "node", command, remote.own.id]).err
    assert f"node {remote.own.id} ({remote.address}; ConsensusMember) of the cluster " in err
    assert f"{remote.address} for good?" in err.replace(" through proxy", " for good?")
    assert "installed anew, as another node" in err


def test_nobody_deletes_all_nodes_with_one_command(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    remote.add(a_node(0xA1, state=NODE_STATE_UP))
    for words in (["metropolis-", "--yes"], ["", "--yes"], [remote.own.id, "a1", "--yes"], ["*"]):
        done = metroctl([*owner, "node", "delete", *words])
        assert done.status != 0, words
        assert "remedy: " in done.err
    assert not remote.requests("DeleteNode")


def test_a_typo_in_a_role_takes_nothing_away(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    done = metroctl([*owner, "node", "remove", "role", "ConsensusMembr", remote.own.id])
    assert done.status == 1
    assert "Did you mean ConsensusMember?" in done.err
    assert not remote.calls
