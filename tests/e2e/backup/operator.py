# SPDX-License-Identifier: Apache-2.0
"""An operator with `metroctl`, a cluster that is lost, and machines for another one."""

import asyncio
import base64
import io
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from metropolis.api import management_pb2
from metropolis.host.linux.directory import LinuxDirectory
from metropolis.lab import parameters
from metropolis.lab.cluster import LabCluster
from metropolis.lab.launch import Launch
from metropolis.lab.model import address_of
from metropolis.lab.progress import Progress
from metropolis.lab.state import ClusterDirectory
from metropolis.node.storage import PARAMETERS, NodeStorage
from metropolis.pki import certificates

COMMAND_TIMEOUT_S = 120
WAIT_S = 60
NAME = "demo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    status: int
    out: str
    err: str


class Operator:
    """Runs commands as a page of the handbook spells them, in one directory."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.said: list[str] = []  # the commands that succeeded
        self.proxy = ""

    @property
    def contexts_root(self) -> Path:
        return self.home / "x" / "metroctl"

    def run(self, line: str, *, stdin: str = "") -> Outcome:
        """Run a line that begins with `metroctl`."""
        program, *arguments = shlex.split(line)
        assert program == "metroctl"
        flags = ["--proxy", self.proxy] if self.proxy else []
        done = subprocess.run(
            [sys.executable, "-m", "metropolis.ctl.metroctl", *arguments, *flags],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=self.home,
            env={**os.environ, "HOME": str(self.home), "XDG_CONFIG_HOME": str(self.home / "x")},
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        return Outcome(status=done.returncode, out=done.stdout, err=done.stderr)

    def do(self, line: str) -> Outcome:
        """Run a command that must succeed."""
        outcome = self.run(line)
        assert outcome.status == 0, (line, outcome)
        self.said.append(line)
        return outcome

    def refuses(self, line: str, reason: str) -> None:
        """Run a command that must fail, and say why."""
        outcome = self.run(line)
        assert outcome.status != 0, (line, outcome)
        assert reason in outcome.err, (line, outcome)

    def wait(self, line: str, until: Callable[[Outcome], bool]) -> Outcome:
        """Repeat a command; each takes long enough to need no pause."""
        deadline_s = time.monotonic() + WAIT_S
        while True:
            outcome = self.run(line)
            if outcome.status == 0 and until(outcome):
                return outcome
            assert time.monotonic() < deadline_s, (line, outcome)


def rack(home: Path, name: str, count: int) -> LabCluster:
    """Make machines that nobody has switched on."""
    cluster = LabCluster(ClusterDirectory(home / "racks" / name), dies_with_us=True)
    cluster.create(count=count, proxy_tcp_port=0)
    return cluster


@contextmanager
def launched(operator: Operator, *, count: int) -> Iterator[LabCluster]:
    """Launch the cluster that is going to be lost."""
    cluster = rack(operator.home, NAME, count)
    launch = Launch(
        cluster=cluster,
        contexts_root=operator.contexts_root,
        progress=Progress(io.StringIO(), title="test"),
        timeout_s=WAIT_S,
    )
    try:
        uvloop.run(launch.run())
        yield cluster
    finally:
        asyncio.run(cluster.destroy())


@contextmanager
def new_hardware(home: Path, prepared: Path) -> Iterator[LabCluster]:
    """Switch on the first of two machines, with the files of a restore on its disk."""
    cluster = rack(home, "new", 2)
    asyncio.run(parameters.put_restoration(cluster.directory, 0, prepared))
    try:
        cluster.start()
        yield cluster
    finally:
        asyncio.run(cluster.destroy())


def join_second(cluster: LabCluster, ca_pem: bytes, ticket: str) -> None:
    """Give the second machine its parameters, as an installer would, and power."""
    info = management_pb2.GetClusterInfoResponse(ca_certificate=certificates.from_pem(ca_pem))
    info.cluster_directory.nodes.add(id="").addresses.add(host=address_of(0))
    joining = parameters.register_parameters(info, ticket=base64.b64decode(ticket))

    async def act() -> None:
        storage = NodeStorage(LinuxDirectory(cluster.directory.storage(1)))
        await storage.write(PARAMETERS, joining.SerializeToString(deterministic=True))
        await cluster.power(1, "on")

    asyncio.run(act())
