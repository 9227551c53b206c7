# SPDX-License-Identifier: Apache-2.0
"""Empty stores to try something out in, thrown away afterwards: a real etcd, or the twin."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from metropolis.base.errors import MetropolisError, UnavailableError
from metropolis.consensus.etcd.store import EtcdStore
from metropolis.consensus.member.arguments import ENVIRONMENT
from metropolis.consensus.store import Store
from metropolis.host import Host, ProcessSpec
from metropolis.rpc.channel import Channel

START_S_MAX: Final = 30.0
_NAME: Final = "scratch"
_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Scratch:
    """Where scratch stores come from.

    Attributes:
        kind: "etcd" or "memory".
        open: Entered, it is a store that is empty; raises UnavailableError when there can be none.
    """

    kind: str
    open: Callable[[], AbstractAsyncContextManager[Store]]


def memory_scratch() -> Scratch:
    """Return scratch stores in this process: the twin of etcd."""
    return Scratch(kind="memory", open=_open_memory)


def etcd_scratch(*, host: Host, binary: str, root: str, dial: Callable[[str], Channel]) -> Scratch:
    """Return scratch stores that are a real etcd, started for each.

    Args:
        root: Directory in the host's storage, of the scratch store alone.
        dial: Opens a channel to a unix socket, without TLS.
    """
    return Scratch(kind="etcd", open=partial(_open_etcd, host, binary, root, dial))


@asynccontextmanager
async def _open_memory() -> AsyncGenerator[Store, None]:
    # Machines carry no twin: it is imported where one is asked for.
    from metropolis.consensus.memory.client import MemoryStore  # noqa: PLC0415  # the twin is for simulations: no node loads it
    from metropolis.consensus.memory.cluster import MemoryCluster  # noqa: PLC0415  # the twin is for simulations: no node loads it

    cluster = MemoryCluster()
    yield MemoryStore(cluster, cluster.bootstrap(name=_NAME, peer_url=f"unix://{_NAME}:0"))


@asynccontextmanager
async def _open_etcd(
    host: Host, binary: str, root: str, dial: Callable[[str], Channel]
) -> AsyncGenerator[Store, None]:
    await host.storage.remove_tree(root)  # left over by a power cut
    await host.storage.make_directory(root)
    await host.ephemeral.make_directory(_NAME)
    directory = host.ephemeral.absolute(_NAME)
    try:
        process = await host.processes.spawn(
            ProcessSpec(
                argv=_arguments(binary, host.storage.absolute(root)),
                environment=ENVIRONMENT,
                working_directory=directory,
            )
        )
        channel = dial(f"{directory}/{_NAME}.client:0")
        try:
            store = EtcdStore(channel)
            await _wait_answers(store)
            yield store
        finally:
            process.kill()
            await process.wait()
            await channel.close()
    finally:
        await host.storage.remove_tree(root)
        await host.ephemeral.remove_tree(_NAME)


def _arguments(binary: str, data: str) -> list[str]:
    """Nobody but this process reaches it, and what is in it need not outlive it."""
    client, peer = (f"unix://{_NAME}.{each}:0" for each in ("client", "peer"))
    flags = {
        "name": _NAME,
        "data-dir": f"{data}/data",
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"{_NAME}={peer}",
        "logger": "zap",
        "log-outputs": f"{data}/log",  # nobody reads what it prints
        "log-level": "error",
    }
    return [binary, "--unsafe-no-fsync", *(f"--{name}={value}" for name, value in flags.items())]


async def _wait_answers(store: EtcdStore) -> None:
    """Wait until it serves.

    Raises:
        UnavailableError: it does not, and probably ended.
    """
    try:
        async with asyncio.timeout(START_S_MAX):
            while not await _answers(store):  # noqa: ASYNC110  # nothing announces it
                await asyncio.sleep(_POLL_S)
    except TimeoutError as cause:
        raise UnavailableError(
            f"the scratch etcd does not answer within {START_S_MAX:.0f} s",
            remedy="Check that the disk of this node has room for it: 200 MiB.",
        ) from cause


async def _answers(store: EtcdStore) -> bool:
    try:
        await store.status()
    except MetropolisError:
        return False
    return True
