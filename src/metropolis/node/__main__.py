# SPDX-License-Identifier: Apache-2.0
"""`python -m metropolis.node`: a node on the real machine, in the namespaces it was started in.

Its node parameters lie at esp/metropolis/parameters.pb inside the storage. Prints its log;
SIGTERM and SIGINT end it in order.
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import uvloop

from metropolis.consensus.fetch.binary import etcd_binary
from metropolis.consensus.scratch import etcd_scratch
from metropolis.host import Host
from metropolis.host.linux.collector import calm_collector, collect_now_and_then
from metropolis.host.linux.kernel_figures import LinuxKernelFigures
from metropolis.host.linux.machine import linux_host
from metropolis.host.linux.memory import give_memory_back
from metropolis.host.linux.open_files import allow_open_files
from metropolis.host.linux.silence import repeat_every_second
from metropolis.node.etcd import etcd_member
from metropolis.node.metrics.edges import MetricsEdges
from metropolis.node.partition import PlainDirectory
from metropolis.node.product import PRODUCT_INFO, debug_edges, read_product_info
from metropolis.node.root import NodeEdges, make_node
from metropolis.node.storage import REHEARSAL
from metropolis.rpc.grpc import GrpcTransport, dial_unix
from metropolis.rpc.http_client import get_local
from metropolis.rpc.https import serve_https, serve_mutual_https
from metropolis.supervision import LogTree, Supervisor
from metropolis.supervision.logging_bridge import LoggingBridge


def main(
    arguments: Sequence[str] | None = None,
    *,
    make_host: Callable[..., Host] = linux_host,
    product_info: Path = PRODUCT_INFO,
) -> int:
    """Run a node until it is told to stop.

    Args:
        make_host: Builds the edges of this machine, with the arguments of `linux_host`.
        product_info: What the system image says it is; there is none outside of one.
    """
    parser = argparse.ArgumentParser(prog="metropolis.node", description=__doc__)
    parser.add_argument("--storage", type=Path, required=True, help="outlives restarts: esp, data")
    parser.add_argument("--ephemeral", type=Path, required=True, help="emptied at every start")
    parser.add_argument("--address", action="append", required=True, help="literal IP address")
    parser.add_argument("--hosts-file", type=Path, required=True, help="/etc/hosts of the node")
    parser.add_argument("--etcd", help="path of the etcd program; default: the fetched one")
    options = parser.parse_args(arguments)
    allow_open_files()
    repeat_every_second()
    give_memory_back()
    calm_collector()
    uvloop.run(_run(options, make_host, product_info))
    return 0


async def _run(
    options: argparse.Namespace, make_host: Callable[..., Host], product_info: Path
) -> None:
    host = make_host(
        storage=options.storage,
        ephemeral=options.ephemeral,
        hosts_path=options.hosts_file,
        addresses=options.address,
    )
    log_tree = LogTree(clock=host.clock)
    product = read_product_info(product_info)
    binary = options.etcd or str(etcd_binary())
    metrics = MetricsEdges(
        serve=serve_mutual_https, get_local=get_local, kernel=LinuxKernelFigures()
    )
    edges = NodeEdges(
        host=host,
        transport=GrpcTransport(meter=metrics.calls),
        member=etcd_member(host=host, binary=binary, dial=dial_unix),
        scratch=etcd_scratch(host=host, binary=binary, root=REHEARSAL.path, dial=dial_unix),
        partition=PlainDirectory(host.storage),
        print_line=_print_line,
        serve_https=serve_https,
        metrics=metrics,
        debug=debug_edges(product),
        product=product,
    )
    supervisor = make_node(edges, log_tree)
    bridge = LoggingBridge(log_tree)
    bridge.install()
    try:
        async with asyncio.TaskGroup() as group:
            collecting = group.create_task(collect_now_and_then())
            await _until_signalled(supervisor)
            collecting.cancel()
    finally:
        bridge.remove()


async def _until_signalled(supervisor: Supervisor) -> None:
    """Run the tree until SIGTERM or SIGINT, then let it end in order."""
    loop = asyncio.get_running_loop()
    life = asyncio.current_task()
    assert life is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, life.cancel)
    try:
        await supervisor.run()
    except asyncio.CancelledError:
        life.uncancel()


def _print_line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
