# SPDX-License-Identifier: Apache-2.0
"""The root of a node's supervision tree, over whatever edges it is given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from metropolis.cluster.backup.shelf import Shelf
from metropolis.consensus.scratch import Scratch, memory_scratch
from metropolis.host import Host
from metropolis.node.console.log_lines import console
from metropolis.node.enrolment.edges import EnrolmentEdges
from metropolis.node.enrolment.runnable import enrol
from metropolis.node.farewell.record import read_unfinished
from metropolis.node.farewell.runnable import FarewellEdges, end_of_node
from metropolis.node.management.introspection import States
from metropolis.node.management.power import MachinePower
from metropolis.node.metrics.edges import MetricsEdges
from metropolis.node.parameters import parse_parameters
from metropolis.node.partition import DataPartition
from metropolis.node.product import DebugEdges, ProductInfo
from metropolis.node.roles.edges import MemberFactory, RoleEdges
from metropolis.node.roles.server import role_server
from metropolis.node.room import keep_room
from metropolis.node.sealing.sealer import Sealer
from metropolis.node.storage import BACKUPS, PARAMETERS, NodeStorage
from metropolis.rpc.https import ServeHttps
from metropolis.rpc.transport import Transport
from metropolis.supervision import Context, LogTree, Runnable, RunnableStatus, Supervisor, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEdges:
    """All edges of a node. `print_line` is its console, `scratch` where backups are rehearsed.

    `sealer` is the machine's TPM; None: it has none. One per start of the machine, not of the node.

    On a real machine process 1 has more to run than a node: it prints the log (`print_line` is
    None), ends the machine (`power`), is part of what is told about the supervision tree
    (`machine_states`), and watches what becomes of the node (`observe`, called at every start).
    """

    host: Host
    transport: Transport
    member: MemberFactory
    partition: DataPartition
    print_line: Callable[[str], None] | None = None
    scratch: Scratch = field(default_factory=memory_scratch)
    sealer: Sealer | None = None
    serve_https: ServeHttps | None = None
    metrics: MetricsEdges | None = None
    debug: DebugEdges | None = None
    product: ProductInfo | None = None
    power: MachinePower | None = None
    machine_states: States | None = None
    observe: Callable[[RoleEdges], None] | None = None


def make_node(edges: NodeEdges, log_tree: LogTree) -> Supervisor:
    """Return the supervisor of a node; `await supervisor.run()` is the node's life."""
    supervisor: Supervisor

    def states() -> Mapping[str, RunnableStatus]:
        if edges.machine_states is None:
            return supervisor.states()
        return {**edges.machine_states(), **supervisor.states()}

    supervisor = Supervisor(
        partial(_root, edges=edges, states=states),
        log_tree=log_tree,
        clock=edges.host.clock,
        rng=edges.host.entropy.jitter(),
        observer=None if edges.metrics is None else edges.metrics.tree,
    )
    return supervisor


async def _root(
    ctx: Context, *, edges: NodeEdges, states: Callable[[], Mapping[str, RunnableStatus]]
) -> None:
    storage = NodeStorage(edges.host.storage, edges.sealer)
    is_full: Value[bool] = Value(False)
    roles = RoleEdges(
        host=edges.host,
        storage=storage,
        transport=edges.transport,
        member=edges.member,
        shelf=Shelf(edges.host.storage, BACKUPS.path, is_full=lambda: is_full.current),
        is_disk_full=is_full,
        scratch=edges.scratch,
        serve_https=edges.serve_https,
        metrics=edges.metrics,
        debug=edges.debug,
        product=edges.product,
        power=edges.power,
    )
    if edges.observe is not None:
        edges.observe(roles)
    if await read_unfinished(storage) is not None:
        roles.must_wipe.set(True)
    farewell = FarewellEdges(
        host=edges.host,
        storage=storage,
        transport=edges.transport,
        partition=edges.partition,
        is_idle=roles.is_idle,
    )
    if edges.print_line is not None:
        ctx.run("console", partial(console, write=edges.print_line))
    ctx.run("role", partial(role_server, edges=roles, states=states))
    if edges.partition.is_ours:
        looking = partial(
            keep_room,
            partition=edges.partition,
            has_member=lambda: roles.consensus.current is not None,
            is_full=is_full,
        )
        ctx.run("storage", looking)
    ctx.run("farewell", partial(end_of_node, edges=farewell))
    if roles.must_wipe.current:
        if edges.sealer is not None:
            await edges.sealer.lock()  # nothing here will be opened again
        ctx.log.warning("This machine is no node any more: it runs nothing")
    else:
        ctx.run("enrolment", _enrolment(edges, storage, roles))
    ctx.healthy()
    await ctx.wait_cancelled()


def _enrolment(edges: NodeEdges, storage: NodeStorage, roles: RoleEdges) -> Runnable:
    async def enrolment(ctx: Context) -> None:
        data = await storage.read(PARAMETERS)
        enrolment_edges = EnrolmentEdges(
            host=edges.host,
            storage=storage,
            transport=edges.transport,
            partition=edges.partition,
            parameters=None if data is None else parse_parameters(data),
            sealer=edges.sealer,
            intent=roles.intent,
            consensus=roles.consensus,
        )
        await enrol(ctx, edges=enrolment_edges, identity=roles.identity)

    return enrolment
