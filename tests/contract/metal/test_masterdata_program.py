# SPDX-License-Identifier: Apache-2.0
"""Masterdata and the address books as programs: alone, and beside the REST API."""

import asyncio
import re
import signal
import socket
import ssl
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from kits.mutual_tls import SERVER_NAME, Authority
from metropolis.api import metal_ipam_pb2 as ipam_pb
from metropolis.api import metal_masterdata_pb2 as pb
from metropolis.api.rpc_metal_ipam import IpamService
from metropolis.api.rpc_metal_masterdata import TenantService
from metropolis.host.linux.clock import LinuxClock
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.metal.access.hmac import HmacKeys
from metropolis.metal.access.role import Role
from metropolis.metal.audit.trace import Search, Trace, search
from metropolis.metal.ipam.server import IpamServing
from metropolis.metal.main import Serving, run
from metropolis.metal.masterdata.server import MasterdataServing
from metropolis.metal.masterdata.signing import Signer
from metropolis.metal.settings import Settings
from metropolis.metal.site import Site
from metropolis.rpc.grpc.mutual import MutualTls, dial_mutual
from metropolis.rpc.transport import Endpoint
from unit.metal.kit import StillClock

KEY = b"0123456789abcdef"
SERVING = re.compile(r"(masterdata|ipam): serving gRPC on 127\.0\.0\.1:(\d+)")


async def create_tenant(endpoint: Endpoint, tls: MutualTls) -> str:
    channel = dial_mutual(endpoint, tls=tls, server_name=SERVER_NAME)
    signer = Signer(key=KEY, clock=LinuxClock(), entropy=LinuxEntropy())
    try:
        request = pb.TenantCreateRequest(tenant=pb.Tenant(name="t"))
        made = await channel.call(TenantService.CREATE, request, metadata=signer.metadata())
        return made.tenant.meta.id
    finally:
        await channel.close()


async def create_prefix(endpoint: Endpoint, tls: MutualTls) -> str:
    channel = dial_mutual(endpoint, tls=tls, server_name=SERVER_NAME)
    try:
        request = ipam_pb.CreatePrefixRequest(cidr="10.0.0.0/8")
        return (await channel.call(IpamService.CREATE_PREFIX, request)).prefix.cidr
    finally:
        await channel.close()


async def program(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "metropolis.lab.main", "metal", "masterdata"),
        *arguments,
        stderr=asyncio.subprocess.PIPE,
        stdin=asyncio.subprocess.DEVNULL,
    )


def options(directory: Path, tls: MutualTls) -> tuple[str, ...]:
    key = directory / "hmac.key"
    key.touch(mode=0o600)
    key.write_bytes(KEY + b"\n")
    return (
        *("--database", str(directory / "metal.db")),
        *("--tls-certificate-file", tls.certificate),
        *("--tls-key-file", tls.key),
        *("--tls-authority-file", tls.authority),
        *("--masterdata-listen", "127.0.0.1:0"),
        *("--masterdata-hmac-key-file", str(key)),
    )


def test_the_program_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    async def scenario() -> None:
        authority = Authority(tmp_path)
        given = options(tmp_path, authority.issue("server"))
        process = await program(*given, "--ipam-listen", "127.0.0.1:0")
        assert process.stderr is not None
        try:
            ports: dict[str, int] = {}
            while len(ports) < 2:
                line = (await process.stderr.readline()).decode()
                assert line, "it ended"
                found = SERVING.match(line)
                assert found, line
                ports[found[1]] = int(found[2])
            client = authority.issue("client")
            at = {name: Endpoint("127.0.0.1", tcp_port) for name, tcp_port in ports.items()}
            assert len(await create_tenant(at["masterdata"], client)) == 36
            assert await create_prefix(at["ipam"], client) == "10.0.0.0/8"
        finally:
            process.send_signal(signal.SIGINT)
            rest = await process.stderr.read()
            assert (await process.wait(), rest) == (0, b"")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("without", "text"),
    [
        ("--tls-key-file", "--tls-key-file missing"),
        ("--masterdata-hmac-key-file", "masterdata needs an address and a key"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, without: str, text: str) -> None:
    async def scenario() -> None:
        given = list(options(tmp_path, Authority(tmp_path).issue("server")))
        at = given.index(without)
        del given[at : at + 2]
        process = await program(*given)
        _, errors = await process.communicate()
        assert process.returncode != 0
        assert text in errors.decode()

    asyncio.run(scenario())


def test_a_replica_serves_them_beside_the_rest(tmp_path: Path) -> None:
    async def scenario() -> None:
        authority = Authority(tmp_path)
        tls = authority.issue("server")
        ports = free_tcp_ports(2)
        ends = [Endpoint("127.0.0.1", tcp_port) for tcp_port in ports]
        stop = asyncio.Event()
        site: asyncio.Future[Site] = asyncio.get_running_loop().create_future()
        serving = Serving(
            database=":memory:",
            host="127.0.0.1",
            tcp_port=0,
            settings=Settings(),
            keys=HmacKeys(keys={Role.ADMIN: KEY}),
            masterdata=MasterdataServing(endpoint=ends[0], tls=tls, key=KEY),
            ipam=IpamServing(endpoint=ends[1], tls=tls),
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(
                run(
                    serving,
                    clock=LinuxClock(),
                    entropy=LinuxEntropy(),
                    stop=stop,
                    started=lambda made, _url: site.set_result(made),
                )
            )
            try:
                made = await site
                client = authority.issue("client")
                await create_tenant(ends[0], client)
                await create_prefix(ends[1], client)
                asked, answered = await traces(made)
                assert (asked.phase, answered.phase) == ("request", "response")
                assert (asked.type, asked.path) == ("grpc", "/v1.TenantService/Create")
                assert asked.rqid == answered.rqid
                assert asked.email
                assert '"name":"t"' in asked.body
            finally:
                stop.set()

    asyncio.run(scenario())


async def traces(site: Site) -> list[Trace]:
    now = site.clock.wall()
    wanted = Search(since=now - timedelta(hours=1), until=now, exact={}, part={}, words={})
    return await site.store.read(lambda reader: search(reader, wanted))


def free_tcp_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def test_clients_with_tls_1_2_get_in_and_speak_http_2(tmp_path: Path) -> None:
    async def scenario() -> None:
        authority = Authority(tmp_path)
        ((tcp_port,), stop) = (free_tcp_ports(1), asyncio.Event())
        started: asyncio.Future[Site] = asyncio.get_running_loop().create_future()
        serving = Serving(
            database=":memory:",
            host="127.0.0.1",
            tcp_port=0,
            settings=Settings(),
            keys=HmacKeys(keys={Role.ADMIN: KEY}),
            ipam=IpamServing(
                endpoint=Endpoint("127.0.0.1", tcp_port), tls=authority.issue("server")
            ),
        )
        client = authority.issue("client")
        context = ssl.create_default_context(cafile=client.authority)
        context.load_cert_chain(client.certificate, client.key)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2"])
        async with asyncio.TaskGroup() as group:
            group.create_task(
                run(
                    serving,
                    clock=StillClock(),
                    entropy=LinuxEntropy(),
                    stop=stop,
                    started=lambda made, _url: started.set_result(made),
                )
            )
            try:
                await started
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", tcp_port, ssl=context, server_hostname=SERVER_NAME
                )
                tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
                assert (tls.version(), tls.selected_alpn_protocol()) == ("TLSv1.2", "h2")
                settings_frame = await reader.readexactly(9)
                assert settings_frame[3] == 4, "a server begins with its settings"
                writer.close()
            finally:
                stop.set()

    asyncio.run(scenario())
