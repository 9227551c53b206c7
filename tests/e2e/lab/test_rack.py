# SPDX-License-Identifier: Apache-2.0
"""The namespace driver on the real kernel, with a stand-in as every machine's process 1."""

import asyncio
import contextlib
import errno
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from python_socks import ProxyError
from python_socks.async_.asyncio import Proxy

from metropolis.base.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from metropolis.lab.cluster import LabCluster
from metropolis.lab.leftovers import end_processes, find_processes, reap, wait_gone
from metropolis.lab.model import address_of
from metropolis.lab.state import ClusterDirectory

STANDIN = Path(__file__).with_name("standin.py")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LabCluster]:
    """A rack of three machines that all are told to run, and nothing of it afterwards."""
    # As deep as a user's: a unix socket's path would not fit.
    directory = ClusterDirectory(tmp_path / ("deep" * 20) / "clusters" / "rack")
    made = LabCluster(directory, dies_with_us=True)
    made.create(count=3, program=(sys.executable, "-I", str(STANDIN)), proxy_tcp_port=0)
    for number in range(3):
        parameters = directory.storage(number) / "esp" / "metropolis" / "parameters.pb"
        parameters.parent.mkdir(parents=True)
        parameters.touch()
    yield made
    asyncio.run(made.destroy())
    assert find_processes(directory) == []
    assert not directory.path.exists()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(40):
            await scenario()

    asyncio.run(bounded())


async def ask(cluster: LabCluster, number: int, **question: object) -> Any:
    """Ask the stand-in of a machine, through the proxy; retried while it boots."""
    while True:
        proxy = Proxy.from_url(f"socks5://{cluster.rack.proxy}")
        try:
            sock = await proxy.connect(cluster.rack.address(number), 7835)
        except ProxyError:
            await asyncio.sleep(0.02)
            continue
        reader, writer = await asyncio.open_connection(sock=sock)
        writer.write(json.dumps(question).encode() + b"\n")
        with contextlib.suppress(ConnectionResetError):
            line = await reader.readline()
            if line:
                writer.close()
                return json.loads(line)
        writer.close()
        if question["ask"] == "exit":
            return None


def namespaces_of(process_id: int) -> dict[str, str]:
    names = ("net", "mnt", "pid", "uts", "ipc")
    return {name: str(Path(f"/proc/{process_id}/ns/{name}").readlink()) for name in names}


def test_every_machine_is_alone_with_its_disk_and_its_names(cluster: LabCluster) -> None:
    async def scenario() -> None:
        cluster.start()
        before = sorted(Path("/run").iterdir())
        for number in range(3):
            facts = await ask(cluster, number, ask="facts")
            assert facts["pid"] == 1
            assert facts["processes"] == 1
            assert facts["host_name"] == f"rack-{number}"
            assert sorted(facts["links"]) == ["eth0", "lo"]
            assert "rack" not in facts["hosts"]
            assert facts["argv"][:2] == ["--storage", "/run/node/storage"]
            assert facts["argv"][4:6] == ["--address", address_of(number)]
        assert await ask(cluster, 0, ask="write", path="/run/node/storage/mine") == "written"
        assert await ask(cluster, 0, ask="write", path="/run/node/ephemeral/x") == "written"
        assert await ask(cluster, 0, ask="write", path="/etc/hosts") == "written"
        assert await ask(cluster, 0, ask="write", path="/etc/other") == "OSError"
        assert await ask(cluster, 0, ask="write", path="/usr/x") == "OSError"
        assert await ask(cluster, 0, ask="list", path=str(cluster.directory.path)) == []
        assert (cluster.directory.storage(0) / "mine").exists()
        assert Path("/etc/hosts").read_text() != "x"
        assert sorted(Path("/run").iterdir()) == before

    run(scenario)


def test_machines_reach_each_other_and_the_rack_but_not_the_computer(cluster: LabCluster) -> None:
    async def scenario() -> None:
        cluster.start()
        await ask(cluster, 1, ask="facts")
        assert await ask(cluster, 0, ask="reach", address="10.1.0.3", port=7835) == 0
        reached = await ask(cluster, 0, ask="reach", address="192.0.2.1", port=80)
        assert reached == errno.ENETUNREACH
        proxy_port = cluster.rack.proxy_tcp_port
        refused = await ask(cluster, 0, ask="reach", address="10.1.0.1", port=proxy_port)
        assert refused == errno.ECONNREFUSED

    run(scenario)


def test_a_machine_comes_back_at_another_address(cluster: LabCluster) -> None:
    async def scenario() -> None:
        rack = cluster.start()
        await ask(cluster, 0, ask="facts")
        with pytest.raises(FailedPreconditionError, match="running"):
            await cluster.readdress(0, "10.1.0.40")
        await cluster.split([[2], [0, 1]])
        await cluster.power(0, "kill")
        for taken in ("10.1.0.1", "10.1.0.3", "10.1.1.40"):
            with pytest.raises(InvalidArgumentError):
                await cluster.readdress(0, taken)
        await cluster.readdress(0, "10.1.0.40")
        await cluster.power(0, "on")
        facts = await ask(cluster, 0, ask="facts")  # through the proxy, at the new address
        assert facts["argv"][4:6] == ["--address", "10.1.0.40"]
        assert (await cluster.status())[0].address == "10.1.0.40"
        await ask(cluster, 1, ask="facts")
        assert await ask(cluster, 1, ask="reach", address="10.1.0.40", port=7835) == 0
        with pytest.raises(ProxyError, match="not allowed"):
            await Proxy.from_url(f"socks5://{rack.proxy}").connect(address_of(0), 7835)
        await cluster.stop()
        cluster.start()
        await ask(cluster, 0, ask="facts")
        assert (await cluster.status())[0].address == "10.1.0.40"

    run(scenario)


def test_the_proxy_dials_only_client_ports_of_the_machines(cluster: LabCluster) -> None:
    async def scenario() -> None:
        rack = cluster.start()
        await ask(cluster, 0, ask="facts")
        proxy = Proxy.from_url(f"socks5://{rack.proxy}")
        for host, port in [("10.1.0.2", 7834), ("10.1.0.1", 7835), ("127.0.0.1", 7835)]:
            with pytest.raises(ProxyError, match="not allowed"):
                await proxy.connect(host, port)
        node_id = "metropolis-" + "0a" * 16
        await cluster.learn_node_ids({0: node_id})
        (await proxy.connect(node_id, 7835)).close()
        assert cluster.rack.node_ids == {0: node_id}

    run(scenario)


def test_a_machine_whose_process_1_ends_boots_again(cluster: LabCluster) -> None:
    async def scenario() -> None:
        cluster.start()
        await ask(cluster, 1, ask="exit", code="3")
        await ask(cluster, 1, ask="facts")
        status = (await cluster.status())[1]
        assert (status.boots, status.last_exit, status.is_running) == (2, 3, True)
        assert cluster.console(1, lines=9) == ["booted", "booted"]

    run(scenario)


def test_the_power_switch_works(cluster: LabCluster) -> None:
    async def scenario() -> None:
        cluster.start()
        await ask(cluster, 1, ask="facts")
        await cluster.power(1, "off")
        assert cluster.console(1, lines=9) == ["booted", "stopping"]
        await cluster.power(1, "on")
        await ask(cluster, 1, ask="facts")
        await cluster.power(1, "kill")
        status = (await cluster.status())[1]
        assert (status.power, status.is_running, status.last_exit) == ("off", False, 128 + 9)
        await cluster.power(1, "cycle")
        await ask(cluster, 1, ask="facts")
        assert [each.boots for each in await cluster.status()] == [1, 3, 1]

    run(scenario)


def test_a_pulled_cable_isolates_a_machine_even_over_a_reboot(cluster: LabCluster) -> None:
    async def scenario() -> None:
        cluster.start()
        for number in range(3):
            await ask(cluster, number, ask="facts")
        await cluster.link(1, "down")
        assert await ask(cluster, 0, ask="reach", address="10.1.0.3", port=7835) != 0
        await cluster.power(1, "cycle")
        assert await ask(cluster, 0, ask="reach", address="10.1.0.3", port=7835) != 0
        await cluster.link(1, "up")
        await ask(cluster, 1, ask="facts")
        assert await ask(cluster, 0, ask="reach", address="10.1.0.3", port=7835) == 0

    run(scenario)


def test_a_split_divides_the_machines_and_the_operator_reaches_all(cluster: LabCluster) -> None:
    async def scenario() -> None:
        cluster.start()
        for number in range(3):
            await ask(cluster, number, ask="facts")
        await cluster.split([[0], [1, 2]])
        await cluster.power(2, "cycle")  # boots into its part
        for number in range(3):
            await ask(cluster, number, ask="facts")
        assert await ask(cluster, 0, ask="reach", address="10.1.0.3", port=7835) != 0
        assert await ask(cluster, 2, ask="reach", address="10.1.0.2", port=7835) != 0
        assert await ask(cluster, 1, ask="reach", address="10.1.0.4", port=7835) == 0
        await cluster.split([[0, 1, 2]])
        assert await ask(cluster, 0, ask="reach", address="10.1.0.3", port=7835) == 0
        assert await ask(cluster, 2, ask="reach", address="10.1.0.2", port=7835) == 0

    run(scenario)


def test_impossible_wishes_are_refused_with_a_remedy(cluster: LabCluster) -> None:
    async def scenario() -> None:
        cluster.start()
        for parts in ([[0]], [[0, 1], [1, 2]], [[0, 1, 2], []], [], [[0, 1, "2"]]):
            with pytest.raises(InvalidArgumentError):
                await cluster.split(parts)  # type: ignore[arg-type]
        with pytest.raises(NotFoundError):
            await cluster.power(7, "on")
        with pytest.raises(InvalidArgumentError):
            await cluster.power(0, "sideways")  # type: ignore[arg-type]
        with pytest.raises(FailedPreconditionError, match="has 3 nodes"):
            cluster.create(count=4)

    run(scenario)


def test_killing_the_keeper_kills_every_machine_and_start_brings_them_back(
    cluster: LabCluster,
) -> None:
    async def scenario() -> None:
        cluster.start()
        for number in range(3):
            await ask(cluster, number, ask="facts")
        found = find_processes(cluster.directory)
        assert len(found) == 1 + 2 * 3  # the keeper; per machine one outside and process 1
        assert len({namespaces_of(process_id)["net"] for process_id in found}) == 4
        keeper = min(found)
        os.kill(keeper, signal.SIGKILL)
        assert await wait_gone(cluster.directory, timeout_s=5)
        reap(keeper)
        with pytest.raises(UnavailableError):
            await cluster.status()
        assert not cluster.is_running
        cluster.start()
        assert (await ask(cluster, 2, ask="facts"))["pid"] == 1

    run(scenario)


def test_killing_what_boots_a_machine_kills_the_machine_and_reboots_it(cluster: LabCluster) -> None:
    async def scenario() -> None:
        cluster.start()
        await ask(cluster, 0, ask="facts")
        outside = find_processes(cluster.directory)[1]  # 0 is the keeper
        os.kill(outside, signal.SIGKILL)
        while sum(each.boots for each in await cluster.status()) != 4:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        for number in range(3):
            await ask(cluster, number, ask="facts")
        assert len(find_processes(cluster.directory)) == 7

    run(scenario)


def test_stop_is_orderly_and_complete_and_can_be_repeated(cluster: LabCluster) -> None:
    async def scenario() -> None:
        cluster.start()
        for number in range(3):
            await ask(cluster, number, ask="facts")
        assert await cluster.stop()
        assert find_processes(cluster.directory) == []
        assert [cluster.console(number, lines=1) for number in range(3)] == [["stopping"]] * 3
        assert not await cluster.stop()
        cluster.start()
        cluster.start()
        assert len(await cluster.status()) == 3

    run(scenario)


def test_leftovers_are_found_by_their_environment_and_ended(cluster: LabCluster) -> None:
    async def scenario() -> None:
        process = await asyncio.create_subprocess_exec(
            "sleep",
            "1000",
            env={"METROPOLIS_LAB": str(cluster.directory.path), "PATH": os.environ["PATH"]},
        )
        assert await end_processes(cluster.directory) == 1
        assert await process.wait() == -signal.SIGKILL
        assert await end_processes(cluster.directory) == 0

    run(scenario)


def test_two_commands_do_not_change_a_cluster_at_once(cluster: LabCluster) -> None:
    with cluster.exclusively(), pytest.raises(UnavailableError, match="another"):
        cluster.exclusively().__enter__()
