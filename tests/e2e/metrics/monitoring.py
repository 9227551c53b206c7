# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus beside a lab's nodes, with the configuration that the handbook prints."""

import json
import re
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster.site import METROCTL, Site
from kits.prometheus import program
from metropolis.lab.leftovers import find_processes

PAGE = Path(__file__).resolve().parents[3] / "docs" / "handbook" / "metrics-and-monitoring.md"
DIRECTORY = "/etc/prometheus/metropolis"  # of the handbook's Prometheus
LISTEN = "127.0.0.1:9090"
WAIT_S = 60.0
# Asked inside the lab's network: GET the argument, print the answer.
_ASK = """
import sys, urllib.request
sys.stdout.write(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())
"""


def printed(number: int) -> str:
    """Return a YAML block of the handbook's chapter."""
    blocks = re.findall(
        r"^```yaml\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    assert len(blocks) == 2
    return str(blocks[number])


def configuration(home: Path, ids: Sequence[str]) -> str:
    """Return the handbook's configuration, with this cluster's ids and these files."""
    text = printed(0).replace(DIRECTORY, str(home))
    text = re.sub(r"(_interval): \d+s", r"\1: 1s", text)  # a test does not wait
    for number, node_id in enumerate(ids[:2], start=1):
        text = text.replace(f"metropolis-NODE_ID_{number}", node_id)
    assert "NODE_ID" not in text
    return text


class Monitoring:
    """A Prometheus that runs."""

    def __init__(self, listen: str, inside: Sequence[str], log: Path) -> None:
        self._listen = listen
        self._inside = inside
        self._log = log

    def get(self, path: str, **parameters: str) -> Any:
        """Ask its HTTP API."""
        url = f"http://{self._listen}{path}?{urllib.parse.urlencode(parameters)}"
        done = subprocess.run(
            [*self._inside, sys.executable, "-c", _ASK, url],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        if done.returncode:
            raise ConnectionError(done.stderr[-500:])
        return json.loads(done.stdout)["data"]

    def query(self, expression: str) -> Mapping[tuple[str, str], float]:
        """Evaluate: (job, node) -> value."""
        found = self.get("/api/v1/query", query=expression)["result"]
        return {
            (each["metric"].get("job", ""), each["metric"].get("node", "")): float(each["value"][1])
            for each in found
        }

    def rules(self) -> Sequence[Mapping[str, Any]]:
        """Return the alarms and how their evaluation went."""
        groups: Sequence[Mapping[str, Any]] = self.get("/api/v1/rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def eventually(self, expression: str, fits: Callable[[Mapping[Any, float]], bool]) -> None:
        """Wait until the answer fits."""
        deadline_s = time.monotonic() + WAIT_S
        found: Any = None
        while time.monotonic() < deadline_s:
            try:
                found = self.query(expression)
                if fits(found):
                    return
            except (ConnectionError, subprocess.TimeoutExpired) as error:
                found = error
            time.sleep(0.2)
        pytest.fail(f"{expression}: {found}\n{self._log.read_text()[-3000:]}")


def log_in(site: Site, home: Path) -> None:
    """Make the user that the handbook makes, and log in as it."""

    home.mkdir(mode=0o700)

    def metroctl(*words: str, flags: Sequence[str], stdin: str = "") -> str:
        done = subprocess.run(
            [METROCTL, *flags, *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    owner = site.flags(*site.numbers)
    metroctl("user", "create", "prometheus", "--permission", "cluster.read", flags=owner)
    password = metroctl("user", "password", "prometheus", "--hours", "4", flags=owner)
    mine = ["--config", str(home), *owner[2:]]
    accept = "--insecure-accept-and-persist-first-encountered-ca"
    metroctl("user", "login", "prometheus", accept, flags=mine, stdin=password)


@contextmanager
def monitored(site: Site, home: Path, addresses: Mapping[str, str]) -> Iterator[Monitoring]:
    """Run Prometheus inside the lab's network while the block runs.

    Args:
        home: Where `log_in` has left the user's files.
        addresses: Of the nodes by id, for /etc/hosts.
    """
    (home / "hosts").write_text(
        "127.0.0.1 localhost\n" + "".join(f"{at} {name}\n" for name, at in addresses.items())
    )
    (home / "prometheus.yml").write_text(configuration(home, list(addresses)))
    (home / "metropolis-rules.yml").write_text(printed(1))
    inside = ("nsenter", "-t", str(_keeper(site)), "-n")
    argv = [
        str(program("prometheus")),
        f"--config.file={home}/prometheus.yml",
        f"--storage.tsdb.path={home}/data",
        f"--web.listen-address={LISTEN}",
    ]
    mount = f'mount --bind "{home}/hosts" /etc/hosts && exec "$@"'
    beginning = [*inside, "unshare", "--mount", "sh", "-c", mount, "prometheus"]
    with _running([*beginning, *argv], home / "log"):
        yield Monitoring(LISTEN, inside, home / "log")


@contextmanager
def monitored_through_proxy(site: Site, home: Path, ids: Sequence[str]) -> Iterator[Monitoring]:
    """Run Prometheus outside of the lab's network, with the line that the handbook names."""
    text = configuration(home, ids)
    line = f"proxy_url: socks5://{site.cluster.rack.proxy}"
    text = re.sub(r"^( +)(tls_config: )", rf"\1{line}\n\1\2", text, flags=re.MULTILINE)
    (home / "outside.yml").write_text(text)
    (home / "metropolis-rules.yml").write_text(printed(1))
    with socket.create_server(("127.0.0.1", 0)) as server:
        listen = f"127.0.0.1:{server.getsockname()[1]}"
    argv = [
        str(program("prometheus")),
        f"--config.file={home}/outside.yml",
        f"--storage.tsdb.path={home}/data-outside",
        f"--web.listen-address={listen}",
    ]
    with _running(argv, home / "log-outside"):
        yield Monitoring(listen, (), home / "log-outside")


@contextmanager
def _running(argv: Sequence[str], log_path: Path) -> Iterator[None]:
    with log_path.open("w") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=20)


def _keeper(site: Site) -> int:
    return next(
        each
        for each in find_processes(site.cluster.directory)
        if b"metropolis.lab.keeper" in Path(f"/proc/{each}/cmdline").read_bytes()
    )
