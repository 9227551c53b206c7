# SPDX-License-Identifier: Apache-2.0
"""A bench whose store is a real etcd of one member."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from contract.consensus.conftest import EtcdProcesses, poll_until_answers
from metropolis.consensus.etcd.membership import EtcdMembership
from metropolis.consensus.etcd.store import EtcdStore
from metropolis.consensus.member.status import ConsensusStatus
from metropolis.rpc.grpc import dial_unix
from unit.cluster.harness import Bench, bench_on


def run_on_etcd(directory: Path, scenario: Callable[[Bench], Awaitable[None]]) -> None:
    """Run a scenario against it."""
    processes = EtcdProcesses(directory)

    async def main() -> None:
        channel = dial_unix(processes.start("only"))
        try:
            store = EtcdStore(channel)
            await poll_until_answers(store)
            status = ConsensusStatus(store=store, membership=EtcdMembership(channel), member_id=1)
            async with asyncio.timeout(30), bench_on(status) as made:
                await scenario(made)
        finally:
            await channel.close()

    try:
        asyncio.run(main())
    finally:
        processes.kill_all()
