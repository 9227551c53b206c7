# SPDX-License-Identifier: Apache-2.0
"""What one real node answers on port 7840, to whom, and what `metroctl` makes of it."""

import asyncio
import subprocess
import time
from collections.abc import Iterator

import pytest
import uvloop

from e2e.cluster.site import METROCTL, Site, launched_site
from metropolis.base.ids import parse_node_id
from metropolis.base.ports import METRICS_TCP_PORT
from metropolis.ctl import nodes
from metropolis.ctl.connection import Cluster
from metropolis.formats.exposition import Family, Kind, decode
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.node.metrics.kernel.collectors import COLLECTORS
from metropolis.node.metrics.series import SERIES
from metropolis.pki.certificates import issue_ephemeral
from metropolis.pki.credentials import Credentials
from metropolis.pki.identity import server_verifier
from metropolis.pki.keys import generate_key
from metropolis.rpc.http_client import get_mutual_https
from metropolis.rpc.https import HttpResponse
from metropolis.rpc.transport import Endpoint


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with launched_site(tmp_path_factory.mktemp("metrics"), count=1) as made:
        yield made


def ask(site: Site, target: str, *, credentials: Credentials | None = None) -> HttpResponse:
    """GET from the first node, as the owner unless told otherwise."""

    async def asked() -> HttpResponse:
        async with site.operator() as cluster:
            return await get(cluster, target, credentials or cluster.credentials)

    return uvloop.run(asked())


async def get(cluster: Cluster, target: str, credentials: Credentials | None) -> HttpResponse:
    (node,) = await nodes.list_nodes(cluster.channel)
    return await get_mutual_https(
        Endpoint(node.status.external_address, METRICS_TCP_PORT),
        target,
        credentials=credentials,
        verify=server_verifier(cluster.ca, parse_node_id(node.id)),
        proxy=cluster.proxy,
    )


def figures(site: Site, exporter: str) -> dict[str, Family]:
    answer = ask(site, f"/metrics/{exporter}")
    assert answer.status == 200, answer.body
    assert answer.content_type.startswith("text/plain; version=0.0.4")
    return {family.name: family for family in decode(answer.body.decode())}


def settled(site: Site) -> dict[str, Family]:
    """Wait until the node has heard its leader in every way, and return what it tells then."""
    deadline_s = time.monotonic() + 30
    known = {each.name for each in SERIES}
    while set(found := figures(site, "core")) < known and time.monotonic() < deadline_s:
        pass  # an answer takes long enough
    return found


def test_the_core_tells_every_series_of_the_handbook_and_no_other(site: Site) -> None:
    found = settled(site)
    known = {each.name: each for each in SERIES}
    assert set(found) == set(known)
    for name, family in found.items():
        labels = {frozenset(sample.labels) - {"le"} for sample in family.samples}
        assert labels == {frozenset(known[name].labels)}, name
        assert family.kind is known[name].kind


def test_the_core_tells_the_truth_about_a_cluster_of_one(site: Site) -> None:
    found = settled(site)

    def one(name: str) -> float:
        (sample,) = found[name].samples
        return sample.value

    assert one("metropolis_consensus_member") == 1
    assert one("metropolis_consensus_answers") == 1
    assert one("metropolis_consensus_leader") == 1
    assert one("metropolis_cluster_leads") == 1
    assert one("metropolis_heartbeat_age_seconds") < 15
    assert 0 < one("metropolis_storage_free_bytes") <= one("metropolis_storage_size_bytes")
    assert 20e6 < one("process_resident_memory_bytes") < 200e6
    states = {
        sample.labels["state"]: sample.value for sample in found["metropolis_cluster_nodes"].samples
    }
    assert states == {"new": 0, "standby": 0, "up": 1, "decommissioned": 0}
    healthy = {
        sample.labels["dn"]: sample.value
        for sample in found["monogon_supervisor_dn_state_total"].samples
        if sample.labels["state"] == "NODE_STATE_HEALTHY"
    }
    assert healthy["root.role.metrics"] == 1
    steps = {s.labels["milestone"] for s in found["metropolis_node_milestone_seconds"].samples}
    assert steps == {"enrolled", "connected", "consensus", "heard"}
    assert {
        sample.labels["certificate"]
        for sample in found["metropolis_certificate_not_after_timestamp_seconds"].samples
    } == {"node", "cluster_ca", "etcd_peer"}


def test_calls_are_counted_by_method_and_code(site: Site) -> None:
    def handled() -> float:
        family = figures(site, "core")["metropolis_rpc_server_calls_total"]
        return sum(
            sample.value
            for sample in family.samples
            if sample.labels["method"] == "GetNodes" and sample.labels["code"] == "ok"
        )

    before = handled()
    asyncio.run(asyncio.sleep(1.1))  # the same figures are told for a second
    assert handled() > before


def test_the_kernel_is_told_as_node_exporter_tells_it(site: Site) -> None:
    found = figures(site, "node")
    assert {"node_uname_info", "node_cpu_seconds_total", "node_memory_MemAvailable_bytes"} <= set(
        found
    )
    (name,) = found["node_uname_info"].samples
    assert name.labels["sysname"] == "Linux"
    assert name.labels["nodename"].startswith("metropolis-")
    success = found["node_scrape_collector_success"].samples
    assert {sample.labels["collector"] for sample in success} == set(COLLECTORS)
    assert found["node_cpu_seconds_total"].kind is Kind.COUNTER
    devices = {s.labels["device"] for s in found["node_network_receive_bytes_total"].samples}
    assert devices == {"eth0"}


def test_etcd_tells_its_own(site: Site) -> None:
    assert {"etcd_server_has_leader", "etcd_mvcc_db_total_size_in_bytes"} <= set(
        figures(site, "etcd")
    )


@pytest.mark.parametrize(
    "exporter",
    ["kubernetes-scheduler", "kubernetes-controller-manager", "kubernetes-apiserver", "containerd"],
)
def test_what_kubernetes_would_tell_cannot_be_reached(site: Site, exporter: str) -> None:
    answer = ask(site, f"/metrics/{exporter}")
    assert answer.status == 502
    assert answer.body.decode() == (
        f"could not reach exporter: {exporter}: Kubernetes is not in this build\n"
    )


@pytest.mark.parametrize("target", ["/", "/metrics", "/metrics/", "/metrics/x", "/core", "/core/"])
def test_other_paths_are_not_found(site: Site, target: str) -> None:
    assert ask(site, target).status == 404


def test_nobody_without_a_certificate_of_the_cluster_is_told_anything(site: Site) -> None:
    key = generate_key(LinuxEntropy())
    stranger = Credentials(certificate=issue_ephemeral(key), key=key)
    for target in ("/metrics/core", "/discovery", "/"):
        answer = ask(site, target, credentials=stranger)
        assert answer.status == 401
        assert b"metropolis_" not in answer.body

    async def without() -> HttpResponse:
        async with site.operator() as cluster:
            return await get(cluster, "/metrics/core", None)

    assert uvloop.run(without()).status == 401


def metroctl(site: Site, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [METROCTL, *site.flags(0), *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_metroctl_prints_what_prometheus_would_read(site: Site) -> None:
    node_id = metroctl(site, "node", "list", "-o", "json")
    assert node_id.returncode == 0, node_id.stderr
    address = site.cluster.rack.address(0)
    done = metroctl(site, "node", "metrics", address, "node")
    assert done.returncode == 0, done.stderr
    assert any(line.startswith("node_uname_info{") for line in done.stdout.splitlines())
    done = metroctl(site, "node", "metrics", address)
    assert any(line.startswith("metropolis_build_info{") for line in done.stdout.splitlines())
    done = metroctl(site, "node", "metrics", address, "containerd")
    assert done.returncode == 2
    assert "Kubernetes is not in this build" in done.stderr
    done = metroctl(site, "node", "metrics", address, "coer")
    assert done.returncode == 1
    assert "Did you mean core?" in done.stderr or "core" in done.stderr
