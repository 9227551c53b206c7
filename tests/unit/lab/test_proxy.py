# SPDX-License-Identifier: Apache-2.0
"""The proxy over loopback: relaying, half-closed connections, limits, hostile clients."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from random import Random

import pytest

from metropolis.host.linux.clock import LinuxClock
from metropolis.lab import proxy as proxy_module
from metropolis.lab.proxy import Proxy, open_listener
from metropolis.lab.socks5 import Reply, Rules, encode_reply
from metropolis.supervision import LogTree, Supervisor

HELLO = b"\x05\x01\x00"
WELCOME = b"\x05\x00"
BIG = bytes(range(256)) * 16 * 1024  # 4 MiB


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send everything back, and end when the other side has ended."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write(b"!")
    except OSError:
        pass
    finally:
        writer.close()


def with_proxy(
    scenario: Callable[[int, int], Awaitable[None]],
    *,
    server: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]] = echo,
    has_power: bool = True,
) -> None:
    """Run a scenario with the proxy's port and that of a server that it may dial."""

    async def run() -> None:
        running = await asyncio.start_server(server, "127.0.0.1", 0)
        target = running.sockets[0].getsockname()[1]
        listener = open_listener(0)
        rules = Rules(addresses={"127.0.0.1": "127.0.0.1"}, tcp_ports=frozenset({target, 1}))
        proxy = Proxy(listener, lambda: rules, is_on=lambda _address: has_power)
        clock = LinuxClock()
        tree = Supervisor(proxy.run, log_tree=LogTree(clock=clock), clock=clock, rng=Random(1))
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks, running:
            life = tasks.create_task(tree.run())
            try:
                await scenario(listener.getsockname()[1], target)
            finally:
                life.cancel()
                listener.close()

    asyncio.run(run())


def connect_request(port: int) -> bytes:
    return b"\x05\x01\x00\x01\x7f\x00\x00\x01" + port.to_bytes(2, "big")


async def connected(
    proxy: int, target: int, *, early: bytes = b""
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy)
    writer.write(HELLO)
    assert await reader.readexactly(2) == WELCOME
    writer.write(connect_request(target) + early)
    assert await reader.readexactly(10) == encode_reply(Reply.SUCCEEDED)
    return reader, writer


def test_a_half_closed_connection_still_carries_the_answer() -> None:
    async def scenario(proxy: int, target: int) -> None:
        reader, writer = await connected(proxy, target)
        writer.write(b"question")
        writer.write_eof()
        assert await reader.read() == b"question!"
        writer.close()

    with_proxy(scenario)


def test_megabytes_pass_both_ways_unchanged_with_a_slow_reader() -> None:
    async def scenario(proxy: int, target: int) -> None:
        reader, writer = await connected(proxy, target)

        async def send() -> None:
            writer.write(BIG)
            await writer.drain()
            writer.write_eof()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(send())
            got = bytearray()
            while data := await reader.read(4096):
                got += data
        assert bytes(got) == BIG + b"!"
        writer.close()

    with_proxy(scenario)


def test_bytes_sent_before_the_answer_arrive() -> None:
    async def scenario(proxy: int, target: int) -> None:
        reader, writer = await connected(proxy, target, early=b"eager")
        writer.write_eof()
        assert await reader.read() == b"eager!"
        writer.close()

    with_proxy(scenario)


def test_a_client_that_ends_before_the_answer_still_gets_it() -> None:
    async def scenario(proxy: int, target: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy)
        writer.write(HELLO + connect_request(target) + b"all")
        writer.write_eof()
        assert await reader.read() == WELCOME + encode_reply(Reply.SUCCEEDED) + b"all!"
        writer.close()

    with_proxy(scenario)


def test_a_port_nobody_listens_on_is_reported_as_refused() -> None:
    async def scenario(proxy: int, _target: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy)
        writer.write(HELLO + connect_request(1))
        assert await reader.read() == WELCOME + encode_reply(Reply.CONNECTION_REFUSED)
        writer.close()

    with_proxy(scenario)


def test_a_machine_without_power_is_unreachable_at_once() -> None:
    async def scenario(proxy: int, target: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy)
        writer.write(HELLO + connect_request(target))
        assert await reader.read() == WELCOME + encode_reply(Reply.HOST_UNREACHABLE)
        writer.close()

    with_proxy(scenario, has_power=False)


def test_a_port_outside_the_rules_is_not_dialled() -> None:
    async def scenario(proxy: int, _target: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy)
        writer.write(HELLO + connect_request(22))
        assert await reader.read() == WELCOME + encode_reply(Reply.NOT_ALLOWED)
        writer.close()

    with_proxy(scenario)


def test_a_server_that_hangs_up_hard_ends_the_client() -> None:
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async def scenario(proxy: int, target: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy)
        writer.write(HELLO + connect_request(target))
        with contextlib.suppress(ConnectionResetError):  # either way it ends
            await reader.read()
        writer.close()

    with_proxy(scenario, server=hang_up)


def test_a_silent_client_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_module, "HANDSHAKE_TIMEOUT_S", 0.05)

    async def scenario(proxy: int, _target: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy)
        writer.write(HELLO)
        assert await reader.readexactly(2) == WELCOME
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()

    with_proxy(scenario)


def test_one_client_too_many_is_turned_away_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(proxy_module, "CONNECTIONS_MAX", 2)

    async def scenario(proxy: int, target: int) -> None:
        first = await connected(proxy, target)
        second = await connected(proxy, target)
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        for each_reader, each_writer in (first, second):
            each_writer.write(b"x")
            each_writer.write_eof()
            assert await each_reader.read() == b"x!"
            each_writer.close()
        third = await connected(proxy, target)
        third[1].close()

    with_proxy(scenario)


def test_a_taken_port_is_replaced_by_a_free_one() -> None:
    first = open_listener(0)
    taken = first.getsockname()[1]
    second = open_listener(taken)
    assert second.getsockname()[1] != taken
    first.close()
    second.close()
