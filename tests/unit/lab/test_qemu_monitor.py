# SPDX-License-Identifier: Apache-2.0
"""QEMU's control socket, against a QEMU of the test's own."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from metropolis.base.errors import InternalError, UnavailableError
from metropolis.lab.qemu.monitor import Monitor, connect_monitor

GREETING: Mapping[str, Any] = {"QMP": {"version": {}, "capabilities": []}}


@dataclass
class Qemu:
    """Answers every command from a list, its last answer for ever; {} if it has none."""

    answers: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    heard: list[Mapping[str, Any]] = field(default_factory=list)
    events: list[Mapping[str, Any]] = field(default_factory=list)
    goes_away_at: str = ""
    is_gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
        finally:
            writer.close()
            self.is_gone.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._say(writer, GREETING)
        while line := await reader.readline():
            request = json.loads(line)
            self.heard.append(request)
            if request["execute"] == self.goes_away_at:
                break
            for event in self.events:
                self._say(writer, event)
            prepared = self.answers.get(request["execute"], [{"return": {}}])
            self._say(writer, prepared.pop(0) if len(prepared) > 1 else prepared[0])

    def commands(self) -> list[str]:
        return [each["execute"] for each in self.heard]

    @staticmethod
    def _say(writer: asyncio.StreamWriter, words: Mapping[str, Any]) -> None:
        writer.write(json.dumps(words).encode() + b"\r\n")


def with_qemu(
    directory: Path,
    qemu: Qemu,
    scenario: Callable[[Monitor], Awaitable[None]],
    on_event: Callable[[str, Mapping[str, Any]], None] = lambda _name, _data: None,
) -> None:
    async def run() -> None:
        server = await asyncio.start_unix_server(qemu.serve, directory / "m")
        async with server, connect_monitor(directory / "m", on_event) as monitor:
            await scenario(monitor)
        await qemu.is_gone.wait()
        await asyncio.sleep(0)  # sockets close in the loop's next turn

    asyncio.run(run())


def test_events_between_answers_go_elsewhere(tmp_path: Path) -> None:
    seen: list[tuple[str, Mapping[str, Any]]] = []
    qemu = Qemu(
        answers={"query-status": [{"return": {"status": "running"}}]},
        events=[{"event": "RESET", "data": {"guest": True}}, {"event": "RESUME"}],
    )

    async def scenario(monitor: Monitor) -> None:
        assert await monitor.execute("query-status") == {"status": "running"}
        await monitor.press_power_button()
        await monitor.reset()

    with_qemu(tmp_path, qemu, scenario, on_event=lambda name, data: seen.append((name, data)))
    assert seen[:2] == [("RESET", {"guest": True}), ("RESUME", {})]
    assert qemu.commands() == [
        "qmp_capabilities",
        "query-status",
        "system_powerdown",
        "system_reset",
    ]


def test_a_refusal_says_why(tmp_path: Path) -> None:
    refusal = {"error": {"class": "GenericError", "desc": "no such device"}}

    async def scenario(monitor: Monitor) -> None:
        with pytest.raises(InternalError, match="no such device"):
            await monitor.execute("device_del", id="x")

    with_qemu(tmp_path, Qemu(answers={"device_del": [refusal]}), scenario)


def test_a_machine_that_goes_away_answers_nobody(tmp_path: Path) -> None:
    async def scenario(monitor: Monitor) -> None:
        with pytest.raises(UnavailableError, match="does not answer"):
            await monitor.press_power_button()
        await monitor.closed()

    with_qemu(tmp_path, Qemu(goes_away_at="system_powerdown"), scenario)


def test_a_machine_without_a_monitor_is_unavailable(tmp_path: Path) -> None:
    async def run() -> None:
        async with connect_monitor(tmp_path / "nobody"):
            raise AssertionError("nobody is there")

    with pytest.raises(UnavailableError):
        asyncio.run(run())


def test_freezing_stops_the_machine_before_its_memory_is_written(tmp_path: Path) -> None:
    path = tmp_path / "it's memory"
    qemu = Qemu(
        answers={
            "query-migrate": [
                {"return": {"status": "setup"}},
                {"return": {"status": "active"}},
                {"return": {"status": "completed"}},
            ]
        }
    )

    async def scenario(monitor: Monitor) -> None:
        await monitor.freeze(path)

    with_qemu(tmp_path, qemu, scenario)
    assert qemu.commands()[1:4] == ["stop", "migrate-set-parameters", "migrate"]
    (where,) = (each["arguments"]["uri"] for each in qemu.heard if each["execute"] == "migrate")
    assert where.startswith("exec:umask 077; exec cat > ")
    assert where.endswith("""it'"'"'s memory'""")


def test_memory_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    failure = {"return": {"status": "failed", "error-desc": "No space left"}}

    async def scenario(monitor: Monitor) -> None:
        with pytest.raises(UnavailableError, match="No space left"):
            await monitor.freeze(tmp_path / "memory")

    with_qemu(tmp_path, Qemu(answers={"query-migrate": [failure]}), scenario)


@pytest.mark.parametrize(
    ("states", "goes_on"), [(["inmigrate", "inmigrate", "paused"], True), (["running"], False)]
)
def test_only_a_frozen_machine_is_thawed(
    tmp_path: Path, states: list[str], *, goes_on: bool
) -> None:
    qemu = Qemu(answers={"query-status": [{"return": {"status": state}} for state in states]})

    async def scenario(monitor: Monitor) -> None:
        await monitor.thaw()

    with_qemu(tmp_path, qemu, scenario)
    assert ("cont" in qemu.commands()) is goes_on
