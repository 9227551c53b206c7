# SPDX-License-Identifier: Apache-2.0
"""Every state that a machine can get into, by whatever anybody does in whatever order.

The states are found breadth first with the code that serves: `life_cycle`, `provisioning`,
`liveliness`. What a state is here leaves out what decides nothing (times, texts, logs); the time
since the last event is either short, or long enough for everything that waits for time.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Any

import msgspec
import pytest

from metropolis.base.errors import MetropolisError
from metropolis.metal.model.event import Event, EventContainer
from metropolis.metal.model.layout import (
    FilesystemLayoutResponse,
    LayoutConstraints,
    LayoutDisk,
)
from metropolis.metal.model.machine import Allocation, BootInfo, Machine
from metropolis.metal.model.machine_request import MachineStateRequest
from metropolis.metal.rules import life_cycle
from metropolis.metal.rules.explanation import ALLOCATABLE, IN_USE, explain
from metropolis.metal.rules.liveliness import liveliness, resurrection_reason
from metropolis.metal.rules.provisioning import new_container, step
from metropolis.metal.services.machines import empty_machine
from unit.metal.kit import NOW

SOON = timedelta(seconds=30)
LATE = timedelta(hours=2)
LAYOUT = FilesystemLayoutResponse(
    id="default",
    name="",
    description="",
    filesystems=(),
    disks=(LayoutDisk(device="/dev/sda", wipe_on_reinstall=True),),
    raid=(),
    volume_groups=(),
    logical_volumes=(),
    constraints=LayoutConstraints(),
)


@dataclass(frozen=True)
class Node:
    """What decides anything of a machine and its events."""

    machine: Machine
    events: EventContainer

    @property
    def key(self) -> tuple[Any, ...]:
        machine, events, held = self.machine, self.events, self.machine.allocation
        return (
            machine.waiting,
            machine.state.value,
            None if held is None else (held.project_id, held.reinstall, held.succeeded),
            held is not None and held.failure != "",
            held is not None and held.boot_info is not None,
            events.newest,
            events.liveliness,
            events.crash_loop,
            events.failed_machine_reclaim,
        )

    @property
    def owner(self) -> str | None:
        return None if self.machine.allocation is None else self.machine.allocation.project_id

    @property
    def verdict(self) -> str:
        return explain(self.machine, self.events, reachable=True).verdict

    @property
    def name(self) -> str:
        return f"{self.key}"


def now_of(node: Node, elapsed: timedelta) -> datetime:
    return (node.events.last_event_time or NOW) + elapsed


def allocation(project: str) -> Allocation:
    return Allocation(
        uuid="u", project_id=project, role="machine", name="", hostname="metal", created=NOW,
        creator="", networks=(), ssh_pub_keys=(), reinstall=False, succeeded=False, layout=LAYOUT,
    )  # fmt: skip


def event(
    node: Node, told: Event, elapsed: timedelta = SOON, machine: Machine | None = None
) -> Node:
    events, _ = step(node.events, told, now=now_of(node, elapsed))
    return Node(machine or node.machine, events)


def on_machine(change: Callable[[Machine], Machine]) -> Callable[[Node], Node]:
    return lambda node: Node(change(node.machine), node.events)


def free(node: Node) -> Node:
    return event(node, Event.MACHINE_RECLAIM, machine=life_cycle.give_back(node.machine))


def reinstall(node: Node) -> Node:
    again = life_cycle.install_again(node.machine, image_id="new")
    return event(node, Event.PLANNED_REBOOT, machine=again)


def silence(node: Node) -> Node:
    judged = liveliness(node.events, allocated=node.owner is not None, now=now_of(node, LATE))
    return Node(node.machine, msgspec.structs.replace(node.events, liveliness=judged))


def resurrect(node: Node) -> Node:
    allocated = node.owner is not None
    reason = resurrection_reason(node.events, allocated=allocated, now=now_of(node, LATE))
    locked = node.machine.state.value == "LOCKED"
    return node if reason is None or locked else free(node)


def abort(*, wiped: bool) -> Callable[[Machine], Machine]:
    return lambda machine: life_cycle.restore(machine, primary_disk_wiped=wiped) or machine


def aside(value: Any) -> Callable[[Machine], Machine]:
    request = MachineStateRequest(value=value, description="because")
    return lambda machine: life_cycle.set_aside(machine, request, issuer="somebody")


def take(project: str) -> Callable[[Machine], Machine]:
    return lambda machine: life_cycle.take(machine, allocation(project), image_id="image", tags=())


ACTIONS: dict[str, Callable[[Node], Node]] = {
    **{told.value: partial(event, told=told) for told in Event},
    "Phoned Home, late": lambda node: event(node, Event.PHONED_HOME, LATE),
    "silence": silence,
    "resurrection": resurrect,
    "wait": on_machine(life_cycle.offer),
    "stop waiting": on_machine(life_cycle.withdraw),
    "red takes": on_machine(take("red")),
    "blue takes": on_machine(take("blue")),
    "free": free,
    "reinstall": reinstall,
    "installed": on_machine(lambda it: life_cycle.finish_installation(it, BootInfo())),
    "failed": on_machine(lambda it: life_cycle.fail_installation(it, "no space")),
    "abort, disk kept": on_machine(abort(wiped=False)),
    "abort, disk wiped": on_machine(abort(wiped=True)),
    "reset": lambda node: event(node, Event.PLANNED_REBOOT),
    "lock": on_machine(aside("LOCKED")),
    "reserve": on_machine(aside("RESERVED")),
    "release": on_machine(aside("")),
}


def moves(node: Node) -> Iterator[tuple[str, Node]]:
    """What anybody can do here, and where that leads; what is refused leads nowhere."""
    for name, act in ACTIONS.items():
        with contextlib.suppress(MetropolisError):
            yield name, act(node)


@cache
def graph() -> tuple[dict[Any, Node], dict[Any, list[tuple[str, Any]]]]:
    """All states, and all moves between them."""
    machine = msgspec.structs.replace(
        empty_machine("m", partition_id="muc", now=NOW), size_id="medium"
    )
    first = Node(machine, new_container("m"))
    nodes = {first.key: first}
    edges: dict[Any, list[tuple[str, Any]]] = {}
    queue = deque([first])
    while queue:
        node = queue.popleft()
        edges[node.key] = []
        for name, after in moves(node):
            edges[node.key].append((name, after.key))
            if after.key not in nodes:
                nodes[after.key] = after
                queue.append(after)
    return nodes, edges


def reaching(goal: Callable[[Node], bool], allowed: set[str]) -> set[Any]:
    """The states from which a goal can be reached by some of the moves."""
    nodes, edges = graph()
    back: dict[Any, list[Any]] = {}
    for key, found in edges.items():
        for name, after in found:
            if name in allowed:
                back.setdefault(after, []).append(key)
    done = {key for key, node in nodes.items() if goal(node)}
    queue = deque(done)
    while queue:
        for key in back.get(queue.popleft(), ()):
            if key not in done:
                done.add(key)
                queue.append(key)
    return done


def test_the_model_is_large_enough_to_mean_something() -> None:
    nodes, edges = graph()
    assert len(nodes) > 3_000
    assert sum(map(len, edges.values())) > 60_000
    assert {node.verdict for node in nodes.values()} >= {ALLOCATABLE, IN_USE}


def test_nobody_takes_a_machine_from_somebody() -> None:
    nodes, edges = graph()
    for key, found in edges.items():
        before = nodes[key].owner
        for name, after_key in found:
            after = nodes[after_key].owner
            if before != after:
                assert (before is None) != (after is None), (name, nodes[key].name)
                assert name in {"red takes", "blue takes", "free"}, (name, nodes[key].name)


def test_a_locked_machine_stays_whose_it_is() -> None:
    nodes, edges = graph()
    for key, found in edges.items():
        if nodes[key].machine.state.value == "LOCKED":
            assert {nodes[after].owner for _, after in found} == {nodes[key].owner}


def test_only_what_waits_is_alive_and_is_nobodys_is_called_allocatable() -> None:
    for node in graph()[0].values():
        good = node.machine.candidate and node.events.liveliness == "Alive"
        assert (node.verdict == ALLOCATABLE) == good, node.name


def test_only_what_is_installed_and_phones_home_is_called_in_use() -> None:
    for node in graph()[0].values():
        held = node.machine.allocation
        good = (
            held is not None
            and held.succeeded
            and not held.reinstall
            and node.events.newest is Event.PHONED_HOME
            and node.events.liveliness == "Alive"
        )
        assert (node.verdict == IN_USE) == good, node.name


def test_no_machine_is_stuck_without_a_reason_and_a_remedy() -> None:
    for node in graph()[0].values():
        for reachable in (True, False):
            said = explain(node.machine, node.events, reachable=reachable)
            fine = said.verdict in {ALLOCATABLE, IN_USE}
            assert fine == (said.obstacles == ()), node.name
            assert all(each.reason and each.remedy for each in said.obstacles), node.name


@pytest.mark.parametrize("verdict", [ALLOCATABLE, IN_USE])
def test_from_every_state_there_is_a_way_to_be_useful(verdict: str) -> None:
    nodes, _ = graph()
    found = reaching(lambda node: node.verdict == verdict, set(ACTIONS))
    assert [nodes[key].name for key in nodes if key not in found] == []


def test_a_free_machine_that_boots_comes_back_by_itself() -> None:
    """Without anybody's help: what the machine does, what time does, and the jobs."""
    nodes, _ = graph()
    alone = {told.value for told in Event} | {
        "Phoned Home, late", "silence", "resurrection", "wait", "stop waiting",
    }  # fmt: skip
    found = reaching(lambda node: node.verdict == ALLOCATABLE, alone)
    stuck = [
        node.name
        for key, node in nodes.items()
        if key not in found and node.owner is None and node.machine.state.value == ""
    ]
    assert stuck == []


def test_a_crash_loop_is_never_forever() -> None:
    nodes, _ = graph()
    found = reaching(lambda node: not node.events.crash_loop, {told.value for told in Event})
    assert set(nodes) == found
