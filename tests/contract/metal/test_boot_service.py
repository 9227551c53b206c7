# SPDX-License-Identifier: Apache-2.0
"""What machines call, over real sockets and real certificates, on both databases."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from contract.metal.boots import ONE, Boots, call_wait, described, is_not, run, until
from kits.metal_grpc import calling, partition_server
from kits.mutual_tls import Authority
from metropolis.api import metal_boot_pb2 as pb
from metropolis.api.rpc_metal_boot import BootService, EventService
from metropolis.base.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from metropolis.host.sim.entropy import SimEntropy
from metropolis.metal.boot.messages import EVENT_MESSAGE_LENGTH_MAX, EVENTS_MAX
from metropolis.metal.model.event import EVENTS
from metropolis.metal.model.ipmi import CONSOLE_PASSWORDS, IPMIS
from metropolis.metal.model.machine import MACHINES
from metropolis.metal.model.partition import PARTITIONS, BootConfiguration
from metropolis.metal.model.switch import SWITCHES
from metropolis.metal.settings import Settings
from metropolis.metal.store import Reader, Transaction
from unit.metal.kit import NOW, opened
from unit.metal.machines.fleet import UBUNTU, UBUNTU_NEW, fleet, uuid_of


def test_a_machine_goes_all_the_way(tmp_path: Path, store_url: str) -> None:
    async def scenario(boots: Boots) -> None:
        call = boots.channel.call
        await call(BootService.DHCP, pb.BootServiceDhcpRequest(uuid=ONE))
        events = await boots.fleet.events(ONE)
        assert [(each.event, each.message) for each in events.log] == [
            ("PXE Booting", "machine sent extended dhcp request")
        ]
        await boots.event("Preparing")
        await boots.event("Registering")
        registered = await boots.register()
        assert (registered.uuid, registered.size, registered.partition_id) == (ONE, "medium", "muc")
        machine = await boots.fleet.machine(ONE)
        assert machine.hardware.cpu_cores == 8
        assert [nic.mac for nic in machine.hardware.nics] == [
            "aa:00:00:00:00:00",
            "aa:00:00:00:00:01",
        ]
        assert (machine.rack_id, machine.tags) == ("rack-1", ("a", "b"))
        assert machine.state.metal_hammer_version == "v0.14"
        ipmi = await boots.site.store.read(lambda reader: reader.get(IPMIS, ONE))
        assert (ipmi.value.user, ipmi.value.password) == ("metal", "bmc-secret")
        assert ipmi.value.mac == "bb:00:00:00:00:00"

        await boots.event("Waiting")
        async with call_wait(boots.channel) as stream:
            assert await stream.receive() == pb.BootServiceWaitResponse()
            assert await boots.waiting()
            await boots.fleet.allocate()
            while await stream.receive() is not None:
                pass
        assert not await boots.waiting()

        await boots.event("Installing")
        done = pb.BootServiceReportRequest(
            uuid=ONE,
            success=True,
            console_password="console-secret",
            boot_info=pb.BootInfo(
                image_id="ignored",
                primary_disk="/dev/sda",
                kernel="/boot/vmlinuz",
                cmdline="root=" + "x" * 3000,
            ),
        )
        await call(BootService.REPORT, done)
        allocation = (await boots.fleet.machine(ONE)).allocation
        assert allocation is not None
        assert allocation.succeeded
        assert allocation.boot_info is not None
        assert allocation.boot_info.kernel == "/boot/vmlinuz"
        await boots.site.store.read(vrf_is_set)
        await boots.event("Booting New Kernel")
        await boots.event("Phoned Home")
        assert (await boots.fleet.events(ONE)).crash_loop is False

    async def vrf_is_set(reader: Reader) -> None:
        password = await reader.get(CONSOLE_PASSWORDS, ONE)
        assert password.value.password == "console-secret"
        for switch in await reader.find(SWITCHES, {"machine": ONE}):
            (port,) = [each for each in switch.value.ports if each.name == "Ethernet0"]
            assert port.vrf.startswith("vrf")

    run(tmp_path, scenario, store_url)


def test_boot_says_what_the_partition_boots(tmp_path: Path) -> None:
    async def scenario(boots: Boots) -> None:
        async def configure(tx: Transaction) -> None:
            partition = await tx.get(PARTITIONS, "muc")
            boot = BootConfiguration(
                image_url="https://i/initrd", kernel_url="https://i/kernel", command_line="console"
            )
            await tx.replace(partition, msgspec.structs.replace(partition.value, boot=boot))

        await boots.site.store.write(configure)
        call = boots.channel.call
        request = pb.BootServiceBootRequest(mac="aa:bb", partition_id="muc")
        answer = await call(BootService.BOOT, request)
        assert answer.kernel == "https://i/kernel"
        assert list(answer.init_ram_disks) == ["https://i/initrd"]
        assert answer.cmdline == "console"
        with pytest.raises(NotFoundError, match="partition 'elsewhere'"):
            await call(BootService.BOOT, pb.BootServiceBootRequest(partition_id="elsewhere"))

    run(tmp_path, scenario)


@pytest.mark.parametrize("password", ["", "bmc-root"])
def test_the_password_of_superusers_is_said_where_there_is_one(
    tmp_path: Path, password: str
) -> None:
    async def scenario(boots: Boots) -> None:
        request = pb.BootServiceSuperUserPasswordRequest()
        answer = await boots.channel.call(BootService.SUPER_USER_PASSWORD, request)
        assert answer.super_user_password == password
        assert answer.feature_disabled is (not password)

    run(tmp_path, scenario, settings=Settings(superuser_password=password))


def test_whoever_has_no_certificate_of_the_authority_gets_nothing(tmp_path: Path) -> None:
    async def whole() -> None:
        authority = Authority(tmp_path)
        other = Authority(tmp_path, "other")
        strangers = [
            other.issue("stranger", trusting=authority),
            authority.issue("late", is_expired=True),
        ]
        async with (
            fleet() as ready,
            partition_server(ready.world.client.site, authority) as endpoint,
        ):
            for files in strangers:
                async with calling(endpoint, files) as channel:
                    with pytest.raises(UnavailableError):
                        await channel.call(BootService.DHCP, pb.BootServiceDhcpRequest(uuid=ONE))
            found = await ready.world.store.read(lambda reader: reader.lookup(MACHINES, ONE))
            assert found is None

    asyncio.run(whole())


def test_whoever_asks_to_wait_and_was_allocated_is_told_at_once(tmp_path: Path) -> None:
    async def scenario(boots: Boots) -> None:
        await boots.ready()
        async with call_wait(boots.channel) as stream:
            await stream.receive()
            await boots.fleet.allocate()
        async with call_wait(boots.channel) as stream:
            assert await stream.receive() is None
        assert not await boots.waiting()

    run(tmp_path, scenario)


def test_a_machine_that_goes_away_waits_no_longer(tmp_path: Path, store_url: str) -> None:
    async def scenario(boots: Boots) -> None:
        await boots.ready()
        async with call_wait(boots.channel) as stream:
            await stream.receive()
            assert await boots.waiting()
        await until(lambda: is_not(boots.waiting()))
        refused = await boots.fleet.world.refused(
            422, "POST", "/v1/machine/allocate", boots.fleet.request()
        )
        assert "no machine available" in refused

    run(tmp_path, scenario, store_url)


def test_of_two_streams_of_a_machine_both_are_told_and_the_last_withdraws_it(
    tmp_path: Path, store_url: str
) -> None:
    async def scenario(boots: Boots) -> None:
        await boots.ready()
        async with call_wait(boots.channel) as first:
            await first.receive()
            async with call_wait(boots.channel) as second:
                await second.receive()
            # The second is over once the server has answered what came after it.
            await boots.event("Alive")
            assert await boots.waiting()
            async with call_wait(boots.channel) as third:
                await third.receive()
                await boots.fleet.allocate()
                await first.ended()
                await third.ended()

    run(tmp_path, scenario, store_url)


def test_a_waiter_at_one_replica_hears_of_an_allocation_at_another(
    tmp_path: Path, postgres_url: str
) -> None:
    async def whole() -> None:
        authority = Authority(tmp_path)
        machine = authority.issue("machine")
        async with fleet(url=postgres_url) as ready, opened(postgres_url) as store:
            here = ready.world.client.site
            there = replace(here, store=store, entropy=SimEntropy(99))
            async with (
                partition_server(here, authority) as one,
                partition_server(there, authority) as two,
                calling(one, machine) as at_one,
                calling(two, machine) as at_two,
            ):
                await Boots(ready, here, at_one).ready()
                async with call_wait(at_two) as stream, call_wait(at_one) as other:
                    await stream.receive()
                    await other.receive()
                    await ready.allocate()  # through the first
                    await stream.ended()
                    await other.ended()

    asyncio.run(whole())


def test_when_one_replica_stops_the_machine_waits_on_at_another(
    tmp_path: Path, postgres_url: str
) -> None:
    async def whole() -> None:
        authority = Authority(tmp_path)
        machine = authority.issue("machine")
        async with fleet(url=postgres_url) as ready, opened(postgres_url) as store:
            here = ready.world.client.site
            there = replace(here, store=store, entropy=SimEntropy(99))
            async with (
                partition_server(there, authority) as two,
                calling(two, machine) as at_two,
            ):
                boots = Boots(ready, there, at_two)
                await boots.ready()
                async with call_wait(at_two) as living:
                    await living.receive()
                    async with AsyncExitStack() as stack:
                        one = await stack.enter_async_context(partition_server(here, authority))
                        at_one = await stack.enter_async_context(calling(one, machine))
                        await (await stack.enter_async_context(call_wait(at_one))).receive()
                    # The first has withdrawn the machine, and the other offers it again.
                    await until(boots.waiting)
                    await ready.allocate()
                    await living.ended()

    asyncio.run(whole())


def test_who_never_registered_cannot_wait_report_or_abort(tmp_path: Path) -> None:
    async def scenario(boots: Boots) -> None:
        call = boots.channel.call
        async with call_wait(boots.channel, uuid_of(9)) as stream:
            with pytest.raises(NotFoundError, match="machine"):
                await stream.receive()
        async with call_wait(boots.channel, "") as stream:
            with pytest.raises(InvalidArgumentError, match="machine_id"):
                await stream.receive()
        with pytest.raises(NotFoundError):
            await call(BootService.REPORT, pb.BootServiceReportRequest(uuid=uuid_of(9)))
        with pytest.raises(NotFoundError):
            await call(
                BootService.ABORT_REINSTALL, pb.BootServiceAbortReinstallRequest(uuid=uuid_of(9))
            )
        await boots.register()
        with pytest.raises(FailedPreconditionError, match="not allocated"):
            await call(BootService.REPORT, pb.BootServiceReportRequest(uuid=ONE, success=True))

    run(tmp_path, scenario)


def test_a_failed_installation_is_remembered_and_tried_again(tmp_path: Path) -> None:
    async def scenario(boots: Boots) -> None:
        await boots.ready()
        async with call_wait(boots.channel) as stream:
            await stream.receive()
            await boots.fleet.allocate()
            await stream.ended()
        failed = pb.BootServiceReportRequest(uuid=ONE, success=False, message="no disk " * 999)
        await boots.channel.call(BootService.REPORT, failed)
        allocation = (await boots.fleet.machine(ONE)).allocation
        assert allocation is not None
        assert not allocation.succeeded
        assert allocation.failure.startswith("no disk")
        assert len(allocation.failure) <= 2000

    run(tmp_path, scenario)


def test_an_aborted_reinstallation_gives_the_old_system_back(tmp_path: Path) -> None:
    async def scenario(boots: Boots) -> None:
        await boots.fleet.boot(0)
        await boots.fleet.allocate()
        await boots.fleet.install(ONE)
        again = {"id": ONE, "imageid": UBUNTU}
        await boots.fleet.world.ok("POST", f"/v1/machine/{ONE}/reinstall", again)
        request = pb.BootServiceAbortReinstallRequest(uuid=ONE, primary_disk_wiped=True)
        answer = await boots.channel.call(BootService.ABORT_REINSTALL, request)
        assert not answer.HasField("boot_info")
        request.primary_disk_wiped = False
        answer = await boots.channel.call(BootService.ABORT_REINSTALL, request)
        assert answer.boot_info.kernel == "/vmlinuz"
        assert answer.boot_info.image_id == UBUNTU_NEW

    run(tmp_path, scenario)


BAD: list[tuple[str, pb.BootServiceRegisterRequest]] = [
    ("uuid is empty", described(uuid="")),
    ("no machine id", described(uuid="'; DROP TABLE entity; --")),
    ("no machine id", described(uuid="x" * 65)),
    ("partition_id is empty", described(partition_id="")),
    ("uuid is longer than", described(uuid="x" * 1025)),
    ("null in it", described(bios=pb.MachineBIOS(vendor="a\0b"))),
    ("bios.version is longer", described(bios=pb.MachineBIOS(version="v" * 1025))),
    ("ipmi.password is longer", described(ipmi=pb.MachineIPMI(password="p" * 1025))),
    ("no machine has", described(hardware=pb.MachineHardware(memory=2**63))),
    (
        "hardware.disks: no machine has",
        described(hardware=pb.MachineHardware(disks=[pb.MachineBlockDevice()] * 1025)),
    ),
    (
        "hardware.nics: no machine has",
        described(hardware=pb.MachineHardware(nics=[pb.MachineNic()] * 1025)),
    ),
]


def test_what_no_machine_says_is_refused_by_name_and_nothing_remains(tmp_path: Path) -> None:
    async def scenario(boots: Boots) -> None:
        before = await boots.site.store.read(lambda reader: reader.revision())
        for message, request in BAD:
            with pytest.raises(InvalidArgumentError) as refused:
                await boots.channel.call(BootService.REGISTER, request)
            assert message in str(refused.value)
        with pytest.raises(NotFoundError, match="partition"):
            await boots.register(partition_id="elsewhere")
        request = described()
        del request.hardware.nics[1]
        with pytest.raises(FailedPreconditionError, match="exactly 2 switches"):
            await boots.channel.call(BootService.REGISTER, request)
        assert await boots.site.store.read(lambda reader: reader.revision()) == before

    run(tmp_path, scenario)


def test_another_machine_with_the_same_interface_or_serial_is_refused(tmp_path: Path) -> None:
    async def scenario(boots: Boots) -> None:
        await boots.register(0)
        twin = described(1)
        twin.hardware.nics[0].mac = "aa:00:00:00:00:00"
        with pytest.raises(FailedPreconditionError, match=f"belongs to machine {ONE}"):
            await boots.channel.call(BootService.REGISTER, twin)
        twin = described(1)
        twin.ipmi.fru.board_mfg_serial = "B0"
        with pytest.raises(FailedPreconditionError, match="board_mfg_serial"):
            await boots.channel.call(BootService.REGISTER, twin)
        await boots.register(1)

    run(tmp_path, scenario)


def test_of_several_events_the_good_ones_are_taken_and_the_others_are_named(
    tmp_path: Path, store_url: str
) -> None:
    async def scenario(boots: Boots) -> None:
        def event(name: str, message: str = "", seconds: int = 0) -> pb.MachineProvisioningEvent:
            told = pb.MachineProvisioningEvent(event=name, message=message)
            told.time.seconds = seconds
            return told

        two, three = uuid_of(1), uuid_of(2)
        when = NOW - timedelta(seconds=30)
        request = pb.EventServiceSendRequest(
            events={
                ONE: event("Preparing", "m" * 100_000, int(when.timestamp())),
                two: event("Dancing"),
                three: event("Alive", seconds=2**62),
                "no/machine": event("Alive"),
            }
        )
        answer = await boots.channel.call(EventService.SEND, request)
        assert (answer.events, list(answer.failed)) == (2, [two, "no/machine"])
        (entry,) = (await boots.fleet.events(ONE)).log
        assert (entry.event, entry.time, entry.client_time) == ("Preparing", NOW, when)
        assert entry.message == "m" * EVENT_MESSAGE_LENGTH_MAX
        assert await boots.site.store.read(lambda reader: reader.lookup(EVENTS, two)) is None

        with pytest.raises(InvalidArgumentError, match=f"none was taken, of {two}"):
            await boots.event("Dancing", two)
        nothing = await boots.channel.call(EventService.SEND, pb.EventServiceSendRequest())
        assert (nothing.events, list(nothing.failed)) == (0, [])
        many = {str(number): event("Alive") for number in range(EVENTS_MAX + 1)}
        with pytest.raises(InvalidArgumentError, match="10001 in one message"):
            await boots.channel.call(EventService.SEND, pb.EventServiceSendRequest(events=many))

    run(tmp_path, scenario, store_url)


def test_a_request_that_is_too_long_is_refused_and_the_connection_lives_on(tmp_path: Path) -> None:
    async def scenario(boots: Boots) -> None:
        with pytest.raises(ResourceExhaustedError):
            await boots.event("Crashed", message="m" * (2 << 20))
        await boots.event("Crashed", message="m")

    run(tmp_path, scenario)
