# SPDX-License-Identifier: Apache-2.0
"""What one peer can take from a server, and where that ends. On real sockets, both loops."""

import asyncio
import resource
import socket

import h2.events
import h2.settings
import pytest

from contract.rpc import kit
from contract.rpc.kit import HELLO, NODE_ID, RawPeer, ask, framed, outcome, serving, still_serves
from metropolis.rpc.limits import Limits

pytestmark = pytest.mark.parametrize("loop", kit.LOOPS)

MIB = 1 << 20


# Floods


def test_a_reset_flood_ends_the_connection_that_makes_it(loop: str) -> None:
    async def scenario() -> None:
        async with serving(limits=Limits(resets=100)) as here:
            async with here.raw() as peer:
                await peer.begin_h2()
                for _ in range(150):
                    stream = await peer.request(body=HELLO, is_last=False)
                    peer.h2.reset_stream(stream)
                await peer.flush_h2()
                goodbye = await peer.event(h2.events.ConnectionTerminated)
                assert goodbye.error_code == 11  # ENHANCE_YOUR_CALM
                await peer.wait_closed()
            assert await still_serves(here)

    kit.run(scenario, loop)


def test_a_client_that_cancels_now_and_then_is_left_alone(loop: str) -> None:
    async def scenario() -> None:
        async with serving(limits=Limits(resets=10, window_s=0.2)) as here, here.raw() as peer:
            await peer.begin_h2()
            for _ in range(3):
                for _ in range(8):
                    stream = await peer.request(kit.DOWN.path, HELLO)
                    await peer.event(h2.events.DataReceived)
                    peer.h2.reset_stream(stream)
                await asyncio.sleep(0.25)  # another window
            await peer.request(body=HELLO)
            assert (await outcome(peer))["grpc-status"] == "0"

    kit.run(scenario, loop)


def test_a_ping_flood_ends_the_connection_and_pings_without_streams_do_not(loop: str) -> None:
    async def scenario() -> None:
        async with serving(limits=Limits(control_frames=50)) as here:
            async with here.raw() as peer:
                await peer.begin_h2()
                for _ in range(20):
                    peer.h2.ping(b"12345678")
                    await peer.flush_h2()
                    assert await peer.event(h2.events.PingAckReceived) is not None
                for _ in range(100):
                    peer.h2.ping(b"12345678")
                await peer.flush_h2()
                assert await peer.event(h2.events.ConnectionTerminated) is not None
            assert await still_serves(here)

    kit.run(scenario, loop)


def test_a_peer_that_asks_and_never_reads_the_answers_is_cut(loop: str) -> None:
    async def scenario() -> None:
        async with serving(limits=Limits(unsent_bytes=1 << 18)) as here:
            listener = here.server._listener
            assert listener is not None
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)  # of the accepted
            async with here.raw(buffer_bytes=1 << 12) as peer:
                await peer.begin_h2()
                with pytest.raises(ConnectionError):
                    await ask_much(peer, 20_000)
            assert await still_serves(here)

    kit.run(scenario, loop)


async def ask_much(peer: RawPeer, count: int) -> None:
    for number in range(count):
        await peer.request(f"/x/{number:0190}", None)  # never the same: header compression
        peer.h2.streams.clear()  # it would count those for ever whose answers were not read
        await asyncio.sleep(0)  # the server's turn


def test_a_client_that_is_gone_without_a_word_is_cut(loop: str) -> None:
    async def scenario() -> None:
        async with (
            serving(limits=Limits(ping_idle_s=0.2, ping_timeout_s=0.1)) as here,
            here.dialled() as living,
            here.raw() as gone,
        ):
            await gone.begin_h2()
            await gone.request(kit.DOWN.path, HELLO)  # and answers nothing from here on
            await here.echo.begun.wait()
            await here.echo.cancelled.wait()
            assert await ask(living) == b"x"
            await asyncio.sleep(1)
            assert here.server.connections.held("identity " + NODE_ID) == 1

    kit.run(scenario, loop)


def test_200_megabytes_are_refused_without_taking_them_into_memory(loop: str) -> None:
    async def scenario() -> None:
        async with serving() as here, here.raw(kit.EPHEMERAL) as peer:
            await peer.begin_h2()
            await peer.request(body=HELLO)
            await outcome(peer)
            before_kib = peak_kib()
            stream = await peer.request(body=framed(b"", length=200 * MIB), is_last=False)
            sent = 0
            while sent < 200 * MIB:  # as far as it is let: a stranger has this patience
                window = min(
                    peer.h2.local_flow_control_window(stream), peer.h2.max_outbound_frame_size
                )
                if window <= 0:
                    break
                peer.h2.send_data(stream, bytes(window))
                sent += window
                await peer.flush_h2()
            trailers = await outcome(peer)
            assert trailers["grpc-status"] == "8"
            assert "limit of 4194304 bytes" in trailers["grpc-message"]
            assert sent <= 5 * MIB
            assert peak_kib() - before_kib < 16 * 1024

    kit.run(scenario, loop)


def test_one_byte_frames_that_nobody_reads_cost_no_more_than_their_bytes(loop: str) -> None:
    async def scenario() -> None:
        async with serving(limits=Limits(control_frames=10**9)) as here, here.raw() as peer:
            await peer.begin_h2()
            stream = await peer.request(kit.DOWN.path, HELLO, is_last=False)
            await asyncio.sleep(0.1)
            before_kib = peak_kib()
            for _ in range(40):
                for _ in range(1000):
                    peer.h2.send_data(stream, b"x")
                await peer.flush_h2()
            peer.h2.ping(b"12345678")
            await peer.flush_h2()
            await peer.event(h2.events.PingAckReceived)
            assert peak_kib() - before_kib < 4 * 1024

    kit.run(scenario, loop)


def peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


# Caps


async def is_let_in(peer: RawPeer) -> bool:
    await peer.begin_h2()
    await peer.request(body=HELLO)
    return (await outcome(peer)).get("grpc-status") == "0"


def test_strangers_are_capped_by_address_and_members_by_identity(loop: str) -> None:
    limits = Limits(connections_per_address=2, connections_per_identity=3)

    async def scenario() -> None:
        async with serving(limits=limits) as here:
            async with (
                here.raw(None) as a,
                here.raw(kit.EPHEMERAL) as b,
                here.raw(None) as c,
                here.raw(kit.NODE) as d,
                here.raw(kit.NODE) as e,
                here.raw(kit.NODE) as f,
                here.raw(kit.NODE) as g,
                here.raw(kit.OWNER) as h,
            ):
                assert await is_let_in(a)
                assert await is_let_in(b)
                assert not await is_let_in(c)  # strangers share what their address has
                for member in (d, e, f):
                    assert await is_let_in(member)
                assert not await is_let_in(g)  # this node has its three
                assert await is_let_in(h)
            for _ in range(100):
                if here.server.connections.held("address 127.0.0.1") == 0:
                    break
                await asyncio.sleep(0.01)
            async with here.raw(None) as again:
                assert await is_let_in(again)

    kit.run(scenario, loop)


def test_calls_that_are_open_at_once_are_capped_over_all_connections(loop: str) -> None:
    limits = Limits(streams_per_address=3, streams_per_identity=5)

    async def scenario() -> None:
        async with serving(limits=limits) as here, here.raw(None) as a, here.raw(None) as b:
            await a.begin_h2()
            await b.begin_h2()
            streams = [await a.request(kit.DOWN.path, HELLO) for _ in range(3)]
            for _ in streams:
                assert await a.event(h2.events.DataReceived) is not None
            await b.request(body=HELLO)
            trailers = await outcome(b)
            assert trailers["grpc-status"] == "8"
            assert "more than 3 calls" in trailers["grpc-message"]
            async with here.dialled(kit.NODE) as channel:
                assert await ask(channel) == b"x"
            a.h2.reset_stream(streams[0])
            await a.flush_h2()
            await here.echo.cancelled.wait()
            await b.request(body=HELLO)
            assert (await outcome(b))["grpc-status"] == "0"

    kit.run(scenario, loop)


def test_a_peer_learns_how_many_streams_one_connection_takes(loop: str) -> None:
    async def scenario() -> None:
        async with serving(limits=Limits(streams_per_connection=7)) as here, here.raw() as peer:
            await peer.begin_h2()
            event = await peer.event(h2.events.RemoteSettingsChanged)
            changed = event.changed_settings[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS]
            assert changed.new_value == 7
            async with here.dialled() as channel, asyncio.TaskGroup() as tasks:
                for _ in range(30):  # our own client waits its turn
                    tasks.create_task(ask(channel))

    kit.run(scenario, loop)


def test_simultaneous_handshakes_are_capped_by_address(loop: str) -> None:
    async def scenario() -> None:
        async with (
            serving(limits=Limits(handshakes_per_address=2, handshake_s=0.5)) as here,
            here.raw() as first,
            here.raw(),
            here.raw() as third,
        ):
            async with asyncio.timeout(0.3):  # cut at once
                assert await third.reader.read(1) == b""
            while await first.reader.read(1):  # cut when its time was over
                pass
            assert await still_serves(here)

    kit.run(scenario, loop)


def test_callers_wait_while_many_handshakes_have_just_begun_but_not_for_stalled_ones(
    loop: str,
) -> None:
    async def scenario() -> None:
        async with (
            serving(limits=Limits(handshakes_fresh=2)) as here,
            here.raw(),
            here.raw(),
        ):
            began_s = asyncio.get_running_loop().time()
            assert await still_serves(here)
            assert asyncio.get_running_loop().time() - began_s > 0.1
            channels = [here.dial() for _ in range(40)]
            async with asyncio.TaskGroup() as tasks:
                for channel in channels:
                    tasks.create_task(ask(channel))
            for channel in channels:
                await channel.close()

    kit.run(scenario, loop)


def test_a_thousand_idle_connections_are_held_and_served(loop: str) -> None:
    limits = Limits(connections_per_identity=1000, handshakes_per_address=1000)

    async def scenario() -> None:
        async with serving(limits=limits) as here:
            channels = [here.dial() for _ in range(1000)]
            for start in range(0, 1000, 50):
                async with asyncio.TaskGroup() as tasks:
                    for channel in channels[start : start + 50]:
                        tasks.create_task(ask(channel))
            assert here.server.connections.held("identity " + NODE_ID) == 1000
            assert await ask(channels[0], b"first") == b"first"
            assert await ask(channels[-1], b"last") == b"last"
            for channel in channels:
                await channel.close()

    if loop == "uvloop":  # what a node runs; asyncio's own TLS needs four times the memory
        kit.run(scenario, loop)


def test_handshakes_are_counted_over_time_too(loop: str) -> None:
    async def scenario() -> None:
        limits = Limits(handshakes_burst=3.0, handshakes_per_s=5.0)
        async with serving(limits=limits) as here:
            for _ in range(3):
                async with here.raw() as peer:
                    await peer.begin_h2()
            with pytest.raises(OSError):  # the system words it
                async with here.raw() as peer:
                    await peer.begin_h2()
            await asyncio.sleep(0.3)  # a token is back after 0.2 s
            async with here.raw() as peer:
                await peer.begin_h2()

    kit.run(scenario, loop)
