# SPDX-License-Identifier: Apache-2.0
"""Updating nodes: install an image on each, and wait until it came back with it.

A node has come back when it is HEALTHY with another boot id than before; being HEALTHY alone
says nothing, because it was that before the reboot, too.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Final

from metropolis.api import management_pb2
from metropolis.api.management_pb2 import Node, UpdateNodeRequest
from metropolis.api.rpc_management import NodeManagement
from metropolis.base.errors import DeadlineExceededError, InvalidArgumentError, MetropolisError
from metropolis.ctl import nodes, tables
from metropolis.ctl.connection import Cluster
from metropolis.ctl.suggestions import did_you_mean

Say = Callable[[str], None]

DOWNLOAD_S: Final = 15 * 60.0  # how long a node may take to install an image
RETURN_S: Final = 10 * 60.0  # how long it may take to boot and be healthy
POLL_S: Final = 2.0
EVERY: Final = "all"
_MODES: Final = {
    "none": management_pb2.ACTIVATION_MODE_NONE,
    "reboot": management_pb2.ACTIVATION_MODE_REBOOT,
    "kexec": management_pb2.ACTIVATION_MODE_KEXEC,
}
_IMAGE: Final = re.compile(
    r"(?:(?P<scheme>https?)://)?(?P<host>[A-Za-z0-9.\-\[\]]+(?::[0-9]+)?)/"
    r"(?P<repository>[a-z0-9._/-]+)(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]*))?"
    r"@(?P<digest>sha256:[0-9a-f]{64})"
)


def request_of(image: str, mode: str) -> UpdateNodeRequest:
    """Build the request. Pure.

    Raises:
        InvalidArgumentError: the image or the mode is not one.
    """
    if mode not in _MODES:
        raise InvalidArgumentError(
            f"there is no activation mode {mode[:64]!r}",
            remedy=did_you_mean(mode, _MODES) or f"The modes are {', '.join(_MODES)}.",
        )
    match = _IMAGE.fullmatch(image)
    if match is None:
        raise InvalidArgumentError(
            f"{image[:128]!r} does not name a system image by its digest",
            remedy="Write it like registry.example/metropolis:v1@sha256:<64 hex digits>.",
        )
    reference = management_pb2.OSImageRef(
        scheme=match["scheme"] or "https",
        host=match["host"],
        repository=match["repository"],
        tag=match["tag"] or "",
        digest=match["digest"],
    )
    return UpdateNodeRequest(os_image=reference, activation_mode=_MODES[mode])


async def choose(
    cluster: Cluster, wanted: Sequence[str], excluded: Sequence[str]
) -> Sequence[Node]:
    """Return the nodes to update.

    Raises:
        NotFoundError: an id names none.
        InvalidArgumentError: an id names several.
    """
    known = await nodes.list_nodes(cluster.channel, timeout_s=cluster.timeout_s)
    chosen = known if wanted[0] == EVERY else nodes.pick_all(known, wanted)
    left_out = {node.id for node in nodes.pick_all(known, excluded)}
    return [node for node in chosen if node.id not in left_out]


async def update(
    cluster: Cluster,
    chosen: Sequence[Node],
    request: UpdateNodeRequest,
    *,
    at_once: int,
    say: Say,
) -> None:
    """Update nodes, at most `at_once` at the same time; no further one after a failure.

    Raises:
        MetropolisError: of the first node that failed.
    """
    slots = asyncio.Semaphore(at_once)
    failures: list[MetropolisError] = []

    async def one(node: Node) -> None:
        async with slots:
            if failures:
                return
            try:
                await _update_one(cluster, node, request, say)
            except MetropolisError as error:
                say(f'Couldn\'t update node "{node.id}": {error}')
                failures.append(error)

    async with asyncio.TaskGroup() as tasks:
        for node in chosen:
            tasks.create_task(one(node))
    if failures:
        raise failures[0]


async def _update_one(cluster: Cluster, node: Node, request: UpdateNodeRequest, say: Say) -> None:
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    async with cluster.dial_node(node) as channel:
        say(f"Updating node {node.id} …")
        await channel.call(NodeManagement.UPDATE_NODE, request, timeout_s=DOWNLOAD_S)
    if request.activation_mode == management_pb2.ACTIVATION_MODE_NONE:
        say(f"Node {node.id} will start the image at its next boot.")
        return
    back = await _wait_return(cluster, node)
    took_s = loop.time() - started_s
    say(f"node {node.id} updated in {took_s:.0f}s to version {_version(back)}")


async def _wait_return(cluster: Cluster, before: Node) -> Node:
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + RETURN_S
    while loop.time() < deadline_s:
        found = await nodes.find_node(cluster.channel, before.id, timeout_s=cluster.timeout_s)
        is_another_boot = found.status.boot_id != before.status.boot_id
        if is_another_boot and found.health == Node.HEALTH_HEALTHY:
            return found
        await asyncio.sleep(POLL_S)
    raise DeadlineExceededError(
        f"node {before.id} did not come back within {RETURN_S:.0f} s",
        remedy=f"Run `metroctl explain {before.id}`.",
    )


def _version(node: Node) -> str:
    return tables.version_text(node.status.version) if node.status.HasField("version") else "?"
