# SPDX-License-Identifier: Apache-2.0
"""The other end of the wire: a one-node cluster with canned answers, on real loopback sockets.

It runs in a thread of its own, because a command line runs an event loop to its end.
"""

import asyncio
import json
import os
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from metropolis.api import (
    aaa_pb2,
    audit_pb2,
    common_pb2,
    curator_pb2,
    introspection_pb2,
    logtree_pb2,
    management_pb2,
)
from metropolis.api.decommission_pb2 import RotateRegisterTicketResponse
from metropolis.api.management_pb2 import Node
from metropolis.api.methods import Method
from metropolis.api.rpc_aaa import AAA
from metropolis.api.rpc_audit import Audit
from metropolis.api.rpc_curator import Curator, CuratorLocal
from metropolis.api.rpc_decommission import Nodes
from metropolis.api.rpc_introspection import Introspection
from metropolis.api.rpc_management import Management, NodeManagement
from metropolis.base.errors import (
    InvalidArgumentError,
    MetropolisError,
    PermissionDeniedError,
    UnavailableError,
    UnimplementedError,
)
from metropolis.base.ids import node_id_from_public_key
from metropolis.ctl import contexts, credentials
from metropolis.host.linux.clock import LinuxClock
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.pki import certificates, keys
from metropolis.pki.credentials import Credentials
from metropolis.rpc.authentication import PolicyAuthenticator
from metropolis.rpc.channel import ServerStream, Services
from metropolis.rpc.grpc import GrpcTransport
from metropolis.rpc.https import HttpResponse, serve_https
from metropolis.rpc.peer import Peer, PeerKind
from metropolis.rpc.transport import Endpoint

ENTROPY = LinuxEntropy()
NEVER_S, NEVER_NS = 9_223_372_036, 854_775_807
STATUS_OBJECT = {"kind": "Status", "code": 503, "message": "Kubernetes is not enabled yet"}


def an_address() -> str:
    """A loopback address that no other test process uses."""
    process = os.getpid()
    return f"127.{100 + (process >> 16) % 100}.{(process >> 8) % 256}.{process % 256 or 1}"


def a_node(
    number: int,
    *,
    state: common_pb2.NodeState.ValueType = common_pb2.NODE_STATE_UP,
    address: str = "",
) -> Node:
    """A node whose id begins with `number` in hexadecimal."""
    public_key = bytes([number]) * 32
    node = Node(
        pubkey=public_key,
        id=node_id_from_public_key(public_key),
        state=state,
        health=Node.HEALTH_UNKNOWN,
        tpm_usage=common_pb2.NODE_TPM_USAGE_NOT_PRESENT,
    )
    node.roles.SetInParent()
    node.labels.SetInParent()
    node.time_since_heartbeat.seconds, node.time_since_heartbeat.nanos = NEVER_S, NEVER_NS
    if address:
        node.health = Node.HEALTH_HEALTHY
        node.status.external_address = address
        node.status.boot_id = bytes(16)
        node.status.version.release.minor = 1
        node.time_since_heartbeat.seconds, node.time_since_heartbeat.nanos = 3, 0
    return node


class Remote:
    """A cluster of one real node and any number of imagined ones.

    Attributes:
        calls: Every request that arrived, with the method's name.
        refusals: What a method answers instead, by its name.
        is_kubernetes: What port 6444 says.
        named_ca: DER of the CA that the node says it belongs to.
        emitted_key: Raw public key of the certificate that Escrow issues, if not the caller's.
        passwords: One-time passwords of users, by name.
        user_keys: Raw public keys that need none any more.
    """

    def __init__(self) -> None:
        self.address = an_address()
        self.authority = certificates.issue_cluster_ca(keys.generate_key(ENTROPY), serial=1)
        self.owner_key = keys.generate_key(ENTROPY)
        self.node_key = keys.generate_key(ENTROPY)
        public_key = keys.raw_public_key(self.node_key)
        own = a_node(0, address=self.address)
        own.pubkey, own.id = public_key, node_id_from_public_key(public_key)
        own.roles.consensus_member.SetInParent()
        self.own = own
        self.nodes: dict[str, Node] = {own.id: own}
        self.calls: list[tuple[str, Message]] = []
        self.refusals: dict[str, MetropolisError] = {}
        self.is_kubernetes = False
        self.named_ca = self.authority.certificate
        self.emitted_key = b""
        self.passwords: dict[str, str] = {}
        self.user_keys: set[bytes] = set()
        self.configuration = common_pb2.ClusterConfiguration(
            cluster_domain="cluster.internal",
            tpm_mode=common_pb2.ClusterConfiguration.TPM_MODE_BEST_EFFORT,
            storage_security_policy=(
                common_pb2.ClusterConfiguration.STORAGE_SECURITY_POLICY_PERMISSIVE
            ),
        )
        self.explanation = introspection_pb2.ExplainNodeResponse()
        self.tree = introspection_pb2.GetSupervisionTreeResponse()
        self.members = curator_pb2.GetConsensusStatusResponse()
        self.own_member = introspection_pb2.GetConsensusHealthResponse()
        self.backlog: list[logtree_pb2.LogEntry] = []
        self.stream: list[logtree_pb2.LogEntry] = []
        self.keeps_logs_open = False
        self.audit: list[tuple[int, bytes]] = []
        # What the log is for one follower after the other; all but the last are cut off.
        self.audit_grows: list[list[tuple[int, bytes]]] = []
        self.audit_head = audit_pb2.GetHeadResponse()
        self.decommissions: list[Sequence[Message | MetropolisError]] = []  # one per call

    def add(self, node: Node) -> Node:
        """Let the cluster know one more node."""
        self.nodes[node.id] = node
        return node

    def requests(self, name: str) -> list[Any]:
        """The requests that one method got."""
        return [request for method, request in self.calls if method == name]

    def owned(self, directory: Path) -> list[str]:
        """Flags of an operator who owns this cluster, with files in a flat directory."""
        context = contexts.flat(directory)
        self.unowned(directory)
        credentials.store_ca(context, self.authority.certificate)
        credentials.store_certificate(context, self._issue(keys.raw_public_key(self.owner_key)))
        return ["--config", str(directory), "--endpoints", self.address]

    def unowned(self, directory: Path) -> list[str]:
        """Flags of an operator who holds the owner key and nothing else."""
        directory.mkdir(mode=0o700, exist_ok=True)
        (directory / "owner-key.pem").write_text(keys.to_owner_pem(self.owner_key))
        return ["--config", str(directory), "--endpoints", self.address]

    @contextmanager
    def running(self) -> Iterator["Remote"]:
        """Serve while the block runs."""
        loop = asyncio.new_event_loop()
        ready, stop = threading.Event(), asyncio.Event()
        failure: list[BaseException] = []

        def serve() -> None:
            try:
                with asyncio.Runner(loop_factory=lambda: loop) as runner:
                    runner.run(self._serve(ready, stop))
            except BaseException as error:  # noqa: BLE001  # shown by the block's end
                failure.append(error)
                ready.set()

        thread = threading.Thread(target=serve, name="remote")
        thread.start()
        try:
            assert ready.wait(20)
            assert not failure, failure
            yield self
        finally:
            if thread.is_alive():
                loop.call_soon_threadsafe(stop.set)
            thread.join(20)
        assert not failure, failure

    def running_at(self, address: str) -> AbstractContextManager["Remote"]:
        """Serve at another address while the block runs."""
        self.address = address
        return self.running()

    async def _serve(self, ready: threading.Event, stop: asyncio.Event) -> None:
        transport = GrpcTransport()
        presented = Credentials(
            certificate=certificates.issue_node(
                self.authority, keys.raw_public_key(self.node_key), serial=2
            ),
            key=self.node_key,
        )
        authenticator = PolicyAuthenticator(
            ca_certificate=lambda: self.authority.certificate,
            clock=LinuxClock(),
            revoked=lambda _peer: None,
        )
        async with (
            transport.serve(
                Endpoint(self.address, 7835),
                credentials=presented,
                services=self._cluster_services(),
                authenticator=authenticator,
            ),
            transport.serve(
                Endpoint(self.address, 7839),
                credentials=presented,
                services=self._node_services(),
                authenticator=authenticator,
            ),
            serve_https(Endpoint(self.address, 6444), credentials=presented, respond=self._respond),
        ):
            ready.set()
            await stop.wait()

    def _cluster_services(self) -> Services:
        services = Services()
        services.stream(CuratorLocal.GET_CURRENT_LEADER, self._leader)
        self._unary(services, CuratorLocal.GET_CA_CERTIFICATE, self._ca)
        services.stream(AAA.ESCROW, self._escrow)
        services.stream(Management.GET_NODES, self._get_nodes)
        services.stream(Audit.LIST, self._audit_list)
        services.stream(Nodes.DECOMMISSION, self._decommission)
        rotated = RotateRegisterTicketResponse(ticket=b"\x0a\x20" + bytes(31) + b"\x01")
        self._unary(services, Nodes.ROTATE_REGISTER_TICKET, _constant(rotated))
        self._unary(services, Audit.GET_HEAD, lambda _r, _p: _later(self.audit_head))
        empty: tuple[Method[Any, Any], ...] = (
            Management.APPROVE_NODE,
            Management.UPDATE_NODE_ROLES,
            Management.UPDATE_NODE_LABELS,
            Management.DELETE_NODE,
        )
        for method in empty:
            self._unary(services, method, _constant(method.response_type()))
        ticket = management_pb2.GetRegisterTicketResponse(ticket=b"\x0a\x20" + bytes(32))
        self._unary(services, Management.GET_REGISTER_TICKET, _constant(ticket))
        self._unary(services, Management.GET_CLUSTER_INFO, self._info)
        self._unary(services, Management.CONFIGURE_CLUSTER, self._configure)
        self._unary(services, Introspection.EXPLAIN_NODE, lambda _r, _p: _later(self.explanation))
        self._unary(services, Curator.GET_CONSENSUS_STATUS, lambda _r, _p: _later(self.members))
        return services

    def _node_services(self) -> Services:
        services = Services()
        services.stream(NodeManagement.LOGS, self._logs)
        self._unary(services, NodeManagement.REBOOT, _refuse_reboot)
        self._unary(services, NodeManagement.UPDATE_NODE, self._update)
        self._unary(services, Introspection.GET_SUPERVISION_TREE, lambda _r, _p: _later(self.tree))
        self._unary(
            services, Introspection.GET_CONSENSUS_HEALTH, lambda _r, _p: _later(self.own_member)
        )
        return services

    def _unary(
        self,
        services: Services,
        method: Method[Any, Any],
        answer: Callable[[Any, Peer], Awaitable[Any]],
    ) -> None:
        async def handle(request: Any, peer: Peer) -> Any:
            self._note(method, request)
            return await answer(request, peer)

        services.unary(method, handle)

    def _note(self, method: Method[Any, Any], request: Message) -> None:
        self.calls.append((method.name, request))
        if method.name in self.refusals:
            raise self.refusals[method.name]

    async def _leader(self, stream: ServerStream[Any, Any]) -> None:
        await stream.receive()
        await stream.send(
            curator_pb2.GetCurrentLeaderResponse(
                leader_node_id=self.own.id, leader_host=self.address, leader_port=7835
            )
        )
        await asyncio.Event().wait()

    async def _ca(self, _request: Any, _peer: Peer) -> curator_pb2.GetCACertificateResponse:
        return curator_pb2.GetCACertificateResponse(identity_ca_certificate=self.named_ca)

    async def _escrow(self, stream: ServerStream[Any, Any]) -> None:
        request = await stream.receive()
        assert request is not None
        self._note(AAA.ESCROW, request)
        assert stream.peer.kind is PeerKind.EPHEMERAL
        key = request.parameters.public_key
        assert stream.peer.public_key == key
        name = request.parameters.requested_identity_name
        if name != "owner":
            await self._escrow_user(stream, name, key)
            return
        if key != keys.raw_public_key(self.owner_key):
            raise PermissionDeniedError("not the owner's key", remedy="Use the owner's.")
        await stream.send(
            aaa_pb2.EscrowResponse(emitted_certificate=self._issue(self.emitted_key or key))
        )

    async def _escrow_user(self, stream: ServerStream[Any, Any], name: str, key: bytes) -> None:
        if key not in self.user_keys:
            password = aaa_pb2.EscrowResponse.ProofRequest.KIND_PLAINTEXT_PASSWORD
            proof = aaa_pb2.EscrowResponse.ProofRequest(kind=password)
            await stream.send(aaa_pb2.EscrowResponse(needed=[proof]))
            answer = await stream.receive()
            if answer is None or answer.proofs.plaintext_password != self.passwords.pop(name, ""):
                raise PermissionDeniedError("this password does not admit this user")
            self.user_keys.add(key)
        emitted = self.issue_user(name, self.emitted_key or key, datetime.now(UTC))
        await stream.send(aaa_pb2.EscrowResponse(emitted_certificate=emitted))

    def issue_user(self, name: str, public_key: bytes, start: datetime) -> bytes:
        """Certify a user for thirty days."""
        return certificates.issue_user(
            self.authority,
            public_key,
            identity=name,
            serial=certificates.new_serial(ENTROPY),
            validity=certificates.user_validity(start),
        )

    def _issue(self, public_key: bytes) -> bytes:
        return certificates.issue_user(self.authority, public_key, identity="owner", serial=3)

    async def _get_nodes(self, stream: ServerStream[Any, Any]) -> None:
        request = await stream.receive()
        assert request is not None
        self._note(Management.GET_NODES, request)
        for node in self.nodes.values():
            match request.filter:
                case "":
                    await stream.send(node)
                case "node.state == NODE_STATE_NEW":
                    if node.state == common_pb2.NODE_STATE_NEW:
                        await stream.send(node)
                case _:
                    raise InvalidArgumentError("not an expression", remedy="Write CEL.")

    async def _audit_list(self, stream: ServerStream[Any, Any]) -> None:
        request = await stream.receive()
        assert request is not None
        self._note(Audit.LIST, request)
        if request.follow and self.audit_grows:
            self.audit = self.audit_grows.pop(0)
        found = [each for each in self.audit if each[0] > request.after]
        for sequence, record in found[-request.limit :]:
            await stream.send(audit_pb2.ListResponse(sequence=sequence, record=record))
        if request.follow and self.audit_grows:
            raise UnavailableError("leadership was lost during the call")

    async def _decommission(self, stream: ServerStream[Any, Any]) -> None:
        request = await stream.receive()
        assert request is not None
        self._note(Nodes.DECOMMISSION, request)
        for answer in self.decommissions.pop(0):
            if isinstance(answer, MetropolisError):
                raise answer
            await stream.send(answer)

    async def _info(self, _r: Any, _p: Peer) -> management_pb2.GetClusterInfoResponse:
        response = management_pb2.GetClusterInfoResponse(
            ca_certificate=self.authority.certificate, cluster_configuration=self.configuration
        )
        response.cluster_directory.nodes.add(id=self.own.id).addresses.add(host=self.address)
        return response

    async def _configure(self, request: Any, _p: Peer) -> management_pb2.ConfigureClusterResponse:
        request.update_mask.MergeMessage(request.new_config, self.configuration, True, True)
        return management_pb2.ConfigureClusterResponse(resulting_config=self.configuration)

    async def _logs(self, stream: ServerStream[Any, Any]) -> None:
        request = await stream.receive()
        assert request is not None
        self._note(NodeManagement.LOGS, request)
        await stream.send(management_pb2.LogsResponse(backlog_entries=self.backlog))
        if request.stream_mode == management_pb2.LogsRequest.STREAM_MODE_UNBUFFERED:
            for entry in self.stream:
                await stream.send(management_pb2.LogsResponse(stream_entries=[entry]))
            if self.keeps_logs_open:
                await asyncio.Event().wait()

    async def _update(self, _r: Any, _p: Peer) -> management_pb2.UpdateNodeResponse:
        self.own.status.boot_id = b"b" * 16
        return management_pb2.UpdateNodeResponse()

    def _respond(self, _method: str, _target: str) -> HttpResponse:
        if self.is_kubernetes:
            return HttpResponse(
                status=HTTPStatus.UNAUTHORIZED, content_type="application/json", body=b"{}"
            )
        return HttpResponse(
            status=HTTPStatus.SERVICE_UNAVAILABLE,
            content_type="application/json",
            body=json.dumps(STATUS_OBJECT).encode(),
        )


def a_log_entry(text: str, dn: str = "root.enrolment") -> logtree_pb2.LogEntry:
    leveled = logtree_pb2.LogEntry.Leveled(
        lines=[text],
        severity=logtree_pb2.LEVELED_LOG_SEVERITY_INFO,
        location="cluster_bootstrap.py:48",
    )
    leveled.timestamp.FromDatetime(datetime(2022, 2, 28, 13, 30, 45, 996960, tzinfo=UTC))
    return logtree_pb2.LogEntry(dn=dn, leveled=leveled)


async def _later(message: Message) -> Message:
    return message


def _constant(message: Message) -> Callable[[Any, Peer], Awaitable[Any]]:
    return lambda _request, _peer: _later(message)


async def _refuse_reboot(_request: Any, _peer: Peer) -> Any:
    raise UnimplementedError("cannot reboot: it has no image", remedy="Restart the lab.")
