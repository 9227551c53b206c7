# SPDX-License-Identifier: Apache-2.0
"""Every method with every kind of nonsense: only operating errors come out, and nothing breaks.

Requests are built from the messages' own descriptors, out of values that mean something here
(keys, ids, tickets, masks, filters) and values that mean nothing.
"""

import asyncio
import base64
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metropolis.api import curator_pb2 as api_curator
from metropolis.api import management_pb2 as api
from metropolis.api.aaa_pb2 import EscrowRequest
from metropolis.api.common_pb2 import ClusterConfiguration, NodeClusterNetworking, NodeStatus
from metropolis.api.methods import Method
from metropolis.api.rpc_aaa import AAA
from metropolis.api.rpc_curator import Curator
from metropolis.api.rpc_management import Management
from metropolis.base.errors import MetropolisError
from metropolis.cluster.lifecycle import NodeState
from metropolis.cluster.office import Office, Presiding
from metropolis.cluster.planner.reconfigure import default_configuration
from metropolis.cluster.services.curator_local import CuratorLocal
from metropolis.cluster.services.management import get_register_ticket
from metropolis.cluster.services.registry import control_plane
from metropolis.cluster.state import keys, pki, records
from metropolis.consensus.store import Delete, Put
from metropolis.rpc.channel import Registration
from metropolis.rpc.peer import Peer, PeerKind
from unit.cluster.harness import (
    FIRST,
    OWNER,
    OWNER_KEY,
    Bench,
    Call,
    Machine,
    commit_request,
    machine,
    run,
)

MACHINES: Final = [FIRST, machine(2), machine(3)]
TICKET: Final = b"the ticket"  # replaced by the real one
METHODS: Final = sorted(
    control_plane(Office(FIRST.node_id), CuratorLocal(Office(FIRST.node_id), b"")).by_path
)

PEERS: Final = st.sampled_from(
    [
        OWNER,
        Peer(kind=PeerKind.ANONYMOUS),
        Peer(kind=PeerKind.EPHEMERAL, public_key=OWNER_KEY),
        Peer(kind=PeerKind.USER, identity=""),
        Peer(kind=PeerKind.NODE, identity="nonsense", public_key=b""),
        *(one.peer for one in MACHINES),
        *(one.stranger for one in MACHINES),
        *(one.joiner for one in MACHINES),
    ]
)
BYTES: Final = st.sampled_from(
    [b"", b"\x00", b"x" * 31, b"y" * 33, TICKET, OWNER_KEY, b"\x0a\x20" + b"t" * 32]
    + [value for one in MACHINES for value in (one.key, one.join_key, one.unlock_key)]
) | st.binary(max_size=40)
TEXTS: Final = st.sampled_from(
    [
        "", "owner", "root", "tpm_mode", "kubernetes", "kubernetes.node_labels_to_synchronize",
        "cluster_domain", "storage_security_policy", "192.0.2.1", "10.192.4.0/24", "::1/128",
        "node.state == NODE_STATE_UP", "node.", "[1].all(x, true)", "a", "a/b", "(", "^a$",
        "metropolis-", "metropolis-" + "0" * 32, "x" * 5000, "a\x00b",
        "YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=",
        *(one.node_id for one in MACHINES),
    ]
) | st.text(max_size=30)  # fmt: skip
NUMBERS: Final = st.sampled_from([0, 1, 2, 3, 4, 99]) | st.integers(0, 2**31 - 1)

_INTEGERS: Final = {
    FieldDescriptor.TYPE_INT32,
    FieldDescriptor.TYPE_INT64,
    FieldDescriptor.TYPE_UINT32,
    FieldDescriptor.TYPE_UINT64,
    FieldDescriptor.TYPE_ENUM,
}


def _value(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        assert field.message_type is not None, "its type says so"
        return messages(field.message_type, depth - 1)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return BYTES
    if field.type == FieldDescriptor.TYPE_STRING:
        return TEXTS.filter(_is_wire_text)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return st.booleans()
    assert field.type in _INTEGERS, field.full_name
    return NUMBERS


def _is_wire_text(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def messages(descriptor: Descriptor, depth: int = 5) -> st.SearchStrategy[Message]:
    """Strategy for messages of one type; every field may be absent."""
    fields = [f for f in descriptor.fields if depth > 0 or f.type != FieldDescriptor.TYPE_MESSAGE]
    optional = {
        field.name: st.lists(_value(field, depth), max_size=3)
        if field.is_repeated
        else _value(field, depth)
        for field in fields
    }
    kind = GetMessageClass(descriptor)
    return st.fixed_dictionaries({}, optional=optional).map(lambda chosen: kind(**chosen))


def _requests(path: str) -> st.SearchStrategy[tuple[str, Message]]:
    services = control_plane(Office(FIRST.node_id), CuratorLocal(Office(FIRST.node_id), b""))
    descriptor = services.by_path[path].method.request_type.DESCRIPTOR
    assert isinstance(descriptor, Descriptor)
    return messages(descriptor).map(lambda request: (path, request))


Made = tuple[tuple[str, Message], Peer]


def _sensible(one: Machine) -> list[Made]:
    """Calls that could succeed, about one machine."""
    status = NodeStatus(external_address=f"192.0.2.{one.number}")
    networking = NodeClusterNetworking(
        wireguard_pubkey="YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE="
    )
    changed = default_configuration()
    changed.tpm_mode = ClusterConfiguration.TPM_MODE_BEST_EFFORT
    made: list[tuple[Method[Any, Any], Message, Peer]] = [
        (
            Curator.REGISTER_NODE,
            api_curator.RegisterNodeRequest(
                register_ticket=TICKET, join_key=one.join_key, have_local_tpm=True
            ),
            one.stranger,
        ),
        (Management.APPROVE_NODE, api.ApproveNodeRequest(pubkey=one.key), OWNER),
        (Curator.COMMIT_NODE, commit_request(one), one.stranger),
        (
            Curator.JOIN_NODE,
            api_curator.JoinNodeRequest(using_sealed_configuration=True),
            one.joiner,
        ),
        (
            Curator.UPDATE_NODE_STATUS,
            api_curator.UpdateNodeStatusRequest(node_id=one.node_id, status=status),
            one.peer,
        ),
        (
            Curator.UPDATE_NODE_CLUSTER_NETWORKING,
            api_curator.UpdateNodeClusterNetworkingRequest(clusternet=networking),
            one.peer,
        ),
        (
            Management.UPDATE_NODE_ROLES,
            api.UpdateNodeRolesRequest(id=one.node_id, kubernetes_worker=True),
            OWNER,
        ),
        (
            Management.UPDATE_NODE_ROLES,
            api.UpdateNodeRolesRequest(id=one.node_id, consensus_member=one.number % 2 == 0),
            OWNER,
        ),
        (
            Management.UPDATE_NODE_LABELS,
            api.UpdateNodeLabelsRequest(pubkey=one.key, delete=["a"]),
            OWNER,
        ),
        (
            Management.DELETE_NODE,
            api.DeleteNodeRequest(
                id=one.node_id,
                safety_bypass_has_roles=api.DeleteNodeRequest.SafetyBypassHasRoles(),
                safety_bypass_not_decommissioned=(
                    api.DeleteNodeRequest.SafetyBypassNotDecommissioned()
                ),
            ),
            OWNER,
        ),
        (
            Management.CONFIGURE_CLUSTER,
            api.ConfigureClusterRequest(
                base_config=default_configuration(),
                new_config=changed,
                update_mask=FieldMask(paths=["tpm_mode"]),
            ),
            OWNER,
        ),
        (
            AAA.ESCROW,
            EscrowRequest(
                parameters=EscrowRequest.Parameters(
                    requested_identity_name="owner", public_key=OWNER_KEY
                )
            ),
            Peer(kind=PeerKind.EPHEMERAL, public_key=OWNER_KEY),
        ),
    ]
    return [((method.path, request), peer) for method, request, peer in made]


def _spoiled(call: Made) -> st.SearchStrategy[Made]:
    """A sensible call with some nonsense in it, or from somebody else."""
    (path, request), peer = call
    descriptor = request.DESCRIPTOR
    assert isinstance(descriptor, Descriptor)

    def spoil(nonsense: Message) -> Message:
        spoiled = GetMessageClass(descriptor)()
        spoiled.CopyFrom(request)
        spoiled.MergeFrom(nonsense)
        return spoiled

    return st.tuples(
        messages(descriptor).map(lambda nonsense: (path, spoil(nonsense))), st.just(peer) | PEERS
    )


_SENSIBLE: Final = [call for one in MACHINES for call in _sensible(one)]
CALLS: Final = st.lists(
    st.sampled_from(_SENSIBLE)
    | st.sampled_from(_SENSIBLE).flatmap(_spoiled)
    | st.tuples(st.sampled_from(METHODS).flatmap(_requests), PEERS),
    min_size=1,
    max_size=25,
)
DAMAGE: Final = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from([None, b"", b"\xff\xff", b"\x08\x01"])),
    max_size=3,
)


async def _call(registration: Registration, request: Message, peer: Peer) -> None:
    """Make one call; a stream that would go on is left after a while."""
    try:
        async with asyncio.timeout(20):
            if registration.unary is not None:
                answer = await registration.unary(request, peer)
                assert isinstance(answer, registration.method.response_type)
            else:
                assert registration.stream is not None
                await registration.stream(Call(peer, request))
    except TimeoutError:
        return
    except MetropolisError as error:
        said, helps = str(error), error.remedy or error.retryable
    else:
        return
    assert len(said) < 1000
    assert helps


def _with_ticket(request: Message, ticket: bytes) -> Message:
    if isinstance(request, api_curator.RegisterNodeRequest) and request.register_ticket == TICKET:
        shown = api_curator.RegisterNodeRequest()
        shown.CopyFrom(request)
        shown.register_ticket = ticket
        return shown
    return request


async def _serve(bench: Bench, calls: list[Made]) -> set[bytes]:
    """Make the calls; return the keys that were asked to be approved."""
    office = Office(FIRST.node_id)
    office.view.set(Presiding(bench.leader))
    services = control_plane(office, CuratorLocal(office, bench.born.ca_certificate))
    answer = await get_register_ticket(bench.leader, api.GetRegisterTicketRequest(), OWNER)
    approved: set[bytes] = set()
    for (path, request), peer in calls:
        if path.endswith("ApproveNode"):
            approved.add(request.pubkey)  # type: ignore[attr-defined]
        await _call(services.by_path[path], _with_ticket(request, answer.ticket), peer)
    return approved


async def _audit_log(bench: Bench) -> bytes:
    """Everything in the audit log, whose chain must be whole."""
    await bench.leader.auditor.flush()
    assert await bench.leader.auditor.verify() is None
    return b"".join([item.value for item in (await bench.store.range(keys.AUDIT_RECORDS)).items])


async def _check_log(bench: Bench) -> None:
    """No secret of the cluster is in the logs, in no usual spelling."""
    audited = await _audit_log(bench)
    log = bench.log_text() + audited.decode("latin-1")
    ticket = await bench.raw(keys.REGISTER_TICKET)
    ca_key = await bench.raw(pki.CLUSTER.key("cluster-ca"))
    assert ticket is not None
    assert ca_key is not None
    for secret in (ticket[2:], ca_key[:32], *(one.unlock_key for one in MACHINES)):
        for spelling in (secret.hex(), base64.b64encode(secret).decode(), repr(secret)[2:-1]):
            assert spelling not in log
        assert secret not in audited


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(CALLS)
def test_only_operating_errors_come_out_and_records_stay_readable(
    calls: list[Made],
) -> None:
    async def scenario(bench: Bench) -> None:
        approved = await _serve(bench, calls)
        await _check_log(bench)
        for item in (await bench.store.range(keys.NODES)).items:
            record = records.decode(item)
            is_trusted = record.public_key in {*approved, FIRST.key}
            assert record.state is NodeState.NEW or is_trusted
            index = await bench.raw(keys.join_key(record.message.join_key))
            assert index == record.node_id.encode()
        indexed = (await bench.store.range(keys.JOIN_KEYS)).items
        assert len(indexed) == len((await bench.store.range(keys.NODES)).items)

    run(scenario)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(CALLS, DAMAGE)
def test_a_damaged_store_breaks_no_handler(
    calls: list[Made], damage: list[tuple[int, bytes | None]]
) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(MACHINES[1])
        stored = (await bench.store.range(b"namespaced:")).items
        for index, value in damage:
            key = stored[index % len(stored)].key
            if not key.startswith(keys.LEADER):
                change = Delete(key) if value is None else Put(key, value)
                await bench.store.transact([], [change])
        await _serve(bench, calls)

    run(scenario)
