# SPDX-License-Identifier: Apache-2.0
"""The figures of /metrics/core: everything is read, nothing is waited for longer than a moment."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from metropolis.api import common_pb2, curator_pb2
from metropolis.base.errors import BY_GRPC_STATUS, MetropolisError
from metropolis.consensus.member.status import ConsensusStatus
from metropolis.consensus.store import StoreStatus
from metropolis.formats.exposition import Family, Sample, histogram_samples
from metropolis.host import Clock, Directory
from metropolis.node.metrics import series
from metropolis.node.metrics.discovery import ROLES
from metropolis.node.metrics.edges import MetricsEdges
from metropolis.node.metrics.process import process
from metropolis.node.metrics.tree import TreeMeter
from metropolis.pki.reading import read_certificate
from metropolis.rpc.meter import BOUNDS_S, UNKNOWN, CallMeter
from metropolis.supervision import State

MEMBER_S: Final = 2.0  # a member that takes longer to describe itself does not answer
_OK: Final = "ok"
_PORT_OF_DATA: Final = "data"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterView:
    """What this node knows of its cluster now.

    Attributes:
        leads: Whether this node leads.
        knows_leader: Whether it knows who does.
        leader_silence_s: Since when the leader has not been heard; None: never heard.
        heartbeat_age_s: Since when it has not answered a heartbeat; None: never answered.
        roles: Of this node.
        nodes: Of the cluster, by id.
        certificates: DER, by what they are called in a label.
    """

    leads: bool
    knows_leader: bool
    leader_silence_s: float | None
    heartbeat_age_s: float | None
    roles: common_pb2.NodeRoles
    nodes: Mapping[str, curator_pb2.Node]
    certificates: Mapping[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreSources:
    """Where the figures come from.

    Attributes:
        view: Asked at every scrape.
        milestones: Seconds from the start of the program, by milestone; filled as they come.
    """

    node_id: str
    version: str
    edges: MetricsEdges
    clock: Clock
    storage: Directory
    consensus: Callable[[], ConsensusStatus | None]
    view: Callable[[], ClusterView]
    milestones: Mapping[str, float] = field(default_factory=dict[str, float])


async def core_figures(sources: CoreSources) -> Sequence[Family]:
    """Read every figure of ours."""
    member = await _ask(sources.consensus())
    view = sources.view()
    return [
        _build(sources),
        series.NODE.of(Sample(1, {"node_id": sources.node_id})),
        *_cluster(view),
        *_milestones({**sources.edges.boot_marks, **sources.milestones}),
        *_tree(sources.edges.tree),
        *_calls(sources.edges.calls),
        *_consensus(sources.consensus() is not None, member),
        *await _storage(sources),
        *_certificates(view.certificates),
        *process(sources.edges.kernel),
    ]


def _build(sources: CoreSources) -> Family:
    product = sources.edges.product
    version, variant = sources.version, ""
    if product is not None:
        version, variant = product.version, product.variant
    return series.BUILD.of(Sample(1, {"version": version, "variant": variant}))


async def _ask(status: ConsensusStatus | None) -> StoreStatus | None:
    if status is None:
        return None
    try:
        async with asyncio.timeout(MEMBER_S):
            return await status.store.status()
    except (MetropolisError, TimeoutError):
        return None


def _consensus(has_member: bool, member: StoreStatus | None) -> Iterator[Family]:
    yield series.MEMBER.one(int(has_member))
    if not has_member:
        return
    yield series.MEMBER_ANSWERS.one(int(member is not None))
    if member is not None:
        yield series.MEMBER_LEADS.one(int(member.leader_id == member.member_id))
        yield series.MEMBER_HAS_LEADER.one(int(member.leader_id != 0))
        yield series.RAFT_TERM.one(member.raft_term)
        yield series.RAFT_INDEX.one(member.raft_index)
        yield series.REVISION.one(member.revision)
        yield series.DATABASE.one(member.database_bytes)
        yield series.COMPLAINTS.one(len(member.errors))


def _cluster(view: ClusterView) -> Iterator[Family]:
    yield series.LEADS.one(int(view.leads))
    yield series.LEADER_KNOWN.one(int(view.knows_leader))
    if view.leader_silence_s is not None:
        yield series.LEADER_SILENCE.one(view.leader_silence_s)
    if view.heartbeat_age_s is not None:
        yield series.HEARTBEAT_AGE.one(view.heartbeat_age_s)
    yield series.ROLE.of(
        *(
            Sample(int(view.roles.HasField(role)), {"role": role})  # type: ignore[arg-type]  # names of fields
            for role in ROLES
        )
    )
    states = common_pb2.NodeState.DESCRIPTOR.values_by_number
    found = dict.fromkeys((number for number in sorted(states) if number), 0)
    for node in view.nodes.values():
        if node.state in found:
            found[node.state] += 1
    yield series.NODES.of(
        *(
            Sample(count, {"state": states[number].name.removeprefix("NODE_STATE_").lower()})
            for number, count in found.items()
        )
    )


def _milestones(reached: Mapping[str, float]) -> Iterator[Family]:
    samples = [Sample(seconds, {"milestone": name}) for name, seconds in reached.items()]
    yield series.MILESTONE.of(*samples)


def _tree(meter: TreeMeter) -> Iterator[Family]:
    yield series.TREE_STATE.of(
        *(
            Sample(int(state is present), {"dn": dn, "state": state.value})
            for dn, present in sorted(meter.states.items())
            for state in State
        )
    )
    yield series.TREE_TRANSITION.of(
        *(
            Sample(count, {"dn": dn, "old_state": old.value, "new_state": new.value})
            for (dn, old, new), count in meter.transitions.items()
        )
    )


def _calls(meter: CallMeter) -> Iterator[Family]:
    ended: list[Sample] = []
    seconds: list[Sample] = []
    in_flight: list[Sample] = []
    for path, calls in meter:
        service, _, method = path[1:].partition("/")
        labels = {"service": service, "method": method}
        if path == UNKNOWN:
            labels = {"service": "(unknown)", "method": "(unknown)"}
        ended += (
            Sample(count, {**labels, "code": _code(code)})
            for code, count in sorted(calls.by_code.items())
        )
        in_flight.append(Sample(calls.in_flight, labels))
        if calls.is_timed:
            seconds += histogram_samples(BOUNDS_S, calls.counts, calls.total_s, labels)
    yield series.RPC_CALLS.of(*ended)
    yield series.RPC_SECONDS.of(*seconds)
    yield series.RPC_IN_FLIGHT.of(*in_flight)
    yield series.RPC_CONNECTIONS.one(meter.connections)
    yield series.RPC_REFUSED.one(meter.refused_handshakes)


def _code(number: int) -> str:
    kind = BY_GRPC_STATUS.get(number)
    return _OK if kind is None else kind.code


async def _storage(sources: CoreSources) -> Sequence[Family]:
    try:
        free = series.STORAGE_FREE.one(await sources.storage.free_bytes())
        room = sources.edges.kernel.file_system(sources.storage.absolute(_PORT_OF_DATA))
    except OSError:
        return ()  # a disk that does not answer has no figures; other series tell of it
    return (series.STORAGE_SIZE.one(room.size_bytes), free)


def _certificates(found: Mapping[str, bytes]) -> Iterator[Family]:
    facts = {name: read_certificate(der) for name, der in found.items()}
    yield series.CERTIFICATE_FROM.of(
        *(Sample(each.not_before.timestamp(), {"certificate": n}) for n, each in facts.items())
    )
    yield series.CERTIFICATE_UNTIL.of(
        *(Sample(each.not_after.timestamp(), {"certificate": n}) for n, each in facts.items())
    )
