# SPDX-License-Identifier: Apache-2.0
"""Messages on their way to partitions: over real sockets, with cuts, duplicates, restarts."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kits.metal_grpc import calling, partition_server
from kits.mutual_tls import Authority
from metropolis.api import metal_messages_pb2 as pb
from metropolis.api.rpc_metal_messages import MessageService
from metropolis.base.errors import (
    AbortedError,
    FailedPreconditionError,
    InvalidArgumentError,
    PermissionDeniedError,
)
from metropolis.host.sim.entropy import SimEntropy
from metropolis.metal.messages.outbox import list_consumers
from metropolis.metal.messages.subscribing import Subscribing
from metropolis.metal.model.ipmi import IPMIS, NEVER, Ipmi
from metropolis.metal.model.message import AllocationEvent, Command, command_event, deletion_event
from metropolis.metal.services.machines import ensure_machine
from metropolis.metal.settings import Settings
from metropolis.metal.site import Site
from metropolis.metal.store import Store, Transaction
from metropolis.rpc.channel import Channel, ClientStream
from metropolis.rpc.transport import Endpoint
from unit.metal.kit import NOW, StillClock, opened

TOPIC = "muc-machine"
Stream = ClientStream[pb.SubscribeRequest, pb.SubscribeResponse]


def site_of(store: Store, seed: int = 1, **settings: Any) -> Site:
    return Site(
        store=store, clock=StillClock(), entropy=SimEntropy(seed), settings=Settings(**settings)
    )


def run(url: str, scenario: Callable[[Store], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with opened(url) as store:
            await scenario(store)

    asyncio.run(whole())


async def send(store: Store, *machine_ids: str, topic: str = TOPIC) -> None:
    async def change(tx: Transaction) -> None:
        for machine_id in machine_ids:
            await tx.send(topic, command_event(machine_id, Command.ON))

    await store.write(change)


async def position(store: Store, consumer: str = "bmc-agent") -> int:
    found = await store.read(list_consumers)
    return next(each.position for each in found if each.name == consumer)


async def position_is(store: Store, wanted: int) -> None:
    async with asyncio.timeout(10):
        while await position(store) != wanted:  # noqa: ASYNC110  # a database tells nobody
            await asyncio.sleep(0.01)


@asynccontextmanager
async def subscribed(
    channel: Channel, *, topic: str = "", after: int | None = None, in_flight_max: int = 0
) -> AsyncIterator[Stream]:
    start = pb.Start(topic=topic, resume_after=after, in_flight_max=in_flight_max)
    async with channel.open(MessageService.SUBSCRIBE) as stream:
        await stream.send(pb.SubscribeRequest(start=start))
        yield stream


async def receive(stream: Stream, count: int = 1) -> list[pb.SubscribeResponse]:
    found: list[pb.SubscribeResponse] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            message = await stream.receive()
            assert message is not None, "the stream ends only with an error"
            if message.sequence:
                found.append(message)
    return found


async def acknowledge(stream: Stream, sequence: int) -> None:
    await stream.send(pb.SubscribeRequest(acknowledge=pb.Acknowledge(sequence=sequence)))


def payload(message: pb.SubscribeResponse) -> Mapping[str, Any]:
    decoded: Mapping[str, Any] = msgspec.json.decode(message.payload)
    return decoded


def targets(messages: list[pb.SubscribeResponse]) -> list[str]:
    return [payload(each)["cmd"]["target"] for each in messages]


@asynccontextmanager
async def agent(
    site: Site, authority: Authority, name: str = "bmc-agent", **subject: str
) -> AsyncIterator[Channel]:
    files = authority.issue(name, **(subject or {"unit": "muc"}))  # type: ignore[arg-type]
    async with partition_server(site, authority) as endpoint, calling(endpoint, files) as channel:
        yield channel


def test_messages_come_in_order_and_again_until_they_are_acknowledged(
    tmp_path: Path, store_url: str
) -> None:
    async def scenario(store: Store) -> None:
        async with agent(site_of(store), Authority(tmp_path)) as channel:
            await send(store, "a", "b")
            async with subscribed(channel) as stream:
                first = await receive(stream, 2)
                await send(store, "c")
                first += await receive(stream)
                assert targets(first) == ["a", "b", "c"]
                assert [each.sequence for each in first] == [1, 2, 3]
                assert {(each.topic, each.sent.ToSeconds()) for each in first} == {
                    (TOPIC, int(NOW.timestamp()))
                }
                await acknowledge(stream, 2)
                await position_is(store, 2)
            async with subscribed(channel, topic=TOPIC) as stream:
                (again,) = await receive(stream)
                assert (again.sequence, targets([again])) == (3, ["c"])
                await acknowledge(stream, 3)
                await acknowledge(stream, 1)  # late: changes nothing
                await position_is(store, 3)

    run(store_url, scenario)


def test_no_more_is_under_way_than_the_subscriber_asked_for(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        async with agent(site_of(store), Authority(tmp_path)) as channel:
            await send(store, *"abcdefghijklmnop")
            async with subscribed(channel, in_flight_max=3) as stream:
                assert targets(await receive(stream, 3)) == ["a", "b", "c"]
                await acknowledge(stream, 1)
                assert targets(await receive(stream)) == ["d"]
                await acknowledge(stream, 4)
                assert targets(await receive(stream, 3)) == ["e", "f", "g"]
            async with subscribed(channel) as stream:
                assert len(await receive(stream, 10)) == 10
                await acknowledge(stream, 14)  # the 10 end with it
                (next_one,) = await receive(stream)
                assert next_one.sequence == 15

    run(":memory:", scenario)


def test_what_the_subscriber_remembers_does_not_come_again(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        async with agent(site_of(store), Authority(tmp_path)) as channel:
            await send(store, "a", "b", "c")
            async with subscribed(channel, after=2) as stream:
                assert targets(await receive(stream)) == ["c"]
                assert await position(store) == 2
            async with subscribed(channel, after=1) as stream:  # it forgot: ours is newer
                assert targets(await receive(stream)) == ["c"]
            async with subscribed(channel, after=4) as stream:
                with pytest.raises(FailedPreconditionError, match="no message 4"):
                    await receive(stream)

    run(":memory:", scenario)


REFUSED: list[tuple[str, pb.SubscribeRequest, str]] = [
    ("nothing", pb.SubscribeRequest(), "does not say what to read"),
    (
        "acknowledgement",
        pb.SubscribeRequest(acknowledge=pb.Acknowledge(sequence=1)),
        "does not say what to read",
    ),
]


@pytest.mark.parametrize(("first", "message"), [each[1:] for each in REFUSED])
def test_who_does_not_say_what_to_read_is_refused(
    tmp_path: Path, first: pb.SubscribeRequest, message: str
) -> None:
    async def scenario(store: Store) -> None:
        async with (
            agent(site_of(store), Authority(tmp_path)) as channel,
            channel.open(MessageService.SUBSCRIBE) as stream,
        ):
            await stream.send(first)
            with pytest.raises(InvalidArgumentError, match=message):
                await receive(stream)

    run(":memory:", scenario)


def test_what_was_never_sent_cannot_be_acknowledged(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        async with agent(site_of(store), Authority(tmp_path)) as channel:
            await send(store, "a", "b")
            async with subscribed(channel, in_flight_max=1) as stream:
                await receive(stream)
                await acknowledge(stream, 2)
                with pytest.raises(InvalidArgumentError, match="never sent"):
                    await receive(stream)
            assert await position(store) == 0
            async with subscribed(channel) as stream:
                await stream.send(pb.SubscribeRequest(start=pb.Start()))
                with pytest.raises(InvalidArgumentError, match="only the first"):
                    await receive(stream, 3)

    run(":memory:", scenario)


@pytest.mark.parametrize(
    ("subject", "topic", "reason"),
    [
        ({"unit": "fra"}, TOPIC, "may read fra-machine, and nothing else"),
        ({"unit": "muc"}, "allocation", "may read muc-machine, and nothing else"),
        ({"organization": "metal-control-plane"}, TOPIC, "may read allocation, and nothing"),
        ({"organization": "somebody"}, "allocation", "names no component"),
        ({"unit": ""}, TOPIC, "names no component"),
        ({"unit": ""}, "", "names no component"),
    ],
)
def test_nobody_reads_what_its_certificate_does_not_name(
    tmp_path: Path, subject: dict[str, str], topic: str, reason: str
) -> None:
    async def scenario(store: Store) -> None:
        await send(store, "a")
        async with (
            agent(site_of(store), Authority(tmp_path), "bmc-agent", **subject) as channel,
            subscribed(channel, topic=topic) as stream,
        ):
            with pytest.raises(PermissionDeniedError, match=reason):
                await receive(stream)

    run(":memory:", scenario)


def test_the_control_plane_reads_allocations_as_the_original_sends_them(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        await store.write(lambda tx: tx.send("allocation", AllocationEvent(machine_id="m")))
        own = {"organization": "metal-control-plane"}
        async with (
            agent(site_of(store), Authority(tmp_path), "billing", **own) as channel,
            subscribed(channel) as stream,
        ):
            (message,) = await receive(stream)
            assert (message.topic, message.payload) == ("allocation", b'{"old":"m"}')

    run(":memory:", scenario)


async def stock(store: Store) -> None:
    """Machine `known` of muc with a BMC user, `bare` without, and `moved` of another partition."""

    async def change(tx: Transaction) -> None:
        for machine_id, partition in (("known", "muc"), ("bare", "muc"), ("moved", "fra")):
            await ensure_machine(tx, machine_id, partition_id=partition)
            user = "" if machine_id == "bare" else "metal"
            ipmi = Ipmi(
                id=machine_id,
                address="192.0.2.1:623",
                user=user,
                password=f"secret-of-{machine_id}" if user else "",
                last_updated=NEVER,
            )
            await tx.insert(IPMIS, machine_id, ipmi)
        for machine_id in ("known", "bare", "moved", "unknown"):
            await tx.send(TOPIC, command_event(machine_id, Command.RESET))
        await tx.send(TOPIC, deletion_event("known"))

    await store.write(change)


def test_only_the_bmc_agent_of_the_partition_is_told_how_to_log_in(
    tmp_path: Path, store_url: str
) -> None:
    async def scenario(store: Store) -> None:
        await stock(store)
        site = site_of(store, superuser_password="of-root")
        async with agent(site, Authority(tmp_path)) as channel, subscribed(channel) as stream:
            known, bare, moved, unknown, deleted = map(payload, await receive(stream, 5))
        bmc = known["cmd"]["ipmi"]
        assert (bmc["address"], bmc["user"], bmc["password"]) == (
            "192.0.2.1:623",
            "metal",
            "secret-of-known",
        )
        assert set(bmc) == {
            "address", "mac", "user", "password", "interface", "fru", "bmcversion",
            "powerstate", "powermetric", "powersupplies", "last_updated",
        }  # fmt: skip
        assert (known["type"], known["cmd"]["cmd"]) == ("command", "RESET")
        assert (bare["cmd"]["ipmi"]["user"], bare["cmd"]["ipmi"]["password"]) == ("root", "of-root")
        assert "ipmi" not in moved["cmd"]
        assert "ipmi" not in unknown["cmd"]
        assert (deleted["type"], deleted["old"]) == ("delete", "known")
        assert deleted["cmd"]["ipmi"]["password"] == "secret-of-known"

        async with (
            agent(site, Authority(tmp_path), "console") as channel,
            subscribed(channel) as stream,
        ):
            for message in await receive(stream, 5):
                assert b"secret" not in message.payload
                assert b"ipmi" not in message.payload
        stored = await store.read(lambda reader: reader.fetch("SELECT payload FROM outbox"))
        assert not any("secret" in row[0] or "of-root" in row[0] for row in stored)

    run(store_url, scenario)


def test_the_newest_stream_of_an_agent_replaces_the_one_before_at_any_replica(
    tmp_path: Path, postgres_url: str
) -> None:
    async def scenario(store: Store) -> None:
        authority = Authority(tmp_path)
        async with AsyncExitStack() as stack:
            one = await stack.enter_async_context(agent(site_of(store, 1), authority))
            second = await stack.enter_async_context(opened(postgres_url))
            two = await stack.enter_async_context(agent(site_of(second, 2), authority))
            old = await stack.enter_async_context(subscribed(one))
            await send(store, "a", "b")
            assert targets(await receive(old, 2)) == ["a", "b"]
            new = await stack.enter_async_context(subscribed(two))
            assert targets(await receive(new, 2)) == ["a", "b"]
            with pytest.raises(AbortedError, match="opened another stream"):
                await receive(old)
            await acknowledge(new, 2)
            await position_is(store, 2)
            await send(store, "c")  # at the first replica
            assert targets(await receive(new)) == ["c"]

    run(postgres_url, scenario)


class Doing:
    """What an agent does, and how often."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self._news = asyncio.Event()

    async def __call__(self, message: pb.SubscribeResponse) -> None:
        self.done += targets([message])
        self._news.set()

    async def are(self, wanted: list[str]) -> None:
        async with asyncio.timeout(30):
            while self.done != wanted:
                self._news.clear()
                await self._news.wait()


class Proxy:
    """Passes connections on, until it is told to cut them."""

    def __init__(self, to: Endpoint) -> None:
        self.to = to
        self._open: list[asyncio.StreamWriter] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(self.to.host, self.to.tcp_port)
        except OSError:
            writer.close()
            return
        self._open += [writer, far_writer]
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pass(reader, far_writer))
            group.create_task(self._pass(far_reader, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    def cut(self) -> None:
        """Reset every connection, whatever is on its way."""
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()


def test_an_agent_does_everything_once_through_cuts_and_a_restart(
    tmp_path: Path, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metropolis.metal.messages.subscribing.RECONNECT_S", 0.05)

    async def scenario(store: Store) -> None:
        authority = Authority(tmp_path)
        doing = Doing()
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(AsyncExitStack())
            endpoint = await first.enter_async_context(partition_server(site_of(store), authority))
            proxy = Proxy(endpoint)
            server = await asyncio.start_server(proxy, "127.0.0.1", 0)
            stack.callback(server.close)
            host, tcp_port = server.sockets[0].getsockname()
            files = authority.issue("bmc-agent", unit="muc")
            channel = await stack.enter_async_context(calling(Endpoint(host, tcp_port), files))
            group = await stack.enter_async_context(asyncio.TaskGroup())
            following = group.create_task(Subscribing(channel, doing).run())
            wanted: list[str] = []
            for number in range(30):
                wanted.append(f"m{number}")
                await send(store, f"m{number}")
                if number % 7 == 3:
                    proxy.cut()
                if number == 15:
                    await first.aclose()
                if number == 20:  # another replica, or the same after a restart
                    again = partition_server(site_of(store, 2), authority)
                    proxy.to = await stack.enter_async_context(again)
                if number % 5 == 0 and number not in {15, 20}:
                    await doing.are(wanted)
            await doing.are(wanted)
            following.cancel()
            proxy.cut()

    run(store_url, scenario)


def test_after_a_restore_an_agent_goes_on_with_what_there_is(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        doing = Doing()
        async with (
            agent(site_of(store), Authority(tmp_path)) as channel,
            asyncio.TaskGroup() as group,
        ):
            await send(store, "a", "b")
            following = group.create_task(Subscribing(channel, doing, done=9).run())
            await doing.are(["a", "b"])
            following.cancel()

    run(":memory:", scenario)
