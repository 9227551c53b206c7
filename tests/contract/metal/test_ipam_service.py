# SPDX-License-Identifier: Apache-2.0
"""Every method of the address books' service, called over a real socket with real TLS."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from kits.mutual_tls import SERVER_NAME, Authority
from metropolis.api import metal_ipam_pb2 as pb
from metropolis.api.rpc_metal_ipam import IpamService
from metropolis.base.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.metal.ipam.server import IpamServing, serve
from metropolis.rpc.channel import Channel
from metropolis.rpc.grpc.mutual import dial_mutual
from metropolis.rpc.transport import Endpoint
from unit.metal.kit import opened


def run(directory: Path, url: str, scenario: Callable[[Channel], Awaitable[None]]) -> None:
    async def whole() -> None:
        authority = Authority(directory)
        started: asyncio.Future[Endpoint] = asyncio.get_running_loop().create_future()
        stop = asyncio.Event()
        async with opened(url) as store, asyncio.TaskGroup() as group:
            group.create_task(
                serve(
                    IpamServing(endpoint=Endpoint("127.0.0.1", 0), tls=authority.issue("server")),
                    store,
                    entropy=LinuxEntropy(),
                    stop=stop,
                    started=started.set_result,
                )
            )
            endpoint = await started
            stranger = Authority(directory, "other").issue("stranger", trusting=authority)
            closed = dial_mutual(endpoint, tls=stranger, server_name=SERVER_NAME)
            client = authority.issue("client")
            channel = dial_mutual(endpoint, tls=client, server_name=SERVER_NAME)
            try:
                with pytest.raises(UnavailableError):
                    await closed.call(IpamService.VERSION, pb.VersionRequest())
                await scenario(channel)
            finally:
                await closed.close()
                await channel.close()
                stop.set()

    asyncio.run(whole())


def test_prefixes_and_children(tmp_path: Path, store_url: str) -> None:
    async def scenario(channel: Channel) -> None:
        version = await channel.call(IpamService.VERSION, pb.VersionRequest())
        assert version.version.startswith("v")
        made = await channel.call(
            IpamService.CREATE_PREFIX, pb.CreatePrefixRequest(cidr="10.0.0.9/8")
        )
        assert made.prefix == pb.Prefix(cidr="10.0.0.0/8")
        with pytest.raises(InvalidArgumentError, match=r"overlaps 10\.0\.0\.0/8"):
            await channel.call(
                IpamService.CREATE_PREFIX, pb.CreatePrefixRequest(cidr="10.1.0.0/16")
            )
        any_child = await channel.call(
            IpamService.ACQUIRE_CHILD_PREFIX,
            pb.AcquireChildPrefixRequest(cidr="10.0.0.0/8", length=22),
        )
        assert any_child.prefix == pb.Prefix(cidr="10.0.0.0/22", parent_cidr="10.0.0.0/8")
        certain = await channel.call(
            IpamService.ACQUIRE_CHILD_PREFIX,
            pb.AcquireChildPrefixRequest(cidr="10.0.0.0/8", child_cidr="10.9.0.0/16"),
        )
        assert certain.prefix.cidr == "10.9.0.0/16"
        for wrong in (
            pb.AcquireChildPrefixRequest(cidr="10.0.0.0/8", child_cidr="10.9.0.0/16"),
            pb.AcquireChildPrefixRequest(cidr="10.0.0.0/8", length=8),
            pb.AcquireChildPrefixRequest(cidr="10.0.0.0/8"),
            pb.AcquireChildPrefixRequest(cidr="10.0.0.0/8", length=4_000_000_000),
        ):
            with pytest.raises(InvalidArgumentError):
                await channel.call(IpamService.ACQUIRE_CHILD_PREFIX, wrong)
        listed = await channel.call(IpamService.LIST_PREFIXES, pb.ListPrefixesRequest())
        assert [each.cidr for each in listed.prefixes] == [
            "10.0.0.0/8",
            "10.0.0.0/22",
            "10.9.0.0/16",
        ]
        got = await channel.call(IpamService.GET_PREFIX, pb.GetPrefixRequest(cidr="10.9.0.0/16"))
        assert got.prefix.parent_cidr == "10.0.0.0/8"
        used = await channel.call(
            IpamService.PREFIX_USAGE, pb.PrefixUsageRequest(cidr="10.0.0.0/8")
        )
        assert (used.available_ips, used.acquired_ips, used.acquired_prefixes) == (2**24, 2, 2)
        assert used.available_smallest_prefixes == 2**22 - 2**8 - 2**14
        assert used.available_prefixes[0] == "10.0.4.0/22"
        released = await channel.call(
            IpamService.RELEASE_CHILD_PREFIX, pb.ReleaseChildPrefixRequest(cidr="10.9.0.0/16")
        )
        assert released.prefix == certain.prefix
        with pytest.raises(NotFoundError):
            await channel.call(
                IpamService.RELEASE_CHILD_PREFIX, pb.ReleaseChildPrefixRequest(cidr="10.9.0.0/16")
            )
        with pytest.raises(InvalidArgumentError, match="has child prefixes"):
            await channel.call(IpamService.DELETE_PREFIX, pb.DeletePrefixRequest(cidr="10.0.0.0/8"))
        await channel.call(
            IpamService.RELEASE_CHILD_PREFIX, pb.ReleaseChildPrefixRequest(cidr="10.0.0.0/22")
        )
        gone = await channel.call(
            IpamService.DELETE_PREFIX, pb.DeletePrefixRequest(cidr="10.0.0.0/8")
        )
        assert gone.prefix == made.prefix
        for method, request in (
            (IpamService.GET_PREFIX, pb.GetPrefixRequest(cidr="10.0.0.0/8")),
            (IpamService.PREFIX_USAGE, pb.PrefixUsageRequest(cidr="10.0.0.0/8")),
            (IpamService.DELETE_PREFIX, pb.DeletePrefixRequest(cidr="10.0.0.0/8")),
        ):
            with pytest.raises(NotFoundError):
                await channel.call(method, request)  # type: ignore[misc]

    run(tmp_path, store_url, scenario)


def test_addresses(tmp_path: Path, store_url: str) -> None:
    async def scenario(channel: Channel) -> None:
        await channel.call(IpamService.CREATE_PREFIX, pb.CreatePrefixRequest(cidr="10.0.0.0/28"))

        async def take(ip: str | None = None, cidr: str = "10.0.0.0/28") -> str:
            request = pb.AcquireIPRequest(prefix_cidr=cidr, ip=ip)
            return (await channel.call(IpamService.ACQUIRE_IP, request)).ip.ip

        assert await take("10.0.0.5") == "10.0.0.5"
        for taken in ("10.0.0.5", "10.0.0.0", "10.0.0.15"):
            with pytest.raises(AlreadyExistsError):
                await take(taken)
        for outside in ("10.0.0.16", "x"):
            with pytest.raises(InvalidArgumentError):
                await take(outside)
        rest = await asyncio.gather(*(take() for _ in range(13)))
        assert len({*rest, "10.0.0.5"}) == 14
        with pytest.raises(NotFoundError, match="no address is left"):
            await take()
        for ip in (None, "10.9.0.1"):
            with pytest.raises(InvalidArgumentError, match=r"prefix 10\.9\.0\.0/28 not found"):
                await take(ip, "10.9.0.0/28")
        release = pb.ReleaseIPRequest(prefix_cidr="10.0.0.0/28", ip="10.0.0.5")
        released = await channel.call(IpamService.RELEASE_IP, release)
        assert released.ip == pb.IP(ip="10.0.0.5", parent_prefix="10.0.0.0/28")
        with pytest.raises(NotFoundError):
            await channel.call(IpamService.RELEASE_IP, release)
        assert await take() == "10.0.0.5"

    run(tmp_path, store_url, scenario)


def test_namespaces_and_dumps(tmp_path: Path, store_url: str) -> None:
    async def scenario(channel: Channel) -> None:
        for name in ("blue", "green"):
            await channel.call(
                IpamService.CREATE_NAMESPACE, pb.CreateNamespaceRequest(namespace=name)
            )
        for taken in ("blue", "root"):
            with pytest.raises(AlreadyExistsError):
                await channel.call(
                    IpamService.CREATE_NAMESPACE, pb.CreateNamespaceRequest(namespace=taken)
                )
        listed = await channel.call(IpamService.LIST_NAMESPACES, pb.ListNamespacesRequest())
        assert list(listed.namespace) == ["root", "blue", "green"]

        for cidr, namespace in (
            ("10.0.0.0/8", "blue"),
            ("10.0.0.0/8", None),
            ("2001:db8::/32", "blue"),
        ):
            await channel.call(
                IpamService.CREATE_PREFIX, pb.CreatePrefixRequest(cidr=cidr, namespace=namespace)
            )
        for length in (22, 24):
            await channel.call(
                IpamService.ACQUIRE_CHILD_PREFIX,
                pb.AcquireChildPrefixRequest(cidr="10.0.0.0/8", length=length, namespace="blue"),
            )
        for ip in (None, "10.0.1.77"):
            request = pb.AcquireIPRequest(prefix_cidr="10.0.0.0/22", ip=ip, namespace="blue")
            answer = await channel.call(IpamService.ACQUIRE_IP, request)
            assert answer.namespace == "blue"

        dumped = await channel.call(IpamService.DUMP, pb.DumpRequest(namespace="blue"))
        with pytest.raises(InvalidArgumentError, match="has prefixes"):
            await channel.call(IpamService.LOAD, pb.LoadRequest(dump=dumped.dump, namespace="root"))
        await channel.call(IpamService.LOAD, pb.LoadRequest(dump=dumped.dump, namespace="green"))
        again = await channel.call(IpamService.DUMP, pb.DumpRequest(namespace="green"))
        assert again.dump == dumped.dump
        with pytest.raises(AlreadyExistsError):
            await channel.call(
                IpamService.ACQUIRE_IP,
                pb.AcquireIPRequest(prefix_cidr="10.0.0.0/22", ip="10.0.1.77", namespace="green"),
            )
        with pytest.raises(NotFoundError):
            await channel.call(IpamService.DUMP, pb.DumpRequest(namespace="red"))
        with pytest.raises(NotFoundError):
            await channel.call(IpamService.LIST_PREFIXES, pb.ListPrefixesRequest(namespace="red"))
        with pytest.raises(InvalidArgumentError, match="has prefixes"):
            await channel.call(
                IpamService.DELETE_NAMESPACE, pb.DeleteNamespaceRequest(namespace="green")
            )
        await channel.call(
            IpamService.CREATE_NAMESPACE, pb.CreateNamespaceRequest(namespace="empty")
        )
        for broken in ("", "{}", '{"prefixes": [{"cidr": "10.0.0.0/8", "ips": ["11.0.0.1"]}]}'):
            with pytest.raises(InvalidArgumentError):
                await channel.call(IpamService.LOAD, pb.LoadRequest(dump=broken, namespace="empty"))
        await channel.call(
            IpamService.DELETE_NAMESPACE, pb.DeleteNamespaceRequest(namespace="empty")
        )

    run(tmp_path, store_url, scenario)


def test_whatever_is_sent_is_answered_with_a_reason(tmp_path: Path, store_url: str) -> None:
    async def scenario(channel: Channel) -> None:
        await channel.call(IpamService.CREATE_PREFIX, pb.CreatePrefixRequest(cidr="10.0.0.0/24"))
        for text in ("\0", "'; DROP TABLE ipam_prefix; --", "\U0001f600", "x" * 100_000):
            for method, request in (
                (IpamService.CREATE_PREFIX, pb.CreatePrefixRequest(cidr=text)),
                (IpamService.GET_PREFIX, pb.GetPrefixRequest(cidr="10.0.0.0/24", namespace=text)),
                (IpamService.ACQUIRE_IP, pb.AcquireIPRequest(prefix_cidr=text)),
                (IpamService.ACQUIRE_IP, pb.AcquireIPRequest(prefix_cidr="10.0.0.0/24", ip=text)),
                (
                    IpamService.ACQUIRE_IP,
                    pb.AcquireIPRequest(prefix_cidr="10.0.0.0/24", namespace=text),
                ),
                (
                    IpamService.ACQUIRE_CHILD_PREFIX,
                    pb.AcquireChildPrefixRequest(cidr="10.0.0.0/24", child_cidr=text),
                ),
                (IpamService.CREATE_NAMESPACE, pb.CreateNamespaceRequest(namespace=text)),
                (IpamService.DELETE_NAMESPACE, pb.DeleteNamespaceRequest(namespace=text)),
                (IpamService.LOAD, pb.LoadRequest(dump=text, namespace=text)),
                (IpamService.DUMP, pb.DumpRequest(namespace=text)),
            ):
                with pytest.raises((InvalidArgumentError, NotFoundError)):
                    await channel.call(method, request)  # type: ignore[misc]

    run(tmp_path, store_url, scenario)
