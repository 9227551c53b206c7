# SPDX-License-Identifier: Apache-2.0
"""Somebody with `metalctl`: builds an inventory, allocates a machine that registered, frees it."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

COMMAND_TIMEOUT_S = 30
WAIT_S = 40
SIZE = "c1-large-x86"  # what the simulated machine turns out to be


@dataclass(frozen=True, kw_only=True)
class Operator:
    """Runs `metalctl` as a program of its own."""

    home: Path
    url: str
    key: Path

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        environment = {name: text for name, text in os.environ.items() if "METALCTL" not in name}
        environment |= {"HOME": str(self.home), "PYTHONPATH": "src"}
        return subprocess.run(
            [sys.executable, "-m", "metropolis.ctl.metal.main", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env=environment,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )

    def ok(self, line: str, stdin: str = "") -> str:
        done = self.run(*line.split(), stdin=stdin)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        return done.stdout

    def json(self, line: str) -> Any:
        return json.loads(self.ok(f"{line} -o json"))

    def configure(self) -> None:
        """Write the context that every later command uses."""
        directory = self.home / ".metalctl"
        directory.mkdir()
        context = {"url": self.url, "hmac": self.key.read_text(encoding="ascii")}
        text = yaml.safe_dump({"current": "here", "contexts": {"here": context}})
        (directory / "config.yaml").write_text(text, encoding="utf-8")


@contextmanager
def control_plane(directory: Path) -> Iterator[Operator]:
    """Serve the example with one simulated machine, as `metropolis metal serve` does."""
    command = [sys.executable, "-m", "metropolis.lab.main", "metal", "serve"]
    command += ["--directory", str(directory / "metal"), "--seed", "--no-check-urls"]
    command += ["--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0", "--machines", "1"]
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": "src"},
    ) as server:
        assert server.stderr is not None
        try:
            line = server.stderr.readline()
            found = re.search(r"serving (http://\S+)/v1;", line)
            assert found is not None, line + server.stderr.read()
            home = directory / "home"
            home.mkdir()
            key = directory / "metal" / "hmac-admin.key"
            yield Operator(home=home, url=found[1], key=key)
        finally:
            server.terminate()


PARTITION = (
    "partition create --id p1 --name One --dnsservers 1.1.1.1 --mgmtserver 10.0.0.1:3333 "
    "--imageurl https://images.example/img --kernelurl https://images.example/kernel"
)
INVENTORY = {
    "size": """
id: x1
name: Tiny
constraints:
- {type: cores, min: 1024, max: 1024}
- {type: memory, min: 1, max: 2}
---
id: x2
constraints: [{type: cores, min: 2048, max: 2048}]
""",
    "image": """
id: flatcar-4.1.20261101
url: https://images.example/flatcar
features: [machine]
""",
    "filesystemlayout": """
id: one-disk
filesystems:
- {path: /, device: /dev/sda1, format: ext4}
disks:
- device: /dev/sda
  wipeonreinstall: true
  partitions: [{number: 1, size: 0, gpttype: "8300"}]
constraints: {sizes: [x1], images: {flatcar: "*"}}
""",
    "size imageconstraint": """
id: x1
constraints: {images: {flatcar: ">= 4.1"}}
""",
    "size reservation": """
id: kept
sizeid: x1
projectid: PROJECT
partitionids: [p1]
amount: 2
""",
}


def build(operator: Operator) -> str:
    """Make an inventory beside the example, twice; return the new project's id."""
    operator.ok(PARTITION)
    project: str = operator.json("project create --name web --tenant acme --machine-quota 1")[0][
        "meta"
    ]["id"]
    for words, text in INVENTORY.items():
        documents = text.replace("PROJECT", project)
        dry = operator.run(*words.split(), "apply", "-f", "-", "--dry-run", stdin=documents)
        assert "--- /dev/null" in dry.stdout, dry.stderr
        assert "create" in dry.stderr
        assert "nothing was done" in dry.stderr
        operator.ok(f"{words} apply -f -", documents)
        again = operator.run(*words.split(), "apply", "-f", "-", "--dry-run", stdin=documents)
        assert (again.stdout, "no changes" in again.stderr) == ("", True)
    return project


def wait_registered(operator: Operator) -> str:
    """Wait until the simulated machine has registered and waits; return its id."""
    end_s = time.monotonic() + WAIT_S
    while time.monotonic() < end_s:
        for machine in operator.json("machine list"):
            newest = (machine["events"]["log"] or [{}])[0].get("event")
            if machine.get("size", {}).get("id") == SIZE and newest == "Waiting":
                return str(machine["id"])
    raise AssertionError("no machine registered")


def test_the_whole_way_from_an_empty_partition_to_a_machine_and_back(tmp_path: Path) -> None:
    with control_plane(tmp_path) as operator:
        operator.configure()
        assert "healthy" in operator.ok("health")
        project = build(operator)
        assert {"x1", "x2", SIZE} <= {each["id"] for each in operator.json("size list")}

        network = operator.json(
            f"network allocate --partition mini-lab --project {project} --name web"
        )["id"]
        machine = wait_registered(operator)
        assert "allocatable" in operator.ok(f"machine explain {machine}")
        flags = f"--project {project} --partition mini-lab --size {SIZE} --image ubuntu-24.04"
        create = f"machine create {flags} --hostname web1 --name web1 --networks {network}"
        made = operator.run(*create.split(), "--wait")
        assert made.returncode == 0, made.stderr
        assert [line.partition(" ")[2] for line in made.stderr.splitlines()][-3:] == [
            "Installing",
            "Booting New Kernel",
            "Phoned Home",
        ]
        refused = operator.run(*create.split())
        assert refused.returncode == 1
        assert "quota" in refused.stderr

        assert machine in operator.ok(f"machine list --project {project} -o markdown")
        assert "in use" in operator.ok(f"machine explain {machine}")
        assert len(operator.ok(f"machine consolepassword {machine} --reason test").strip()) > 8
        assert operator.json(f"network ip list --project {project}")[0]["name"] == "web1"
        assert operator.run("network", "free", network).returncode == 1

        operator.ok(f"machine delete {machine}")
        assert operator.json(f"network ip list --project {project}") == []
        operator.ok(f"network free {network}")
        for words in ("size reservation delete kept", "size imageconstraint delete x1"):
            operator.ok(words)
        operator.ok(f"project delete {project}")
        paths = {each["path"] for each in operator.json("audit list --from 5m")}
        assert f"/v1/machine/{machine}/free" in paths
