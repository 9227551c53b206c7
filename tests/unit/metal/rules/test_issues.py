# SPDX-License-Identifier: Apache-2.0
"""The thirteen issues, each on a machine that has it and no other."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.model.event import Event, EventContainer
from metropolis.metal.model.ipmi import NEVER, Ipmi
from metropolis.metal.model.machine import Allocation, Machine
from metropolis.metal.model.machine_network import MachineNetwork
from metropolis.metal.rules.issues import (
    BY_ID,
    ISSUES,
    Severity,
    Subject,
    issues_of,
    parse_severity,
)
from metropolis.metal.rules.liveliness import liveliness, resurrection_reason
from metropolis.metal.rules.provisioning import new_container, step
from metropolis.metal.services.machines import empty_machine
from unit.metal.kit import NOW

SEVERITIES = {
    "no-partition": "major",
    "liveliness-dead": "major",
    "liveliness-unknown": "major",
    "liveliness-not-available": "minor",
    "failed-machine-reclaim": "critical",
    "crashloop": "major",
    "last-event-error": "minor",
    "bmc-without-mac": "major",
    "bmc-without-ip": "major",
    "bmc-info-outdated": "major",
    "asn-not-unique": "minor",
    "bmc-no-distinct-ip": "major",
    "no-event-container": "major",
}
BMC = Ipmi(id="m", address="10.0.0.1:623", mac="aa:bb:cc:dd:ee:ff", last_updated=NOW)


def after(*events: Event, now: datetime = NOW) -> EventContainer:
    container = new_container("m")
    for event in events:
        container, _ = step(container, event, now=now)
    return container


HEALTHY = Subject(
    machine=empty_machine("m", partition_id="muc", now=NOW),
    events=after(Event.WAITING),
    ipmi=BMC,
    now=NOW,
)


def changed(entity: Any, **more: Any) -> Any:
    assert entity is not None
    return msgspec.structs.replace(entity, **more)


def firewall(asn: int) -> Machine:
    network = MachineNetwork(
        network_id="n", prefixes=(), destination_prefixes=(), ips=(), vrf=1, asn=asn, nat=False,
        private=True, underlay=False, network_type="privateprimaryunshared",
        network_type_v2="child", nat_type_v2="none", project_id="red",
    )  # fmt: skip
    allocation = Allocation(
        uuid="u", project_id="red", role="firewall", name="", hostname="metal", created=NOW,
        creator="", networks=(network,), ssh_pub_keys=(), reinstall=False, succeeded=True,
    )  # fmt: skip
    machine: Machine = changed(HEALTHY.machine, allocation=allocation)
    return machine


SICK = {
    "no-partition": replace(HEALTHY, machine=changed(HEALTHY.machine, partition_id="")),
    "liveliness-dead": replace(HEALTHY, events=changed(HEALTHY.events, liveliness="Dead")),
    "liveliness-unknown": replace(HEALTHY, events=changed(HEALTHY.events, liveliness="Unknown")),
    "liveliness-not-available": replace(HEALTHY, events=changed(HEALTHY.events, liveliness="")),
    "failed-machine-reclaim": replace(
        HEALTHY, events=changed(HEALTHY.events, failed_machine_reclaim=True)
    ),
    "crashloop": replace(
        HEALTHY, events=changed(after(Event.CRASHED), last_error_event=None)
    ),
    "last-event-error": replace(HEALTHY, events=changed(after(Event.CRASHED), crash_loop=False)),
    "bmc-without-mac": replace(HEALTHY, ipmi=changed(BMC, mac="")),
    "bmc-without-ip": replace(HEALTHY, ipmi=changed(BMC, address="")),
    "bmc-info-outdated": replace(
        HEALTHY, ipmi=changed(BMC, last_updated=NOW - timedelta(minutes=20, seconds=1))
    ),
    "asn-not-unique": replace(HEALTHY, machine=firewall(4210000001), asn_users={4210000001: 2}),
    "bmc-no-distinct-ip": replace(HEALTHY, address_users={"10.0.0.1:623": 2}),
    "no-event-container": replace(HEALTHY, events=None, ipmi=None),
}  # fmt: skip


def test_there_are_thirteen_with_the_severities_that_people_know() -> None:
    assert {kind.id: kind.severity.name.lower() for kind in ISSUES} == SEVERITIES
    assert all(kind.description and kind.remedy for kind in ISSUES)


def test_a_healthy_machine_has_none() -> None:
    assert issues_of(HEALTHY) == []


@pytest.mark.parametrize("issue", SEVERITIES)
def test_a_machine_has_this_issue_and_no_other(issue: str) -> None:
    assert [kind.id for kind in issues_of(SICK[issue])] == [issue]
    assert BY_ID[issue].details(SICK[issue])


def test_a_crash_loop_is_over_when_the_machine_waits() -> None:
    subject = replace(HEALTHY, events=changed(after(Event.WAITING), crash_loop=True))
    assert issues_of(subject) == []


def test_a_free_machine_that_phones_home_was_not_reclaimed() -> None:
    subject = replace(HEALTHY, events=after(Event.PHONED_HOME))
    assert [kind.id for kind in issues_of(subject)] == ["failed-machine-reclaim"]


def test_an_error_counts_for_as_long_as_was_asked() -> None:
    subject = replace(SICK["last-event-error"], now=NOW + timedelta(hours=2))
    recent = replace(subject, ipmi=changed(BMC, last_updated=subject.now))
    assert [kind.id for kind in issues_of(recent)] == ["last-event-error"]
    assert issues_of(replace(recent, last_error_threshold=timedelta(hours=1))) == []


def test_a_bmc_that_never_reported_is_outdated() -> None:
    subject = replace(HEALTHY, ipmi=changed(BMC, last_updated=NEVER))
    assert [kind.id for kind in issues_of(subject)] == ["bmc-info-outdated"]


def test_severities_are_read_in_any_case_and_nothing_is_the_least() -> None:
    assert parse_severity("Critical") is Severity.CRITICAL
    assert parse_severity(None) is parse_severity("") is Severity.MINOR
    with pytest.raises(InvalidArgumentError, match="severity"):
        parse_severity("bad")


def test_a_silent_machine_is_dead_and_of_a_silent_allocated_one_nothing_is_known() -> None:
    container = after(Event.WAITING)
    soon, late = NOW + timedelta(minutes=5), NOW + timedelta(minutes=5, seconds=1)
    assert liveliness(container, allocated=False, now=soon) == "Alive"
    assert liveliness(container, allocated=False, now=late) == "Dead"
    assert liveliness(container, allocated=True, now=late) == "Unknown"
    assert liveliness(new_container("m"), allocated=True, now=late) == "Alive", "nobody can tell"


def test_whoever_is_dead_for_an_hour_or_did_not_let_go_is_resurrected() -> None:
    dead: EventContainer = changed(after(Event.WAITING), liveliness="Dead")
    hour = NOW + timedelta(hours=1)
    assert resurrection_reason(dead, allocated=False, now=hour) is None
    assert resurrection_reason(dead, allocated=False, now=hour + timedelta(seconds=1))
    assert resurrection_reason(dead, allocated=True, now=hour + timedelta(days=1)) is None
    stubborn: EventContainer = changed(after(Event.WAITING), failed_machine_reclaim=True)
    assert resurrection_reason(stubborn, allocated=False, now=NOW)
