# SPDX-License-Identifier: Apache-2.0
"""An operator with a terminal, two machines and the owner key; nothing has happened yet."""

import asyncio
import base64
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from metropolis.api import management_pb2
from metropolis.ctl import contexts, credentials
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.lab import parameters
from metropolis.lab.cluster import LabCluster
from metropolis.lab.model import address_of
from metropolis.lab.state import ClusterDirectory
from metropolis.node.storage import CA_CERTIFICATE
from metropolis.pki import certificates, keys

COMMAND_TIMEOUT_S = 40
WAIT_S = 60
FIRST_ADDRESS, SECOND_ADDRESS = address_of(0), address_of(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    status: int
    out: str
    err: str


class Operator:
    """Runs `metroctl` as a program of its own, with one directory for everything."""

    def __init__(self, home: Path, cluster: LabCluster) -> None:
        self._home = home
        self.cluster = cluster
        self.flags: list[str] = []

    @property
    def ca_on_disk(self) -> bytes:
        """DER of the CA, as the first node keeps it."""
        path = self.cluster.directory.storage(0) / CA_CERTIFICATE.path
        return certificates.from_pem(path.read_bytes())

    def metroctl(self, *arguments: str, stdin: str = "") -> Outcome:
        done = subprocess.run(
            [sys.executable, "-m", "metropolis.ctl.metroctl", *self.flags, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env={**os.environ, "HOME": str(self._home), "XDG_CONFIG_HOME": str(self._home / "x")},
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        return Outcome(status=done.returncode, out=done.stdout, err=done.stderr)

    def wait(self, arguments: Sequence[str], *, until: Callable[[Outcome], bool]) -> Outcome:
        """Repeat a command; each takes long enough to need no pause."""
        deadline_s = time.monotonic() + WAIT_S
        while True:
            outcome = self.metroctl(*arguments)
            if until(outcome):
                return outcome
            assert time.monotonic() < deadline_s, outcome

    def switch_on_second_machine(self, ticket: str) -> None:
        """Give the second machine its parameters, as an installer would, and power."""
        info = management_pb2.GetClusterInfoResponse(ca_certificate=self.ca_on_disk)
        info.cluster_directory.nodes.add(id="").addresses.add(host=FIRST_ADDRESS)
        joining = parameters.register_parameters(info, ticket=base64.b64decode(ticket))

        async def act() -> None:
            await parameters.write_parameters(self.cluster.directory, 1, joining)
            await self.cluster.power(1, "on")

        asyncio.run(act())


@contextmanager
def two_machines(home: Path) -> Iterator[Operator]:
    """Run a rack of two machines; the first founds a cluster, the second is off."""
    cluster = LabCluster(ClusterDirectory(home / "ctl-demo"), dies_with_us=True)
    cluster.create(count=2)
    context = contexts.flat(home / "keys")
    key = credentials.create_owner_key(context, LinuxEntropy())
    rack = replace(cluster.rack, owner_key=keys.raw_public_key(key).hex())
    cluster.directory.write(rack)
    founding = parameters.bootstrap_parameters(owner_public_key=keys.raw_public_key(key))
    asyncio.run(parameters.write_parameters(cluster.directory, 0, founding))
    operator = Operator(home, cluster)
    try:
        rack = cluster.start()
        operator.flags = ["--config", str(context.directory), "--proxy", rack.proxy]
        yield operator
    finally:
        asyncio.run(cluster.destroy())
