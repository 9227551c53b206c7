# SPDX-License-Identifier: Apache-2.0
"""All edges of a real machine, for its own tree and for the node in it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from metropolis.base.errors import NotFoundError
from metropolis.consensus.scratch import etcd_scratch
from metropolis.host import Host
from metropolis.host.linux.block_devices import FoundPartition, partitions_of
from metropolis.host.linux.directory import LinuxDirectory
from metropolis.host.linux.file_systems import LinuxFileSystems
from metropolis.host.linux.kernel_figures import LinuxKernelFigures
from metropolis.host.linux.network_links import LinuxKernelSettings, LinuxLinks
from metropolis.host.linux.packet_socket import LinuxDhcpSockets
from metropolis.host.linux.time_keeping import LinuxClockSetting
from metropolis.host.linux.tpm import LinuxTpm, has_tpm, read_event_log
from metropolis.node.boot.board import Board
from metropolis.node.boot.handover import Handover
from metropolis.node.boot.power import OrderlyPower
from metropolis.node.boot.userland import DATA, RUN_FILES
from metropolis.node.clock.runnable import TimeEdges
from metropolis.node.clock.start import Source
from metropolis.node.data_disk import DataDisk, DataDiskEdges
from metropolis.node.etcd import etcd_member
from metropolis.node.firewall.runnable import FirewallEdges
from metropolis.node.metrics.edges import MetricsEdges
from metropolis.node.network.edges import NetworkEdges
from metropolis.node.product import DebugEdges, debug_edges, read_product_info
from metropolis.node.root import NodeEdges
from metropolis.node.sealing.builder import parse_builder
from metropolis.node.sealing.sealer import Sealer
from metropolis.node.sealing.tpm import TpmKeeper
from metropolis.node.storage import REHEARSAL, NodeStorage
from metropolis.rpc.grpc import GrpcTransport, dial_unix
from metropolis.rpc.http_client import get_local
from metropolis.rpc.https import serve_https, serve_mutual_https
from metropolis.supervision import Value

ETCD: Final = "/usr/bin/etcd"
DATA_TYPE: Final = "9eeec464-6885-414a-b278-4305c51f7966"
BUILDER_KEY: Final = RUN_FILES / "tpm2-pcr-public-key.pem"
BUILDER_SIGNATURES: Final = RUN_FILES / "tpm2-pcr-signature.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineEdges:
    """Everything that the machine's tree works on. One per start of the machine.

    Attributes:
        host: Without addresses: those come and go.
        data: The data partition; knows what is open.
        sealer: The TPM, where there is one and the image is signed for it.
    """

    host: Host
    handover: Handover
    esp: FoundPartition
    power: OrderlyPower
    board: Board
    network: NetworkEdges
    firewall: FirewallEdges
    time: TimeEdges
    metrics: MetricsEdges
    data: DataDisk
    sealer: Sealer | None
    debug: DebugEdges | None


def machine_edges(
    host: Host,
    handover: Handover,
    power: OrderlyPower,
    *,
    esp: FoundPartition,
    clock_start: Source,
    say: Callable[[str], None],
) -> MachineEdges:
    """Build the edges.

    Args:
        esp: Mounted already.
        clock_start: Who was believed when the clock started.
        say: Tells people how far something long has come.

    Raises:
        NotFoundError: the disk has no data partition.
        DataLossError: what the stub handed over is damaged.
    """
    product = read_product_info()
    sealer = _sealer(host)
    storage = NodeStorage(host.storage, sealer)
    firewall = FirewallEdges(
        processes=host.processes, is_debug=product is not None and product.is_debug
    )
    network = _network_edges(host, storage, is_guarded=firewall.is_closed)
    power.uses_tpm = sealer is not None
    return MachineEdges(
        host=host,
        handover=handover,
        esp=esp,
        power=power,
        board=Board(product=product, network=network.status, network_waits_for=network.waits_for),
        network=network,
        firewall=firewall,
        time=TimeEdges(
            clock=host.clock,
            setting=LinuxClockSetting(),
            storage=storage,
            run=network.run,
            processes=host.processes,
            network=network.status,
            start=clock_start,
        ),
        metrics=MetricsEdges(
            serve=serve_mutual_https,
            get_local=get_local,
            kernel=LinuxKernelFigures(),
            boot_marks=handover.timeline.marks,
            product=product,
        ),
        data=_data_disk(host, storage, device=_data_partition(handover).device, say=say),
        sealer=sealer,
        debug=debug_edges(product),
    )


def _network_edges(host: Host, storage: NodeStorage, *, is_guarded: Value[bool]) -> NetworkEdges:
    return NetworkEdges(
        clock=host.clock,
        entropy=host.entropy,
        links=LinuxLinks(),
        dhcp=LinuxDhcpSockets(),
        settings=LinuxKernelSettings(),
        storage=storage,
        run=LinuxDirectory(RUN_FILES),
        status=Value(None),
        is_guarded=is_guarded,
    )


def _data_disk(
    host: Host, storage: NodeStorage, *, device: str, say: Callable[[str], None]
) -> DataDisk:
    return DataDisk(
        DataDiskEdges(
            device=device,
            mount_point=str(DATA),
            storage=storage,
            processes=host.processes,
            file_systems=LinuxFileSystems(),
            entropy=host.entropy,
            say=say,
        )
    )


def node_edges(edges: MachineEdges, addresses: tuple[str, ...]) -> NodeEdges:
    """Return the edges of the node while the machine has these addresses."""
    host = replace(edges.host, addresses=addresses)
    board = edges.board
    return NodeEdges(
        host=host,
        transport=GrpcTransport(meter=edges.metrics.calls),
        member=etcd_member(host=host, binary=ETCD, dial=dial_unix),
        scratch=etcd_scratch(host=host, binary=ETCD, root=REHEARSAL.path, dial=dial_unix),
        partition=edges.data,
        sealer=edges.sealer,
        serve_https=serve_https,
        metrics=edges.metrics,
        debug=edges.debug,
        product=board.product,
        power=edges.power,
        machine_states=board.machine_states,
        observe=board.roles.set,
    )


def _sealer(host: Host) -> Sealer | None:
    """The TPM, if this image says by which measurements its keys open."""
    if not has_tpm() or not BUILDER_SIGNATURES.exists():
        return None
    builder = parse_builder(BUILDER_KEY.read_bytes(), BUILDER_SIGNATURES.read_bytes())
    keeper = TpmKeeper(LinuxTpm(), host.entropy, builder, read_event_log=read_event_log)
    return Sealer(keeper, host.entropy)


def _data_partition(handover: Handover) -> FoundPartition:
    disk = handover.system_partition.disk
    for partition in partitions_of(disk):
        if partition.type_guid == DATA_TYPE:
            return partition
    raise NotFoundError(
        f"the disk {disk} has no data partition", remedy="Install this machine again."
    )
