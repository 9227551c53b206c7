# SPDX-License-Identifier: Apache-2.0
"""`metropolis status`: the machines as the keeper sees them, the nodes as the cluster sees them."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast

import click

from metropolis.api.management_pb2 import Node
from metropolis.base.errors import MetropolisError, chain
from metropolis.ctl import contexts, nodes
from metropolis.ctl.connection import connect
from metropolis.ctl.tables import health_text, role_names, state_text
from metropolis.ctl.text_table import render
from metropolis.lab.cluster import LabCluster, NodeStatus
from metropolis.lab.commands.options import existing_cluster, flag, name_option, run
from metropolis.lab.launch import cluster_context
from metropolis.lab.model import Rack
from metropolis.lab.plan import by_number

_API_TIMEOUT_S = 3.0
_HEADERS = ("node", "address", "power", "link", "boots", "node id", "state", "health", "roles")


@click.command("status")
@name_option
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="What to print.",
)
def status(name: str, output: str) -> None:
    """Show a cluster of this computer: its machines, and what its control plane says of them."""
    cluster = existing_cluster(name)
    facts = run(collect(cluster))
    if output == "json":
        print(json.dumps(facts, indent=2))
        return
    print_machines(facts)
    if not facts["running"]:
        print(
            f"Cluster {name!r} is stopped. Start it: metropolis start{flag(name)}", file=sys.stderr
        )
    elif facts["problem"]:
        print(f"Nothing is known of its nodes: {facts['problem']}", file=sys.stderr)


def print_machines(facts: Mapping[str, Any]) -> None:
    """Print a line for each machine."""
    rows = [[_cell(node[key.replace(" ", "_")]) for key in _HEADERS] for node in facts["nodes"]]
    sys.stdout.write(render(_HEADERS, rows))
    sys.stdout.flush()


async def collect(cluster: LabCluster) -> Mapping[str, Any]:
    """Ask the keeper and the control plane."""
    rack = cluster.rack
    machines: Mapping[int, NodeStatus] = {}
    members: Mapping[int, Node] = {}
    problem = None
    is_running = cluster.is_running
    if is_running:
        machines = {each.number: each for each in await cluster.status()}
        try:
            members = by_number(rack, await _list(cluster))
        except MetropolisError as error:
            problem = chain(error)
    return {
        "name": rack.name,
        "driver": rack.driver,
        "image": _image_version(cluster),
        "created": rack.created,
        "running": is_running,
        "launched": rack.is_launched,
        "proxy": rack.proxy,
        "problem": problem,
        "nodes": [
            _describe(rack, number, machines.get(number), members.get(number))
            for number in rack.numbers
        ],
    }


def _image_version(cluster: LabCluster) -> str | None:
    """Version of the system image that virtual machines were founded with."""
    try:
        record = json.loads((cluster.directory.image / "image.json").read_bytes())
        return str(record["product_info"]["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


async def _list(cluster: LabCluster) -> Sequence[Node]:
    context = cluster_context(contexts.default_root(), cluster.rack)
    async with connect(context, timeout_s=_API_TIMEOUT_S) as connection:
        return await nodes.list_nodes(connection.channel, timeout_s=_API_TIMEOUT_S)


def _describe(
    rack: Rack, number: int, machine: NodeStatus | None, node: Node | None
) -> Mapping[str, Any]:
    return {
        "node": number,
        "address": rack.address(number),
        "power": "off" if machine is None else machine.power,
        "process": machine is not None and machine.is_running,
        "link": None if machine is None else machine.link,
        "boots": None if machine is None else machine.boots,
        "last_exit": None if machine is None else machine.last_exit,
        "node_id": rack.node_ids.get(number) if node is None else node.id,
        "state": None if node is None else state_text(node),
        "health": None if node is None else health_text(node),
        "roles": None if node is None else list(role_names(node.roles)),
    }


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ",".join(map(str, cast("list[object]", value)))
    return str(value)
