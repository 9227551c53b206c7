# SPDX-License-Identifier: Apache-2.0
"""How much of a partition is free, and for whom; what reservations and partitions may say."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.model.event import Event, EventContainer, ProvisioningEvent
from metropolis.metal.model.hardware import Bios, Hardware
from metropolis.metal.model.machine import Allocation, LedState, Machine, MachineState
from metropolis.metal.model.partition import DNSServer, NTPServer, Partition, ServerCapacity
from metropolis.metal.model.reservation import Reservation
from metropolis.metal.rules import partitions, reservations
from metropolis.metal.rules.capacity import Server, capacity

LONGEST = ".".join(["a" * 50] * 4 + ["b" * 49])  # 253 characters
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def server(
    name: str = "m",
    *,
    size: str = "c1",
    project: str = "",
    event: Event | None = Event.WAITING,
    alive: bool = True,
    waiting: bool = True,
    state: Any = "",
    faulty: bool = False,
) -> Server:
    allocation = Allocation(
        uuid="u", project_id=project, role="machine", name="", hostname="h", created=NOW,
        creator="", networks=(), ssh_pub_keys=(), reinstall=False, succeeded=False,
    )  # fmt: skip
    machine = Machine(
        id=name, partition_id="p", size_id=size, image_id="", waiting=waiting, created=NOW,
        changed=NOW, hardware=Hardware(), bios=Bios(), state=MachineState(value=state),
        ledstate=LedState(), tags=(), allocation=allocation if project else None,
    )  # fmt: skip
    log = () if event is None else (ProvisioningEvent(event=event.value, time=NOW),)
    events = EventContainer(
        id=name,
        liveliness="Alive" if alive else "Dead",
        crash_loop=False,
        failed_machine_reclaim=False,
        log=log,
    )
    return Server(machine=machine, events=events, faulty=faulty)


def reserved(amount: int, project: str = "other", size: str = "c1") -> Reservation:
    return Reservation(size_id=size, project_id=project, partition_ids=("p",), amount=amount)


def one(*args: Any, **more: Any) -> ServerCapacity:
    (row,) = capacity(*args, **more)
    return row


def test_every_machine_is_counted_once_by_what_may_be_done_with_it() -> None:
    row = one(
        [
            server("free"),
            server("mine", project="p1", event=Event.PHONED_HOME),
            server("locked", state="LOCKED"),
            server("dead", alive=False, event=Event.CRASHED, faulty=True),
            server("booting", waiting=False, event=Event.PXE_BOOTING),
            server("silent", waiting=False, event=None),
        ],
        [],
    )
    assert row == ServerCapacity(
        size="c1",
        total=6,
        allocated=1,
        allocatable=1,
        free=1,
        unavailable=4,
        phoned_home=1,
        waiting=2,
        other=3,
        other_machines=("booting", "dead", "silent"),
        faulty=1,
        faulty_machines=("dead",),
    )


def test_sizes_are_counted_apart_and_no_size_is_unknown() -> None:
    rows = capacity([server(size="c2"), server(size=""), server(size="c1")], [])
    assert [row.size for row in rows] == ["c1", "c2", "unknown"]


def test_what_others_reserved_and_do_not_use_is_not_free() -> None:
    servers = [server(f"free-{n}") for n in range(5)] + [server("theirs", project="other")]
    row = one(servers, [reserved(3)])
    assert (row.allocatable, row.free) == (5, 3)
    assert (row.reservations, row.used_reservations, row.remaining_reservations) == (3, 1, 2)


def test_what_i_reserved_is_free_for_me() -> None:
    row = one([server("free")], [reserved(1, "me")], project_id="me")
    assert row.free == 1
    assert one([server("free")], [reserved(1, "me")]).free == 0


def test_less_than_nothing_is_not_free() -> None:
    assert one([server()], [reserved(9)]).free == 0


def test_two_reservations_of_one_project_are_not_used_by_the_same_machine() -> None:
    row = one([server("theirs", project="other")], [reserved(1), reserved(1)])
    assert (row.reservations, row.used_reservations, row.remaining_reservations) == (2, 1, 1)


def test_a_reservation_of_what_a_partition_does_not_have_is_shown() -> None:
    row = one([], [reserved(2, size="c9")])
    assert (row.size, row.total, row.remaining_reservations) == ("c9", 0, 2)


servers = st.lists(
    st.builds(
        server,
        project=st.sampled_from(["", "", "p1", "p2"]),
        event=st.sampled_from([*Event, None]),
        alive=st.booleans(),
        waiting=st.booleans(),
        state=st.sampled_from(["", "LOCKED", "RESERVED"]),
    ),
    max_size=8,
)
promises = st.lists(
    st.builds(reserved, st.integers(1, 5), st.sampled_from(["p1", "p2", "p3"])), max_size=3
)


@given(servers, promises, st.sampled_from(["", "p1", "p3"]))
def test_the_sums_add_up(machines: list[Server], reservations: list[Reservation], who: str) -> None:
    for row in capacity(machines, reservations, project_id=who):
        assert row.total == row.allocated + row.allocatable + row.unavailable
        assert row.total == row.phoned_home + row.waiting + row.other
        assert 0 <= row.free <= row.allocatable
        assert row.reservations == row.used_reservations + row.remaining_reservations
        assert 0 <= row.used_reservations <= row.allocated


@pytest.mark.parametrize(
    ("reservation", "message"),
    [
        (reserved(0), "amount"),
        (reserved(-1), "amount"),
        (Reservation(size_id="c", project_id="p", partition_ids=(), amount=1), "at least one"),
        (
            Reservation(size_id="c", project_id="p", partition_ids=("a", "a"), amount=1),
            "2 times",
        ),
    ],
)
def test_a_reservation_that_promises_nothing_is_refused(
    reservation: Reservation, message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        reservations.validate(reservation)


def test_a_reservation_of_one_machine_in_each_of_two_partitions_is_good() -> None:
    reservations.validate(
        Reservation(size_id="c", project_id="p", partition_ids=("a", "b"), amount=1)
    )


@pytest.mark.parametrize(
    "partition",
    [
        Partition(dns_servers=tuple(DNSServer(ip=f"10.0.0.{n}") for n in range(4))),
        Partition(dns_servers=(DNSServer(ip="dns.example"),)),
        Partition(dns_servers=(DNSServer(ip="fe80::1%eth0"),)),
        Partition(ntp_servers=tuple(NTPServer(address=f"10.0.0.{n}") for n in range(6))),
        Partition(ntp_servers=(NTPServer(address="not a name"),)),
        Partition(ntp_servers=(NTPServer(address="10.0.0.300"),)),
        Partition(ntp_servers=(NTPServer(address=""),)),
        Partition(management_address="console.example"),
        Partition(management_address="console.example:0"),
        Partition(management_address="console.example:70000"),
        Partition(management_address="2001:db8::1:50005"),
        Partition(management_address=":50005"),
        Partition(management_address="console.example:65536"),
        Partition(management_address="console.example:1234567"),
        Partition(management_address="[2001:db8::1:50005"),
        Partition(management_address="2001:db8::1]:50005"),
        Partition(ntp_servers=(NTPServer(address=LONGEST + "x"),)),
    ],
)
def test_a_partition_with_servers_that_cannot_be_is_refused(partition: Partition) -> None:
    with pytest.raises(InvalidArgumentError, match=r"dns_servers|ntp_servers|mgmtserviceaddress"):
        partitions.validate(partition)


@pytest.mark.parametrize(
    "partition",
    [
        Partition(),
        Partition(dns_servers=(DNSServer(ip="2001:db8::1"), DNSServer(ip="10.0.0.1"))),
        Partition(ntp_servers=(NTPServer(address="0.pool.ntp.example"), NTPServer(address="::1"))),
        Partition(management_address="[2001:db8::1]:50005"),
        Partition(management_address="10.0.0.1:50005"),
        Partition(management_address="console.example:65535"),
        Partition(management_address="console.example:1"),
        Partition(dns_servers=tuple(DNSServer(ip=f"10.0.0.{n}") for n in range(3))),
        Partition(ntp_servers=tuple(NTPServer(address=f"10.0.0.{n}") for n in range(5))),
        Partition(ntp_servers=(NTPServer(address=LONGEST),)),
    ],
)
def test_a_partition_with_servers_that_can_be_is_good(partition: Partition) -> None:
    partitions.validate(partition)
