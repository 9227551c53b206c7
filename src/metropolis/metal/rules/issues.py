# SPDX-License-Identifier: Apache-2.0
"""The thirteen things that can be wrong with a machine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Final

from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.model.counted import CountableMachine
from metropolis.metal.model.event import Event, EventContainer
from metropolis.metal.model.ipmi import Ipmi

LAST_ERROR_THRESHOLD: Final = timedelta(days=7)
BMC_OUTDATED_AFTER: Final = timedelta(minutes=20)
REFERENCE: Final = "https://metal-stack.io/docs/troubleshooting"


class Severity(IntEnum):
    """How bad it is."""

    MINOR = 1
    MAJOR = 2
    CRITICAL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A machine, and what has to be known of all the others.

    Attributes:
        ipmi: None when no BMC was ever heard of.
        asn_users: Firewalls by AS number, how many use it.
        address_users: BMC addresses, how many machines have it.
    """

    machine: CountableMachine
    events: EventContainer | None
    ipmi: Ipmi | None
    now: datetime
    last_error_threshold: timedelta = LAST_ERROR_THRESHOLD
    asn_users: Mapping[int, int] = field(default_factory=dict[int, int])
    address_users: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueKind:
    """One of them.

    Attributes:
        details: What is the matter with a subject; empty: it has no such issue.
    """

    id: str
    severity: Severity
    description: str
    remedy: str
    details: Callable[[Subject], str]

    @property
    def reference(self) -> str:
        """Where more is written about it."""
        return f"{REFERENCE}#{self.id}"


def _no_partition(subject: Subject) -> str:
    return "" if subject.machine.partition_id else "no partition is known"


def _liveliness(wanted: str) -> Callable[[Subject], str]:
    def details(subject: Subject) -> str:
        events = subject.events
        if events is None or events.liveliness != wanted:
            return ""
        last = events.last_event_time
        return "nothing was ever heard" if last is None else f"silent since {last:%FT%TZ}"

    return details


def _no_liveliness(subject: Subject) -> str:
    events = subject.events
    if events is None or events.liveliness in {"Alive", "Dead", "Unknown"}:
        return ""
    return f"liveliness is {events.liveliness!r}"


def _failed_reclaim(subject: Subject) -> str:
    events = subject.events
    if events is None:
        return ""
    if events.failed_machine_reclaim:
        return "it phones home although it was freed"
    if subject.machine.allocation is None and events.newest is Event.PHONED_HOME:
        return "its newest event is Phoned Home, and it is nobody's"
    return ""


def _crash_loop(subject: Subject) -> str:
    events = subject.events
    if events is None or not events.crash_loop or events.newest is Event.WAITING:
        return ""
    return "it starts again and again"


def _last_error(subject: Subject) -> str:
    error = None if subject.events is None else subject.events.last_error_event
    if error is None or subject.now - error.time >= subject.last_error_threshold:
        return ""
    return f"{error.time:%FT%TZ} {error.event}: {error.message}".rstrip(": ")


def _no_bmc_mac(subject: Subject) -> str:
    return "" if subject.ipmi is not None and subject.ipmi.mac else "no MAC address is known"


def _no_bmc_ip(subject: Subject) -> str:
    return "" if subject.ipmi is not None and subject.ipmi.address else "no address is known"


def _bmc_outdated(subject: Subject) -> str:
    ipmi = subject.ipmi
    if ipmi is None or ipmi.last_updated.timestamp() <= 0:
        return "it never reported"
    age = subject.now - ipmi.last_updated
    return f"it reported {age} ago" if age > BMC_OUTDATED_AFTER else ""


def _shared_asn(subject: Subject) -> str:
    allocation = subject.machine.allocation
    if allocation is None or allocation.role != "firewall":
        return ""
    shared = sorted(
        {
            each.asn
            for each in allocation.networks
            if each.asn and subject.asn_users.get(each.asn, 0) > 1
        }
    )
    return f"another firewall has {', '.join(map(str, shared))}" if shared else ""


def _shared_bmc_ip(subject: Subject) -> str:
    address = "" if subject.ipmi is None else subject.ipmi.address
    if address and subject.address_users.get(address, 0) > 1:
        return f"another machine has {address}"
    return ""


def _no_events(subject: Subject) -> str:
    return "nothing was ever heard" if subject.events is None else ""


NO_EVENT_CONTAINER: Final = IssueKind(
    id="no-event-container",
    severity=Severity.MAJOR,
    description="machine has no event container",
    remedy="Power the machine on, so that it boots by PXE and says so.",
    details=_no_events,
)
ISSUES: Final[tuple[IssueKind, ...]] = (
    IssueKind(
        id="no-partition",
        severity=Severity.MAJOR,
        description="machine with no partition",
        remedy="Let the machine boot by PXE, and let a BMC agent of its partition report it.",
        details=_no_partition,
    ),
    IssueKind(
        id="liveliness-dead",
        severity=Severity.MAJOR,
        description="the machine is not sending events anymore",
        remedy="Power-cycle the machine; look at its console if that does not help.",
        details=_liveliness("Dead"),
    ),
    IssueKind(
        id="liveliness-unknown",
        severity=Severity.MAJOR,
        description="the machine is not sending LLDP alive messages anymore",
        remedy="Ask its owner whether it is up; see whether its switches report to the API.",
        details=_liveliness("Unknown"),
    ),
    IssueKind(
        id="liveliness-not-available",
        severity=Severity.MINOR,
        description="the machine liveliness is not available",
        remedy="Wait a minute for the liveliness to be judged.",
        details=_no_liveliness,
    ),
    IssueKind(
        id="failed-machine-reclaim",
        severity=Severity.CRITICAL,
        description="machine phones home but not allocated",
        remedy="Reset the machine to PXE; it still runs the system of its last owner.",
        details=_failed_reclaim,
    ),
    IssueKind(
        id="crashloop",
        severity=Severity.MAJOR,
        description="machine is in a provisioning crash loop",
        remedy="Look at its console and its events; reset it when the cause is found.",
        details=_crash_loop,
    ),
    IssueKind(
        id="last-event-error",
        severity=Severity.MINOR,
        description="the machine had an error during the provisioning lifecycle",
        remedy="Read its events; nothing is to be done if it went on since.",
        details=_last_error,
    ),
    IssueKind(
        id="bmc-without-mac",
        severity=Severity.MAJOR,
        description="BMC has no mac address",
        remedy="Let the machine boot by PXE: it reports its BMC when it registers.",
        details=_no_bmc_mac,
    ),
    IssueKind(
        id="bmc-without-ip",
        severity=Severity.MAJOR,
        description="BMC has no ip address",
        remedy="Check the cable of the BMC and that it gets an address by DHCP.",
        details=_no_bmc_ip,
    ),
    IssueKind(
        id="bmc-info-outdated",
        severity=Severity.MAJOR,
        description="BMC has not been updated from either metal-hammer or metal-bmc",
        remedy="Check that the BMC agent of the partition runs and reaches this BMC.",
        details=_bmc_outdated,
    ),
    IssueKind(
        id="asn-not-unique",
        severity=Severity.MINOR,
        description="The ASN is not unique (only impact on firewalls)",
        remedy="Replace one of the firewalls.",
        details=_shared_asn,
    ),
    IssueKind(
        id="bmc-no-distinct-ip",
        severity=Severity.MAJOR,
        description="BMC IP address is not distinct",
        remedy="Check the DHCP leases of the BMC network; one of the BMCs is not where it was.",
        details=_shared_bmc_ip,
    ),
    NO_EVENT_CONTAINER,
)
BY_ID: Final[Mapping[str, IssueKind]] = {kind.id: kind for kind in ISSUES}


def parse_severity(text: str | None) -> Severity:
    """Read a severity; nothing is the least.

    Raises:
        InvalidArgumentError: it is none.
    """
    try:
        return Severity[text.upper()] if text else Severity.MINOR
    except KeyError:
        raise InvalidArgumentError(
            f"severity: {(text or '')[:40]!r} is none", remedy="Give minor, major or critical."
        ) from None


def check_issue_ids(field_name: str, ids: tuple[str, ...]) -> None:
    """Refuse names of issues that do not exist.

    Raises:
        InvalidArgumentError: naming the first that does not.
    """
    for each in ids:
        if each not in BY_ID:
            raise InvalidArgumentError(
                f"{field_name}: there is no issue {each[:60]!r}",
                remedy=f"Name some of {', '.join(BY_ID)}.",
            )


def issues_of(subject: Subject) -> list[IssueKind]:
    """Return what is wrong with a machine; of one that nothing was heard of, only that."""
    if subject.events is None:
        return [NO_EVENT_CONTAINER]
    return [kind for kind in ISSUES if kind.details(subject)]
