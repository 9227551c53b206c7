# SPDX-License-Identifier: Apache-2.0
"""Talking to a keeper: answers, refusals, and requests that are none."""

import asyncio
import contextlib
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metropolis.base.errors import NotFoundError, UnavailableError
from metropolis.host.linux.clock import LinuxClock
from metropolis.lab.control import LINE_BYTES_MAX, connect_keeper, serve_control
from metropolis.supervision import Context, LogTree, Supervisor


async def handle(request: Mapping[str, Any]) -> Mapping[str, Any]:
    if request.get("command") == "echo":
        return {"said": request["text"]}
    raise NotFoundError("no such thing", remedy="Ask for another.")


def with_keeper(directory: Path, scenario: Callable[[Path], Awaitable[None]]) -> None:
    """Serve in a directory whose path is longer than a unix socket's may be."""
    home = directory / ("x" * 60) / ("y" * 60)
    home.mkdir(parents=True, exist_ok=True)

    async def run() -> None:
        serving = asyncio.Event()

        async def control(ctx: Context) -> None:
            await serve_control(ctx, socket_name="k", handler=handle, serving=serving.set)

        clock = LinuxClock()
        tree = Supervisor(control, log_tree=LogTree(clock=clock), clock=clock, rng=Random(1))
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            life = tasks.create_task(tree.run())
            await serving.wait()
            await scenario(home / "k")
            life.cancel()

    before = Path.cwd()
    os.chdir(home)
    try:
        asyncio.run(run())
    finally:
        os.chdir(before)


def test_one_conversation_carries_many_requests_and_refusals(tmp_path: Path) -> None:
    async def scenario(path: Path) -> None:
        assert path.stat().st_mode & 0o777 == 0o600
        async with connect_keeper(path) as keeper:
            assert await keeper.call("echo", text="hello") == {"said": "hello"}
            with pytest.raises(NotFoundError, match="no such thing") as caught:
                await keeper.call("other")
            assert caught.value.remedy == "Ask for another."
            assert await keeper.call("echo", text="again") == {"said": "again"}

    with_keeper(tmp_path, scenario)


def test_a_keeper_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    async def scenario() -> None:
        with pytest.raises(UnavailableError, match="not running"):
            async with connect_keeper(tmp_path / "k"):
                pass

    asyncio.run(scenario())


def test_an_endless_line_ends_the_conversation_and_nothing_else(tmp_path: Path) -> None:
    async def scenario(path: Path) -> None:
        reader, writer = await asyncio.open_unix_connection("k")
        writer.write(bytes(LINE_BYTES_MAX * 4))
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        async with connect_keeper(path) as keeper:
            assert await keeper.call("echo", text="alive") == {"said": "alive"}

    with_keeper(tmp_path, scenario)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.binary(max_size=60).filter(lambda line: b"\n" not in line), max_size=5))
def test_every_line_gets_one_answer_whatever_it_is(tmp_path: Path, lines: list[bytes]) -> None:
    async def scenario(_path: Path) -> None:
        reader, writer = await asyncio.open_unix_connection("k")
        for line in lines:
            writer.write(line + b"\n")
            answer = json.loads(await reader.readline())
            assert answer["ok"] is False
            assert answer["remedy"]
        writer.close()

    with_keeper(tmp_path, scenario)


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    async def scenario(_path: Path) -> None:
        reader, writer = await asyncio.open_unix_connection("k")
        writer.write(b"[" * 50_000 + b"\n")
        assert json.loads(await reader.readline())["code"] == "invalid-argument"
        writer.close()

    with_keeper(tmp_path, scenario)
