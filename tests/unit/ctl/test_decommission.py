# SPDX-License-Identifier: Apache-2.0
"""`metroctl node decommission` and `metroctl cluster ticket rotate`."""

import base64
import io

import pytest

from metropolis.api.decommission_pb2 import DecommissionProgress, DecommissionStep
from metropolis.base.errors import FailedPreconditionError, UnavailableError
from metropolis.ctl.decommission import line
from unit.ctl.conftest import Metroctl
from unit.ctl.remote import Remote

WIPE = DecommissionProgress(
    step=DecommissionStep.DECOMMISSION_STEP_WIPE, message="Waiting: it wipes.", waiting=True
)
DONE = DecommissionProgress(
    step=DecommissionStep.DECOMMISSION_STEP_DONE, message="The node is out of service."
)


def test_every_step_is_told_once_also_when_the_leader_changes(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    remote.decommissions = [[WIPE, UnavailableError("leadership was lost")], [WIPE, DONE]]
    done = metroctl([*owner, "node", "decommission", remote.own.id, "--yes"])
    assert (done.status, done.out) == (0, "")
    assert done.err.splitlines()[-4:] == [
        f"decommissioning node: {remote.own.id} ({remote.address})",
        "wipe              Waiting: it wipes.",
        "done              The node is out of service.",
        (
            f"Decommissioned node {remote.own.id}. "
            f"Run `metroctl node delete {remote.own.id}` to forget it."
        ),
    ]
    assert [(each.id, each.force) for each in remote.requests("Decommission")] == [
        (remote.own.id, False)
    ] * 2


def test_a_wipe_needs_consent_and_force_is_passed_on(
    metroctl: Metroctl, remote: Remote, owner: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    done = metroctl([*owner, "node", "decommission", remote.own.id])
    assert (done.status, remote.requests("Decommission")) == (1, [])
    assert done.err.endswith("remedy: Add --yes.\n")
    remote.decommissions = [[DONE]]
    done = metroctl([*owner, "node", "decommission", remote.own.id, "--yes", "--force"])
    assert done.status == 0
    (request,) = remote.requests("Decommission")
    assert request.force


def test_a_refusal_is_told_with_the_safe_order_and_not_tried_again(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    remote.decommissions = [[FailedPreconditionError("the only voting member", remedy="First.")]]
    done = metroctl([*owner, "node", "decommission", remote.own.id, "--yes"])
    assert done.status == 1
    assert done.err.endswith("error: the only voting member\nremedy: First.\n")
    assert remote.decommissions == []


def test_every_step_has_a_name_that_fits_its_column() -> None:
    steps = [step for step in DecommissionStep.values() if step]
    lines = [line(DecommissionProgress(step=step, message="|")) for step in steps]
    assert {each.index("|") for each in lines} == {18}


def test_a_replaced_ticket_is_printed_and_the_other_one_is_not_asked_for(
    metroctl: Metroctl, remote: Remote, owner: list[str]
) -> None:
    done = metroctl([*owner, "cluster", "ticket", "rotate", "--verbose"])
    assert base64.b64decode(done.out.strip())[-1] == 1
    assert done.out.strip() not in done.err
    assert "admits nobody any more" in done.err
    assert remote.requests("GetRegisterTicket") == []
