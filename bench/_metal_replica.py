# SPDX-License-Identifier: Apache-2.0
"""One replica of Metal, all of it but the command line, in a process of its own.

    python -m bench._metal_replica DATABASE DIRECTORY TCP_PORT GRPC_TCP_PORT KEPT_BYTES [PROFILE]

It says "serving" once it does, and ends on SIGTERM. PROFILE: a file for what cProfile finds.
"""

import cProfile
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from metropolis.host.linux.clock import LinuxClock
from metropolis.lab.commands.metal_process import serve_until_stopped
from metropolis.metal.access.hmac import HmacKeys
from metropolis.metal.access.role import Role
from metropolis.metal.boot.authority import Subject, issue
from metropolis.metal.boot.server import BootServing
from metropolis.metal.main import Serving
from metropolis.metal.settings import Settings
from metropolis.rpc.transport import Endpoint

KEY = b"key-of-benchmarks"


def started(_url: str) -> None:
    """Say that it serves."""
    print("serving", flush=True)


def main(arguments: Sequence[str]) -> None:
    """Serve what the arguments name."""
    database, directory, tcp_port, grpc_tcp_port, kept_bytes, *profile = arguments
    certificates = Path(directory) / "grpc"
    now = LinuxClock().wall()
    issue(certificates, Subject(name="machine"), now=now)
    tls = issue(certificates, Subject(name="server", hosts=("127.0.0.1",)), now=now)
    serving = Serving(
        database=database,
        host="127.0.0.1",
        tcp_port=int(tcp_port),
        settings=Settings(check_urls=False, kept_bytes_max=int(kept_bytes)),
        keys=HmacKeys(keys=dict.fromkeys((Role.VIEW, Role.EDIT, Role.ADMIN), KEY)),
        boot=BootServing(endpoint=Endpoint("127.0.0.1", int(grpc_tcp_port)), tls=tls),
    )
    if not profile:
        uvloop.run(serve_until_stopped(serving, started))
        return
    watched = cProfile.Profile()
    watched.runcall(uvloop.run, serve_until_stopped(serving, started))
    watched.dump_stats(profile[0])


if __name__ == "__main__":
    main(sys.argv[1:])
