# SPDX-License-Identifier: Apache-2.0
"""A stranger that registers with wrong tickets as fast as it can, over many connections.

    flood.py PROXY ADDRESS SECONDS

Prints how many calls were answered with which status.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence

import uvloop

from metropolis.api.curator_pb2 import RegisterNodeRequest
from metropolis.api.rpc_curator import Curator
from metropolis.base.errors import MetropolisError
from metropolis.base.ports import CURATOR_TCP_PORT
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.pki import keys
from metropolis.pki.certificates import issue_ephemeral
from metropolis.pki.credentials import Credentials
from metropolis.pki.identity import insecure_verifier
from metropolis.pki.tickets import RegisterTicket
from metropolis.rpc.grpc import GrpcTransport
from metropolis.rpc.transport import Endpoint

CONNECTIONS = 8
CALLS_AT_ONCE = 4


async def flood(proxy: str, address: str, seconds: float) -> Counter[str]:
    """Send calls until the time is over."""
    entropy = LinuxEntropy()
    transport = GrpcTransport(proxy=proxy)
    answers: Counter[str] = Counter()
    until_s = asyncio.get_running_loop().time() + seconds

    async def caller() -> None:
        key = keys.generate_key(entropy)
        channel = transport.dial(
            Endpoint(address, CURATOR_TCP_PORT),
            credentials=Credentials(certificate=issue_ephemeral(key), key=key),
            verify=insecure_verifier(),
        )

        async def call_again() -> None:
            while asyncio.get_running_loop().time() < until_s:
                request = RegisterNodeRequest(
                    register_ticket=RegisterTicket.generate(entropy).to_wire(),
                    join_key=entropy.token_bytes(32),
                )
                try:
                    await channel.call(Curator.REGISTER_NODE, request, timeout_s=10)
                except MetropolisError as error:
                    answers[error.code] += 1
                else:
                    answers["admitted"] += 1

        try:
            await asyncio.gather(*(call_again() for _ in range(CALLS_AT_ONCE)))
        finally:
            await channel.close()

    await asyncio.gather(*(caller() for _ in range(CONNECTIONS)))
    return answers


def main(arguments: Sequence[str]) -> None:
    """Flood, and say what came of it."""
    proxy, address, seconds = arguments
    answers = uvloop.run(flood(proxy, address, float(seconds)))
    sys.stdout.write(" ".join(f"{code}={count}" for code, count in sorted(answers.items())))


if __name__ == "__main__":
    main(sys.argv[1:])
