# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus finds and scrapes three real nodes, configured as the handbook says."""

import asyncio
import json
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import uvloop

from e2e.cluster.site import Site, launched_site
from e2e.metrics.monitoring import Monitoring, log_in, monitored, monitored_through_proxy
from metropolis.api.management_pb2 import Node
from metropolis.base.ids import parse_node_id
from metropolis.base.ports import METRICS_TCP_PORT
from metropolis.ctl import nodes
from metropolis.pki.identity import server_verifier
from metropolis.rpc.http_client import get_mutual_https
from metropolis.rpc.https import HttpResponse
from metropolis.rpc.transport import Endpoint

JOBS = ("metropolis-core", "metropolis-node", "metropolis-etcd")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with launched_site(tmp_path_factory.mktemp("prometheus"), count=3) as made:
        yield made


@pytest.fixture(scope="module")
def by_number(site: Site) -> dict[int, Node]:
    return uvloop.run(site.nodes())


@pytest.fixture(scope="module")
def home(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prometheus' directory, with its user's certificate."""
    made = tmp_path_factory.mktemp("home") / "prometheus"
    log_in(site, made)
    return made


@pytest.fixture(scope="module")
def monitoring(site: Site, by_number: dict[int, Node], home: Path) -> Iterator[Monitoring]:
    addresses = {node.id: node.status.external_address for node in by_number.values()}
    with monitored(site, home, addresses) as made:
        yield made


def discover(site: Site, number: int) -> HttpResponse:
    """Ask one node for the others, as the owner."""

    async def asked() -> HttpResponse:
        async with site.operator() as cluster:
            found = await nodes.list_nodes(cluster.channel)
            address = site.cluster.rack.address(number)
            node = next(each for each in found if each.status.external_address == address)
            return await get_mutual_https(
                Endpoint(address, METRICS_TCP_PORT),
                "/discovery",
                credentials=cluster.credentials,
                verify=server_verifier(cluster.ca, parse_node_id(node.id)),
                proxy=cluster.proxy,
            )

    return uvloop.run(asked())


def roles_of(answer: HttpResponse, node: Node) -> dict[str, str]:
    """Return what discovery says of a node's roles."""
    assert answer.status == HTTPStatus.OK, answer.body
    targets: list[dict[str, Any]] = json.loads(answer.body)
    (labels,) = [
        each["labels"] for each in targets if each["labels"]["__meta_metropolis_node"] == node.id
    ]
    prefix = "__meta_metropolis_role_"
    return {key.removeprefix(prefix): labels[key] for key in labels if key.startswith(prefix)}


@pytest.mark.timeout(180)
def test_every_node_is_found_and_scraped(
    monitoring: Monitoring, by_number: dict[int, Node]
) -> None:
    wanted = {(job, node.id) for job in JOBS for node in by_number.values()}
    monitoring.eventually("up == 1", lambda found: set(found) == wanted)
    assert len(monitoring.query("node_uname_info")) == 3
    assert len(monitoring.query("metropolis_build_info")) == 3
    assert len(monitoring.query("etcd_server_has_leader == 1")) == 3
    assert len(monitoring.query("metropolis_consensus_leader == 1")) == 1
    assert len(monitoring.query("metropolis_cluster_leads == 1")) == 1
    targets = monitoring.get("/api/v1/targets")["activeTargets"]
    assert {each["scrapeUrl"].partition("/metrics")[0] for each in targets} == {
        f"https://{node.id}:7840" for node in by_number.values()
    }
    monitoring.eventually(
        "vector(1)", lambda _: {each["health"] for each in monitoring.rules()} == {"ok"}
    )
    assert all(rule["name"].startswith("Metropolis") for rule in monitoring.rules())


@pytest.mark.timeout(120)
def test_through_the_labs_proxy_no_names_are_needed(
    site: Site, home: Path, by_number: dict[int, Node]
) -> None:
    ids = [node.id for node in by_number.values()]
    with monitored_through_proxy(site, home, ids) as outside:
        wanted = {(job, node_id) for job in JOBS for node_id in ids}
        outside.eventually("up == 1", lambda found: set(found) == wanted)


@pytest.mark.timeout(120)
def test_a_new_worker_role_is_discovered(site: Site, by_number: dict[int, Node]) -> None:
    node = by_number[2]
    before = roles_of(discover(site, 0), node)
    assert before == {
        "consensus_member": "true",
        "kubernetes_controller": before["kubernetes_controller"],
        "kubernetes_worker": "false",
    }

    async def scenario() -> None:
        async with site.operator() as cluster:
            await nodes.update_roles(cluster.channel, node.id, add=["KubernetesWorker"])

    site.run(scenario)

    async def discovered() -> None:
        async def problem() -> str | None:
            said = await asyncio.to_thread(discover, site, 0)
            return None if roles_of(said, node)["kubernetes_worker"] == "true" else "no worker"

        await site.eventually("the new role", problem)

    site.run(discovered)


@pytest.mark.timeout(180)
def test_who_is_no_consensus_member_tells_no_others_and_still_its_own(
    site: Site, monitoring: Monitoring, by_number: dict[int, Node]
) -> None:
    leader = uvloop.run(site.leader())
    number = next(each for each in (2, 1, 0) if each != leader)

    async def scenario() -> None:
        async with site.operator() as cluster:
            roles = ["KubernetesController"]
            await nodes.update_roles(cluster.channel, by_number[number].id, remove=roles)
            await nodes.update_roles(
                cluster.channel, by_number[number].id, remove=["ConsensusMember"]
            )

        async def problem() -> str | None:
            said = await asyncio.to_thread(discover, site, number)
            return None if said.status == HTTPStatus.SERVICE_UNAVAILABLE else str(said.status)

        await site.eventually("the end of discovery there", problem)

    site.run(scenario)
    others = {node.id for each, node in by_number.items() if each != number}
    monitoring.eventually(
        'up{job="metropolis-etcd"} == 1', lambda found: {node for _, node in found} == others
    )
    monitoring.eventually('up{job="metropolis-core"} == 1', lambda found: len(found) == 3)


@pytest.mark.timeout(180)
def test_a_node_that_loses_its_power_is_seen_as_down(
    site: Site, monitoring: Monitoring, by_number: dict[int, Node]
) -> None:
    now = uvloop.run(site.nodes())
    number = next(each for each in now if not now[each].roles.HasField("consensus_member"))
    asyncio.run(site.cluster.power(number, "kill"))
    monitoring.eventually(
        'up{job="metropolis-core"} == 0',
        lambda found: {node for _, node in found} == {by_number[number].id},
    )


@pytest.mark.timeout(180)
def test_whose_user_was_deleted_reads_nothing_any_more(site: Site, monitoring: Monitoring) -> None:
    done = site.metroctl("user", "delete", "prometheus")
    assert done.status == 0, done.err

    def is_refused(_found: object) -> bool:
        targets = monitoring.get("/api/v1/targets")["activeTargets"]
        running = [each for each in targets if "401" in each["lastError"]]
        return len(running) >= 6 and not any(each["health"] == "up" for each in targets)

    monitoring.eventually("vector(1)", is_refused)
