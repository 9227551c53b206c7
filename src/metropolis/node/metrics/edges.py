# SPDX-License-Identifier: Apache-2.0
"""What the metrics of a node need of the world; a simulation gives none of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from metropolis.host import KernelFigures
from metropolis.node.metrics.tree import TreeMeter
from metropolis.node.product import ProductInfo
from metropolis.rpc.http_client import GetLocal
from metropolis.rpc.https import ServeMutualHttps
from metropolis.rpc.meter import CallMeter


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsEdges:
    """Made once per process, by its `main`.

    Attributes:
        serve: Listens for scrapes.
        get_local: Asks etcd, which serves its figures on loopback.
        kernel: Of this machine.
        calls: What the transport's servers count into.
        tree: What observes every supervision tree of this process.
        boot_marks: When this boot reached what, in seconds since the kernel's start; may grow.
        product: What the system image says it is, if there is one.
    """

    serve: ServeMutualHttps
    get_local: GetLocal
    kernel: KernelFigures
    calls: CallMeter = field(default_factory=CallMeter)
    tree: TreeMeter = field(default_factory=TreeMeter)
    boot_marks: Mapping[str, float] = field(default_factory=dict[str, float])
    product: ProductInfo | None = None
