# SPDX-License-Identifier: Apache-2.0
"""Metal over HTTP and gRPC, as its users reach it: every request is signed and judged.

The replica, the database and whoever asks are processes of their own. Beside what was measured by
the clock stands what one core would do: answers per second of the replica's own CPU time, which
says the same on a machine that has other work.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from bench._metal_site import ROOT, Server, add_machines, make_site, server_of

Measurement = tuple[float, str, float | None]  # value, unit, target

FEW, LISTED, MANY = 100, 1_000, 10_000
SECONDS: Final = 3.0
LISTERS, GETTERS, SENDERS = 4, 32, 32
KEPT_BYTES: Final = 128 << 20
LISTS_PER_S: Final = {"postgres": 120, "sqlite": 250}
KEPT_PER_S: Final = 600
GETS_PER_S: Final = 4_000
LIST: Final = "/v1/machine"


def measure() -> dict[str, Measurement]:
    """Return name -> (value, unit, target)."""
    sys.path.insert(0, str(ROOT / "tests"))
    from kits.postgres import PostgresServer  # noqa: PLC0415  # after the path is known

    figures: dict[str, Measurement] = {}
    server = PostgresServer(durable=True)
    try:
        figures |= _run("postgres", server.url(server.new_database()))
    finally:
        server.stop()
    with tempfile.TemporaryDirectory() as directory:
        figures |= _run("sqlite", f"{directory}/bench.db")
    return figures


def _run(name: str, database: str) -> dict[str, Measurement]:
    """Measure on one database, first with few machines, then with many."""
    found: dict[str, Measurement] = {}
    pattern = asyncio.run(make_site(database))

    def grow(start: int, stop: int) -> None:
        asyncio.run(add_machines(database, pattern, start, stop))

    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        grow(0, FEW)
        with server_of(database, directory, kept_bytes=0) as server:
            few_s = _gets(server, FEW)["cpu_s"]
        with server_of(database, directory, kept_bytes=KEPT_BYTES) as server:
            _note(found, f"{name} get one of 100, kept", _gets(server, FEW), GETS_PER_S)
        grow(FEW, LISTED)
        with server_of(database, directory, kept_bytes=0) as server:
            answer = _load(server, LISTERS, LIST)
            _note(found, f"{name} list of 1,000", answer, LISTS_PER_S[name])
            size = answer["bytes"] / answer["count"]
            found[f"{name} list of 1,000, one answer"] = (size / 1e6, "MB", None)
        with server_of(database, directory, kept_bytes=KEPT_BYTES) as server:
            _note(found, f"{name} list of 1,000, kept", _load(server, LISTERS, LIST), KEPT_PER_S)
            tag = _tag(server)
            known = _load(server, LISTERS, LIST, f"If-None-Match={tag}", status="304")
            _note(found, f"{name} list of 1,000, known to the client", known, KEPT_PER_S)
        grow(LISTED, MANY)
        with server_of(database, directory, kept_bytes=0) as server:
            answer = _gets(server, MANY)
            _note(found, f"{name} get one of 10,000", answer, GETS_PER_S)
            flat = answer["cpu_s"] / few_s
            found[f"{name} get, 10,000 to 100 machines, CPU"] = (flat, "times", 1.5)
            share = _events(server)["cpu_s"] * MANY / 60
            found[f"{name} 10,000 machines heard every minute"] = (share * 100, "% of a core", 30)
    return found


def _note(found: dict[str, Measurement], name: str, answer: dict[str, Any], target: float) -> None:
    found[name] = (answer["count"] / answer["took_s"], "by clock/s", target)
    found[f"{name}, of a core"] = (1 / answer["cpu_s"], "/s", target)
    found[f"{name}, p99"] = (answer["p99_ms"], "ms", None)


def _gets(server: Server, machines: int) -> dict[str, Any]:
    return _load(server, GETTERS, f"{LIST}/*", machines=machines)


def _load(
    server: Server,
    connections: int,
    path: str,
    *headers: str,
    machines: int = 1,
    status: str = "200",
) -> dict[str, Any]:
    """Ask for a while, once to warm up and then to measure; CPU time is of the replica."""

    def ask(seconds: float) -> dict[str, Any]:
        return _program(
            "_metal_load", server.tcp_port, connections, seconds, path, machines, *headers
        )

    answer = _measured(server, ask)
    assert list(answer["statuses"]) == [status], answer["statuses"]
    return answer


def _events(server: Server) -> dict[str, Any]:
    def send(seconds: float) -> dict[str, Any]:
        return _program(
            "_metal_events", server.grpc_tcp_port, server.certificates, MANY, SENDERS, seconds
        )

    return _measured(server, send)


def _measured(server: Server, work: Callable[[float], dict[str, Any]]) -> dict[str, Any]:
    work(SECONDS / 3)
    before_s = server.cpu_s()
    answer = work(SECONDS)
    answer["cpu_s"] = (server.cpu_s() - before_s) / answer["count"]
    return answer


def _tag(server: Server) -> str:
    """Return the entity tag of the list."""
    answer = _program("_metal_load", server.tcp_port, 1, 0.2, LIST, 1)
    return str(answer["tag"])


def _program(module: str, *arguments: object) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", f"bench.{module}", *map(str, arguments)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        check=True,
        timeout=120,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
