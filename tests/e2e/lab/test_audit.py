# SPDX-License-Identifier: Apache-2.0
"""A real node keeps its audit log, and whoever tampers with its store is found out."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from e2e.lab.clusters import NAME, Launched, launched
from metropolis.api.audit_pb2 import Record
from metropolis.cluster.state import keys
from metropolis.consensus.etcd.store import EtcdStore
from metropolis.consensus.store import Put
from metropolis.lab.leftovers import find_processes
from metropolis.rpc.grpc import dial_unix

COMMAND_TIMEOUT_S = 30


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    """Two nodes, one of which was approved."""
    with launched(tmp_path_factory.mktemp("a"), count=2) as made:
        yield made


def metroctl(made: Launched, *arguments: str) -> subprocess.CompletedProcess[str]:
    root = made.contexts_root.parent / "operator"
    if not root.exists():
        root.mkdir()
        (root / "metroctl").symlink_to(made.contexts_root)
    return subprocess.run(
        [sys.executable, "-m", "metropolis.ctl.metroctl", "--context", NAME, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "XDG_CONFIG_HOME": str(root), "HOME": str(root)},
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )


def store_socket(made: Launched) -> Path:
    """Find the socket on which the member of the node serves the node, and root."""
    for process_id in find_processes(made.cluster.directory):
        runtime = Path(f"/proc/{process_id}/root/run/node/ephemeral")
        for socket in runtime.rglob("client.sock*"):
            return socket
    raise AssertionError("no node runs a consensus member")


async def tamper(socket: Path, sequence: int) -> None:
    """Change one record in the store itself."""
    channel = dial_unix(str(socket))
    try:
        store = EtcdStore(channel)
        key = keys.audit_record(sequence)
        found = await store.get(key)
        assert found is not None
        record = Record.FromString(found.value)
        record.actor.identity = "somebody-else"
        await store.transact([], [Put(key, record.SerializeToString(deterministic=True))])
    finally:
        await channel.close()


def test_changes_are_recorded_and_tampering_is_found(pair: Launched) -> None:
    numbers = uvloop.run(pair.node_numbers())
    node = next(node_id for node_id, number in numbers.items() if number == 1)
    assert metroctl(pair, "node", "set", "labels", node, "zone=a").returncode == 0
    role = ("role", "KubernetesWorker", node)
    assert metroctl(pair, "node", "add", *role).returncode == 0
    refused = metroctl(pair, "node", "delete", node)
    assert refused.returncode == 1
    listed = metroctl(pair, "audit", "list", "-o", "json", "--user", "owner")
    assert listed.returncode == 0, listed.stderr
    records = {each["method"]: each for each in json.loads(listed.stdout)}
    labelled = records["Management.UpdateNodeLabels"]
    assert records["Management.ApproveNode"]["object"] == node
    assert (labelled["object"], labelled["sentence"]) == (node, "set zone=a")
    assert labelled["actor"]["kind"] == "KIND_USER"
    assert len(labelled["actor"]["key_fingerprint"]) == 64
    assert labelled["actor"]["address"]
    assert "KubernetesWorker" in records["Management.UpdateNodeRoles"]["sentence"]
    about = metroctl(pair, "audit", "list", "--node", node, "--method", "labels").stdout
    assert "owner" in about
    assert "set zone=a" in about

    kept = metroctl(pair, "audit", "head").stdout.strip()
    verified = metroctl(pair, "audit", "verify", "--since", kept)
    assert (verified.returncode, verified.stdout) == (0, f"{kept}\n"), verified.stderr

    sequence = int(labelled["sequence"])
    uvloop.run(tamper(store_socket(pair), sequence))
    broken = metroctl(pair, "audit", "verify")
    assert broken.returncode == 1
    assert f"record {sequence}: it" in broken.stderr
    assert metroctl(pair, "node", "set", "labels", node, "zone=b").returncode == 0
