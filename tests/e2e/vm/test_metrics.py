# SPDX-License-Identifier: Apache-2.0
"""What virtual nodes tell of themselves, and that a release image has no debug port."""

import asyncio

import pytest

from e2e.vm.machines import Trio
from metropolis.api.management_pb2 import LogsRequest, Node
from metropolis.api.rpc_debug import NodeDebugService
from metropolis.base.ids import parse_node_id
from metropolis.base.ports import NODE_DEBUG_TCP_PORT
from metropolis.ctl import node_metrics
from metropolis.ctl.connection import Cluster
from metropolis.formats.exposition import Family, decode
from metropolis.pki.identity import server_verifier
from metropolis.rpc.status import NotReachedError
from metropolis.rpc.transport import Endpoint

pytestmark = pytest.mark.timeout(600)  # the first test waits for the image and the launch


async def figures(cluster: Cluster, node: Node, exporter: str) -> dict[str, Family]:
    body = await node_metrics.scrape(cluster, node, exporter)
    return {family.name: family for family in decode(body.decode())}


def test_every_machine_tells_what_its_kernel_its_trees_and_its_etcd_say(trio: Trio) -> None:
    async def scenario() -> None:
        nodes = await trio.nodes()
        async with trio.connected() as cluster:
            for node in nodes.values():
                kernel = await figures(cluster, node, "node")
                (name,) = kernel["node_uname_info"].samples
                assert name.labels["nodename"] == node.id
                failed = [
                    sample.labels["collector"]
                    for sample in kernel["node_scrape_collector_success"].samples
                    if not sample.value
                ]
                assert failed == []
                mounts = {
                    sample.labels["mountpoint"]: sample.labels["fstype"]
                    for sample in kernel["node_filesystem_size_bytes"].samples
                }
                assert mounts["/"] == "erofs"
                assert mounts["/store/data"] == "xfs"
                core = await figures(cluster, node, "core")
                (build,) = core["metropolis_build_info"].samples
                assert build.labels["variant"] == "x86_64"
                running = {
                    sample.labels["dn"]
                    for sample in core["monogon_supervisor_dn_state_total"].samples
                    if sample.labels["state"] == "NODE_STATE_HEALTHY" and sample.value
                }
                assert {"machine.network", "machine.firewall", "root.role.metrics"} <= running
                steps = {
                    sample.labels["milestone"]: sample.value
                    for sample in core["metropolis_node_milestone_seconds"].samples
                }
                assert 0 < steps["kernel"] < steps["trees"] < steps["heard"]
                assert "etcd_server_has_leader" in await figures(cluster, node, "etcd")

    asyncio.run(scenario())


def test_a_release_image_answers_nothing_on_the_debug_port(trio: Trio) -> None:
    async def scenario() -> None:
        nodes = await trio.nodes()
        async with trio.connected() as cluster:
            channel = cluster.transport.dial(
                Endpoint(nodes[0].status.external_address, NODE_DEBUG_TCP_PORT),
                credentials=cluster.credentials,
                verify=server_verifier(cluster.ca, parse_node_id(nodes[0].id)),
            )
            try:
                with pytest.raises(NotReachedError):
                    async with channel.open(NodeDebugService.LOGS, timeout_s=15) as stream:
                        await stream.send(LogsRequest())
            finally:
                await channel.close()

    asyncio.run(scenario())
