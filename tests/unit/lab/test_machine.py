# SPDX-License-Identifier: Apache-2.0
"""A machine of the rack, in virtual time: switch, reboots, shutdown."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest

from metropolis.host import Process, ProcessSpec
from metropolis.host.sim.clock import SimClock
from metropolis.host.sim.processes import SimProcesses, SimProgram
from metropolis.lab.console import ConsoleLog, last_lines
from metropolis.lab.machine import SHUTDOWN_S, Machine, Power, Wiring
from metropolis.sim import simulate
from metropolis.supervision import LogTree, Supervisor


@dataclass
class Node:
    """What process 1 does, and when it was started."""

    life: Callable[[SimProgram], Awaitable[int]]
    starts_s: list[float] = field(default_factory=list)

    async def __call__(self, program: SimProgram) -> int:
        self.starts_s.append(asyncio.get_running_loop().time())
        return await self.life(program)


async def runs_forever(program: SimProgram) -> int:
    program.say("hello")
    await asyncio.get_running_loop().create_future()
    return 0


async def ends_at_once(_program: SimProgram) -> int:
    return 7


async def ends_after_a_minute(_program: SimProgram) -> int:
    await asyncio.sleep(60)
    return 0


async def ignores_signals(program: SimProgram) -> int:
    program.ignores_sigterm = True
    return await runs_forever(program)


def with_machine(
    console: Path,
    node: Node,
    scenario: Callable[[Machine], Awaitable[None]],
    *,
    power: Power = Power.ON,
    **wiring: Any,
) -> None:
    async def run() -> None:
        clock = SimClock()
        machine = Machine(
            Wiring(spec=lambda boot: ProcessSpec(argv=("node", str(boot))), **wiring),
            processes=SimProcesses({"node": node}),
            clock=clock,
            console=ConsoleLog(console),
            power=power,
        )
        tree = Supervisor(machine.run, log_tree=LogTree(clock=clock), clock=clock, rng=Random(1))
        async with asyncio.TaskGroup() as tasks:
            life = tasks.create_task(tree.run())
            await scenario(machine)
            life.cancel()

    simulate(run, seed=1)


def test_a_machine_that_is_off_stays_off_until_the_switch_is_pressed(tmp_path: Path) -> None:
    node = Node(runs_forever)

    async def scenario(machine: Machine) -> None:
        await asyncio.sleep(100)
        assert machine.status.boots == 0
        await machine.switch_on()
        assert machine.status.is_running
        await asyncio.sleep(5)
        assert machine.status.running_s == pytest.approx(5)

    with_machine(tmp_path / "console.log", node, scenario, power=Power.OFF)
    assert node.starts_s == [100]
    assert last_lines(tmp_path / "console.log", 9) == ("hello",)


def test_process_1_ending_is_a_reboot_ever_slower_while_it_keeps_ending(tmp_path: Path) -> None:
    node = Node(ends_at_once)

    async def scenario(machine: Machine) -> None:
        await asyncio.sleep(30)
        assert machine.status.last_exit == 7
        assert machine.status.power is Power.ON

    with_machine(tmp_path / "c", node, scenario)
    waits = [round(b - a, 3) for a, b in zip(node.starts_s, node.starts_s[1:], strict=False)]
    assert waits == [0.5, 1, 2, 4, 8, 10]


def test_after_a_steady_run_the_first_reboot_is_quick_again(tmp_path: Path) -> None:
    node = Node(ends_after_a_minute)

    async def scenario(_machine: Machine) -> None:
        await asyncio.sleep(200)

    with_machine(tmp_path / "c", node, scenario)
    assert node.starts_s == pytest.approx([0, 60.5, 121, 181.5], abs=0.01)


def test_the_switch_ends_the_wait_of_a_crash_loop(tmp_path: Path) -> None:
    node = Node(ends_at_once)

    async def scenario(machine: Machine) -> None:
        await asyncio.sleep(17)  # in the wait of 10 s
        node.life = runs_forever
        await machine.switch_off(is_orderly=False)
        await machine.switch_on()
        await asyncio.sleep(0.1)  # a process exists before its program has begun
        assert node.starts_s[-1] == 17

    with_machine(tmp_path / "c", node, scenario)


def test_an_orderly_shutdown_is_no_reboot(tmp_path: Path) -> None:
    node = Node(runs_forever)

    async def scenario(machine: Machine) -> None:
        await asyncio.sleep(1)
        await machine.switch_off(is_orderly=True)
        assert machine.status.last_exit == 128 + 15
        await asyncio.sleep(100)
        assert not machine.status.is_running

    with_machine(tmp_path / "c", node, scenario)
    assert len(node.starts_s) == 1


def test_a_machine_that_ignores_its_shutdown_loses_its_power(tmp_path: Path) -> None:
    async def scenario(machine: Machine) -> None:
        await asyncio.sleep(1)
        await machine.switch_off(is_orderly=True)
        assert machine.status.last_exit == 128 + 9
        assert asyncio.get_running_loop().time() == pytest.approx(1 + SHUTDOWN_S, abs=0.6)

    with_machine(tmp_path / "c", Node(ignores_signals), scenario)


def test_a_power_cut_and_on_again_starts_anew_at_once(tmp_path: Path) -> None:
    node = Node(runs_forever)

    async def scenario(machine: Machine) -> None:
        await asyncio.sleep(1)
        await machine.switch_off(is_orderly=False)
        assert machine.status.last_exit == 128 + 9
        await machine.switch_on()
        assert machine.status.boots == 2

    with_machine(tmp_path / "c", node, scenario)
    assert node.starts_s == [0, 1]


def is_zero(code: int) -> bool:
    return code == 0


async def switches_itself_off(_program: SimProgram) -> int:
    await asyncio.sleep(5)
    return 0


def test_a_machine_that_switched_itself_off_stays_off(tmp_path: Path) -> None:
    node = Node(switches_itself_off)

    async def scenario(machine: Machine) -> None:
        await asyncio.sleep(100)
        assert machine.status.power is Power.OFF
        assert node.starts_s == [0]
        await machine.switch_on()
        await asyncio.sleep(1)
        assert machine.status.is_running

    with_machine(tmp_path / "c", node, scenario, is_power_off=is_zero)


def test_reboots_that_the_process_survives_are_boots_too(tmp_path: Path) -> None:
    async def resets_twice(on_reset: Callable[[], None]) -> None:
        for _ in range(2):
            await asyncio.sleep(1)
            on_reset()

    async def scenario(machine: Machine) -> None:
        await asyncio.sleep(10)
        assert (machine.status.starts, machine.status.boots) == (1, 3)

    with_machine(tmp_path / "c", Node(runs_forever), scenario, watch=resets_twice)


def test_the_button_is_pressed_until_the_machine_is_off(tmp_path: Path) -> None:
    presses: list[float] = []

    async def press_button(process: Process) -> None:
        presses.append(asyncio.get_running_loop().time())
        if len(presses) == 3:
            process.terminate()

    async def scenario(machine: Machine) -> None:
        await asyncio.sleep(1)
        await machine.switch_off(is_orderly=True)
        assert len(presses) == 3
        assert presses[-1] - presses[0] <= 2

    with_machine(tmp_path / "c", Node(runs_forever), scenario, press_button=press_button)


def test_a_machine_that_can_be_put_away_is_not_asked_to_shut_down(tmp_path: Path) -> None:
    done: list[str] = []

    async def put_away() -> None:
        done.append("put away")

    async def press_button(_process: Process) -> None:
        done.append("pressed")

    async def scenario(machine: Machine) -> None:
        await asyncio.sleep(1)
        await machine.put_away()
        assert not machine.status.is_running
        assert done == ["put away"]
        await machine.put_away()  # off already
        assert done == ["put away"]

    node = Node(runs_forever)
    with_machine(tmp_path / "c", node, scenario, put_away=put_away, press_button=press_button)


def test_a_machine_that_cannot_be_put_away_is_shut_down_with_its_rack(tmp_path: Path) -> None:
    async def scenario(machine: Machine) -> None:
        await asyncio.sleep(1)
        await machine.put_away()
        assert machine.status.last_exit == 128 + 15

    with_machine(tmp_path / "c", Node(runs_forever), scenario)
