# SPDX-License-Identifier: Apache-2.0
"""What a real server counts of real calls, however they end."""

import asyncio

import pytest
from google.protobuf.wrappers_pb2 import BytesValue

from contract.rpc.kit import (
    DOWN,
    EPHEMERAL,
    LOOPS,
    MEMBERS_ONLY,
    STRANGE_NODE,
    UNARY,
    Kit,
    ask,
    method,
    run,
    serving,
)
from metropolis.api.methods import Cardinality
from metropolis.base.errors import MetropolisError, UnauthenticatedError, UnimplementedError
from metropolis.rpc.meter import UNKNOWN

NOWHERE = method("Nowhere", Cardinality.UNARY_UNARY)


def codes(kit: Kit) -> dict[str, dict[int, int]]:
    return {path: dict(calls.by_code) for path, calls in kit.server.meter}


async def settled(kit: Kit) -> None:
    """Wait until no call is in flight: a server ends its calls after its answers."""
    meter = kit.server.meter
    while any(calls.in_flight for _, calls in meter) or meter.connections:  # noqa: ASYNC110  # it tells nobody
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("loop", LOOPS)
def test_every_call_is_counted_once_under_the_code_it_ended_with(loop: str) -> None:
    async def scenario() -> None:
        async with serving() as kit:
            async with kit.dialled() as channel:
                for _ in range(3):
                    await ask(channel)
                assert kit.server.meter.connections == 1
                with pytest.raises(UnimplementedError):
                    await ask(channel, which=NOWHERE)
            async with kit.dialled(EPHEMERAL) as channel:
                with pytest.raises(UnauthenticatedError):
                    await ask(channel, which=MEMBERS_ONLY)
            await settled(kit)
            assert codes(kit) == {UNKNOWN: {12: 1}, UNARY.path: {0: 3}, MEMBERS_ONLY.path: {16: 1}}

    run(scenario, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_stream_whose_caller_leaves_is_counted_as_cancelled(loop: str) -> None:
    async def scenario() -> None:
        async with serving() as kit:
            async with kit.dialled() as channel, channel.open(DOWN) as stream:
                await stream.send(BytesValue(value=b"x"))
                await stream.end()
                await stream.receive()
                assert [calls.in_flight for _, calls in kit.server.meter] == [1]
            await settled(kit)
            assert codes(kit) == {DOWN.path: {1: 1}}

    run(scenario, loop)


def test_a_handshake_that_fails_is_counted_and_leaves_no_connection() -> None:
    async def scenario() -> None:
        async with serving() as kit:
            with pytest.raises(MetropolisError):
                async with kit.dialled(STRANGE_NODE) as channel:
                    await ask(channel)
            await settled(kit)
            assert kit.server.meter.refused_handshakes == 1
            assert codes(kit) == {}

    run(scenario)
