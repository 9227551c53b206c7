# SPDX-License-Identifier: Apache-2.0
"""Giving access to a person and taking it away, as the handbook tells it, with a real node."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.ctl.operator import FIRST_ADDRESS, Operator, Outcome, two_machines
from metropolis.ctl import contexts


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    with two_machines(tmp_path) as operator:
        taken = operator.wait(
            ["takeownership", FIRST_ADDRESS, "--insecure-accept-and-persist-first-encountered-ca"],
            until=lambda outcome: outcome.status != 2,
        )
        assert taken.status == 0, taken.err
        operator.flags += ["--endpoints", FIRST_ADDRESS]
        yield operator


@pytest.mark.timeout(240)  # thirty programs, one after the other, on a machine that may be busy
def test_ann_gets_access_and_loses_it(operator: Operator, tmp_path: Path) -> None:
    made = operator.metroctl("user", "create", "ann", "--role", "viewer")
    assert made.status == 0, made.err
    assert made.out == ""
    password = operator.metroctl("user", "password", "ann", "--hours", "4")
    assert password.status == 0, password.err
    secret = password.out.strip()
    assert secret not in password.err

    ann = Operator(tmp_path / "ann", operator.cluster)
    ann.flags = [*operator.flags[2:]]  # the same way to the cluster, but not the owner's keys
    wrong = ann.metroctl(
        "user", "login", "ann", "--insecure-accept-and-persist-first-encountered-ca", stdin="A\n"
    )
    assert wrong.status == 1
    assert "does not admit" in wrong.err
    right = ann.metroctl("user", "login", "ann", stdin=f"{secret.lower()}\n")
    assert right.status == 0, right.err
    assert right.err.startswith("You are user ann until 20")
    assert secret not in right.out + right.err
    root = contexts.default_root({"XDG_CONFIG_HOME": str(tmp_path / "ann" / "x")})
    assert stat.S_IMODE((root / "user-key.pem").stat().st_mode) == 0o600

    _what_a_viewer_may(ann)
    _more_by_a_group(operator, ann)

    # What somebody else found on a note is used up.
    thief = Operator(tmp_path / "thief", operator.cluster)
    thief.flags = ann.flags
    stolen = thief.metroctl(
        "user",
        "login",
        "ann",
        "--insecure-accept-and-persist-first-encountered-ca",
        stdin=f"{secret}\n",
    )
    assert stolen.status == 1

    assert operator.metroctl("user", "revoke-certificates", "ann", "--all").status == 0
    refused = _answer(ann)
    assert refused.status == 1
    assert "the certificate was revoked" in refused.err
    assert operator.metroctl("user", "delete", "ann").status == 0
    assert operator.metroctl("user", "list").err == "There are no users but the owner.\n"


def _answer(operator: Operator) -> Outcome:
    """What a call comes to; right after a revocation it may end with its connection instead."""
    return operator.wait(["whoami"], until=lambda outcome: outcome.status != 2)


def _what_a_viewer_may(ann: Operator) -> None:
    shown = ann.metroctl("whoami")
    assert shown.out.splitlines()[:3] == [
        "name    ann",
        "holds   the role viewer",
        "may     cluster.read, node.logs",
    ], shown.err
    (node,) = json.loads(ann.metroctl("node", "list", "-o", "json").out)
    logs = ann.wait(["node", "logs", node["id"]], until=lambda outcome: outcome.status == 0)
    assert logs.out
    assert ann.metroctl("auth", "can-i", "GetNodes").out == "yes\n"
    refused = ann.metroctl("auth", "can-i", "node.approve")
    assert (refused.status, refused.out) == (1, "no\n")
    assert refused.err == "You lack node.approve; node-admin and operator would do.\n"
    refused = ann.metroctl("node", "set", "labels", node["id"], "rack=7")
    assert refused.status == 1
    assert "user 'ann' missing PERMISSION_UPDATE_NODE_LABELS permission" in refused.err
    assert ann.metroctl("user", "list").status == 1


def _more_by_a_group(operator: Operator, ann: Operator) -> None:
    assert operator.metroctl("user", "group", "create", "oncall").status == 0
    joined = operator.metroctl("user", "grant", "ann", "--group", "oncall")
    assert joined.err == "User ann holds the role viewer and the membership in oncall.\n"
    given = operator.metroctl("user", "group", "grant", "oncall", "--permission", "node.labels")
    assert given.status == 0, given.err
    assert ann.metroctl("auth", "can-i", "node.labels").status == 0
    listed = operator.metroctl("user", "list").out.splitlines()
    assert listed[1].split()[:3] == ["ann", "viewer", "oncall"]
    assert operator.metroctl("user", "group", "delete", "oncall").status == 1
    assert operator.metroctl("user", "revoke", "ann", "--group", "oncall").status == 0
    assert operator.metroctl("user", "group", "delete", "oncall").status == 0
    assert ann.metroctl("auth", "can-i", "node.labels").status == 1


@pytest.mark.timeout(120)
def test_the_owner_gets_another_key(operator: Operator, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    stolen = tmp_path / "stolen"
    stolen.mkdir()
    for path in keys.iterdir():
        (stolen / path.name).write_bytes(path.read_bytes())
    thief = Operator(tmp_path / "thief", operator.cluster)
    thief.flags = ["--config", str(stolen), *operator.flags[2:]]
    assert thief.metroctl("whoami").status == 0
    done = operator.metroctl("auth", "rotate-owner-key")
    assert done.status == 0, done.err
    assert operator.metroctl("whoami").out.startswith("name    owner\n")
    assert not (keys / "owner-key.next.pem").exists()
    refused = _answer(thief)
    assert refused.status == 1
    assert "the owner's key was replaced" in refused.err
    assert thief.metroctl("takeownership", FIRST_ADDRESS).status == 1
    assert operator.metroctl("takeownership").status == 0
