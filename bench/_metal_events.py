# SPDX-License-Identifier: Apache-2.0
"""Machines that send events over gRPC and mutual TLS: each call one event of one machine.

    python -m bench._metal_events TCP_PORT DIRECTORY MACHINES CONNECTIONS SECONDS

Prints one line of JSON: how many calls were answered, and in how many seconds.
"""

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop
from google.protobuf.timestamp_pb2 import Timestamp

from bench._metal_site import machine_name
from metropolis.api.metal_boot_pb2 import EventServiceSendRequest, MachineProvisioningEvent
from metropolis.api.rpc_metal_boot import EventService
from metropolis.metal.model.event import Event
from metropolis.rpc.grpc.mutual import MutualTls, dial_mutual
from metropolis.rpc.transport import Endpoint


async def send(
    tcp_port: int, tls: MutualTls, machines: int, connections: int, seconds: float
) -> dict[str, float]:
    """Send events, each connection after it was answered."""
    numbers = itertools.count()
    began_s = time.perf_counter()
    answered = 0

    async def one() -> None:
        nonlocal answered
        channel = dial_mutual(Endpoint("127.0.0.1", tcp_port), tls=tls, server_name="127.0.0.1")
        try:
            while time.perf_counter() - began_s < seconds:
                event = MachineProvisioningEvent(
                    time=Timestamp(seconds=int(time.time())), event=Event.ALIVE.value
                )
                name = machine_name(next(numbers) * 7919 % machines)
                answer = await channel.call(
                    EventService.SEND, EventServiceSendRequest(events={name: event})
                )
                assert answer.events == 1
                answered += 1
        finally:
            await channel.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(one())
    return {"count": answered, "took_s": time.perf_counter() - began_s}


def main(arguments: Sequence[str]) -> None:
    """Print what was measured."""
    tcp_port, directory, machines, connections, seconds = arguments
    place = Path(directory)
    tls = MutualTls(
        certificate=str(place / "machine.pem"),
        key=str(place / "machine.key"),
        authority=str(place / "authority.pem"),
    )
    print(
        json.dumps(
            uvloop.run(send(int(tcp_port), tls, int(machines), int(connections), float(seconds)))
        )
    )


if __name__ == "__main__":
    main(sys.argv[1:])
