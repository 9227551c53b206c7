# SPDX-License-Identifier: Apache-2.0
"""`metroctl support` of real clusters: whole, half dead, and never with a secret in it."""

import asyncio
import json
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from e2e.cluster.secrets import Vault
from e2e.cluster.site import Site, launched_site
from metropolis.ctl.support.bundle import README
from metropolis.formats.exposition import decode

OF_A_NODE = {
    "supervision.json",
    "explain.json",
    "consensus.json",
    "log.txt",
    "metrics-core.txt",
    "metrics-node.txt",
    "metrics-etcd.txt",
}
OF_THE_CLUSTER = {
    "cluster/information.json",
    "cluster/nodes.json",
    "cluster/consensus.json",
    "cluster/audit-head.json",
    "cluster/audit.json",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with launched_site(tmp_path_factory.mktemp("support"), count=3) as made:
        yield made


def opened(path: Path) -> dict[str, bytes]:
    """Return the files of a bundle, without the directory that they are in."""
    with tarfile.open(path) as tar:
        found: dict[str, bytes] = {}
        for entry in tar.getmembers():
            assert entry.isfile()
            assert entry.mode == 0o600
            file = tar.extractfile(entry)
            assert file is not None
            found[entry.name.partition("/")[2]] = file.read()
    return found


def manifest(files: dict[str, bytes]) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(files["manifest.json"])
    return read


@pytest.mark.timeout(180)
def test_a_bundle_holds_everything_and_no_secret(site: Site, tmp_path: Path) -> None:
    password = site.metroctl("user", "create", "ann", "--role", "viewer")
    password = site.metroctl("user", "password", "ann")
    assert password.status == 0, password.err
    path = tmp_path / "bundle.tar.gz"
    done = site.metroctl("support", "--output-file", str(path))
    assert (done.status, done.out) == (0, f"{path}\n"), done.err
    assert "asked node 3 of 3" in done.err
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    files = opened(path)
    ids = [node["id"] for node in json.loads(files["cluster/nodes.json"])]
    assert len(ids) == 3
    assert set(files) == {
        "README.txt",
        "manifest.json",
        "metroctl.json",
        *OF_THE_CLUSTER,
        *(f"nodes/{node_id}/{name}" for node_id in ids for name in OF_A_NODE),
    }
    assert manifest(files)["missing"] == []
    assert files["README.txt"].decode() == README
    for node_id in ids:
        assert b"root.role" in files[f"nodes/{node_id}/log.txt"]
        assert decode(files[f"nodes/{node_id}/metrics-node.txt"].decode())
        assert json.loads(files[f"nodes/{node_id}/explain.json"])["is_ready"] is True
    records = json.loads(files["cluster/audit.json"])
    assert json.loads(files["cluster/audit-head.json"])["head"]["sequence"] == str(len(records))

    vault = Vault()
    uvloop.run(vault.collect(site))
    assert len(vault.secrets) > 8
    vault.secrets["password"] = password.out.strip().encode()
    assert vault.leaks(files) == []


@pytest.mark.timeout(120)
def test_a_bundle_of_one_node_has_no_other(site: Site, tmp_path: Path) -> None:
    address = site.cluster.rack.address(1)
    path = tmp_path / "one.tar.gz"
    done = site.metroctl("support", "--node", address, "--backlog", "5", "--output-file", str(path))
    assert done.status == 0, done.err
    files = opened(path)
    (node_id,) = {name.split("/")[1] for name in files if name.startswith("nodes/")}
    assert node_id in files["cluster/nodes.json"].decode()
    assert len(files[f"nodes/{node_id}/log.txt"].decode().splitlines()) < 60
    again = site.metroctl("support", "--node", "nobody", "--output-file", str(tmp_path / "x"))
    assert again.status == 1
    assert not (tmp_path / "x").exists()


@pytest.mark.timeout(120)
def test_no_file_is_overwritten(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("precious")
    done = site.metroctl("support", "--output-file", str(path))
    assert done.status == 1
    assert "exists already" in done.err
    assert path.read_text() == "precious"


@pytest.mark.timeout(300)
def test_of_a_half_dead_cluster_what_lives_is_told_and_what_does_not_is_listed(
    site: Site, tmp_path: Path
) -> None:
    address = site.cluster.rack.address(0)
    for number in (1, 2):
        asyncio.run(site.cluster.power(number, "kill"))

    async def wait_alone() -> None:
        async def problem() -> str | None:
            path = tmp_path / f"{os.urandom(4).hex()}.tar.gz"
            done = await asyncio.to_thread(
                site.metroctl, "--timeout", "3", "support", "--output-file", str(path)
            )
            if done.status != 0:
                return done.err
            files = opened(path)
            if OF_THE_CLUSTER & set(files):
                return "a leader still answers"
            path.rename(tmp_path / "half.tar.gz")
            return None

        await site.eventually("the end of the leader", problem, within_s=150)

    site.run(wait_alone, limit_s=200)
    files = opened(tmp_path / "half.tar.gz")
    missing = {each["path"]: each["reason"] for each in manifest(files)["missing"]}
    assert set(missing) >= OF_THE_CLUSTER
    alive = f"nodes/at-{address}"
    assert f"{alive}/supervision.json" in files
    assert f"{alive}/log.txt" in files
    assert f"{alive}/metrics-core.txt" in files
    assert f"{alive}/explain.json" in missing
    for number in (1, 2):
        dead = f"nodes/at-{site.cluster.rack.address(number)}"
        assert f"{dead}/log.txt" in missing
        assert not any(name.startswith(dead) for name in files)
