# SPDX-License-Identifier: Apache-2.0
"""Users on every node's own port: admitted, refused when revoked, and by a deaf node not at all."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from metropolis.api import aaa_pb2, curator_pb2, management_pb2, users_pb2
from metropolis.api.rpc_aaa import AAA
from metropolis.api.rpc_curator import Curator
from metropolis.api.rpc_management import Management, NodeManagement
from metropolis.api.rpc_users import Users
from metropolis.base.errors import (
    MetropolisError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)
from metropolis.base.ports import CURATOR_TCP_PORT, NODE_MANAGEMENT_TCP_PORT
from metropolis.cluster.access import DEAF_S
from metropolis.pki.certificates import issue_ephemeral
from metropolis.pki.credentials import Credentials
from metropolis.pki.keys import raw_public_key
from metropolis.pki.rotation import sign_rotation
from metropolis.rpc.channel import Channel
from metropolis.rpc.transport import Endpoint
from metropolis.sim.loop import simulate
from metropolis.sim.world import Machine
from sim.node.grown import Cluster, grown

REVOKED_S = 10.0  # within which every server that hears the leader refuses
KEY, NEW_OWNER_KEY = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (5, 6))


@asynccontextmanager
async def dialled(
    cluster: Cluster, machine: Machine, credentials: Credentials, tcp_port: int
) -> AsyncIterator[Channel]:
    channel = cluster.world.operator_transport().dial(
        Endpoint(machine.address, tcp_port),
        credentials=credentials,
        verify=lambda _certificate: None,
    )
    try:
        yield channel
    finally:
        await channel.close()


async def log_in(cluster: Cluster, name: str, **granted: list[str]) -> Credentials:
    """Make a user and become it; the first machine leads."""
    owner = cluster.channel
    grants = users_pb2.Grants(**granted)
    await owner.call(Users.CREATE_USER, users_pb2.CreateUserRequest(name=name, grants=grants))
    made = await owner.call(Users.ISSUE_PASSWORD, users_pb2.IssuePasswordRequest(user=name))
    credentials = Credentials(certificate=issue_ephemeral(KEY), key=KEY)
    leader = cluster.world.machines[0]
    async with (
        dialled(cluster, leader, credentials, CURATOR_TCP_PORT) as channel,
        channel.open(AAA.ESCROW) as stream,
    ):
        parameters = aaa_pb2.EscrowRequest.Parameters(
            requested_identity_name=name, public_key=raw_public_key(KEY)
        )
        await stream.send(aaa_pb2.EscrowRequest(parameters=parameters))
        await stream.receive()
        proofs = aaa_pb2.EscrowRequest.Proofs(plaintext_password=made.password)
        await stream.send(aaa_pb2.EscrowRequest(proofs=proofs))
        answer = await stream.receive()
        assert answer is not None
        secret = made.password.encode()
        kept = cluster.world.consensus.cluster.keyspace.scan(b"").items
        assert kept
        assert not any(secret in item.value for item in kept)  # the audit log is there, too
        assert not any(made.password in line for line in leader.log)
        return Credentials(certificate=answer.emitted_certificate, key=KEY)


def following() -> management_pb2.LogsRequest:
    return management_pb2.LogsRequest(
        dn="root",
        backlog_mode=management_pb2.LogsRequest.BACKLOG_MODE_DISABLE,
        stream_mode=management_pb2.LogsRequest.STREAM_MODE_UNBUFFERED,
    )


async def read_logs(cluster: Cluster, machine: Machine, credentials: Credentials) -> None:
    """Read a little of a node's log."""
    request = management_pb2.LogsRequest(
        dn="root", backlog_mode=management_pb2.LogsRequest.BACKLOG_MODE_COUNT, backlog_count=1
    )
    async with (
        dialled(cluster, machine, credentials, NODE_MANAGEMENT_TCP_PORT) as channel,
        channel.open(NodeManagement.LOGS, timeout_s=5) as stream,
    ):
        await stream.send(request)
        await stream.end()
        while await stream.receive() is not None:
            pass


async def ended(cluster: Cluster, machine: Machine, credentials: Credentials) -> MetropolisError:
    """Follow a node's log until that is not allowed any more; return how it ended."""
    async with (
        dialled(cluster, machine, credentials, NODE_MANAGEMENT_TCP_PORT) as channel,
        channel.open(NodeManagement.LOGS) as stream,
    ):
        await stream.send(following())
        try:
            while await stream.receive() is not None:
                pass
        except MetropolisError as error:
            return error
    raise AssertionError("the node ended the log by itself")


async def watch_ended(cluster: Cluster, credentials: Credentials) -> MetropolisError:
    """Watch all nodes at the leader until that is not allowed any more; return how it ended."""
    request = curator_pb2.WatchRequest()
    request.nodes_in_cluster.SetInParent()
    async with (
        dialled(cluster, cluster.world.machines[0], credentials, CURATOR_TCP_PORT) as channel,
        channel.open(Curator.WATCH) as stream,
    ):
        await stream.send(request)
        try:
            while await stream.receive() is not None:
                pass
        except MetropolisError as error:
            return error
    raise AssertionError("the leader ended the watch by itself")


def owner_of(cluster: Cluster) -> Credentials:
    return cluster._operator._credentials


def test_a_revoked_user_is_refused_by_every_node_and_cut_off_within_seconds() -> None:
    async def scenario() -> None:
        async with grown(machines=3, voters=1) as cluster:
            ann = await log_in(cluster, "ann", roles=["viewer"])
            await asyncio.sleep(1)
            for machine in cluster.world.machines:
                await read_logs(cluster, machine, ann)
                async with dialled(cluster, machine, ann, NODE_MANAGEMENT_TCP_PORT) as channel:
                    with pytest.raises(PermissionDeniedError, match="user 'ann' missing"):
                        await channel.call(NodeManagement.REBOOT, management_pb2.RebootRequest())
            async with asyncio.TaskGroup() as group:
                streams = [
                    group.create_task(ended(cluster, machine, ann))
                    for machine in cluster.world.machines
                ]
                await asyncio.sleep(20)
                assert not any(stream.done() for stream in streams)
                request = users_pb2.DeleteUserRequest(name="ann")
                await cluster.channel.call(Users.DELETE_USER, request)
                async with asyncio.timeout(REVOKED_S):
                    await asyncio.wait(streams)
            for machine in cluster.world.machines:
                with pytest.raises(UnauthenticatedError, match="no such user"):
                    await read_logs(cluster, machine, ann)

    simulate(scenario, seed=1)


def test_the_leader_closes_what_a_revoked_user_has_open() -> None:
    async def scenario() -> None:
        async with grown(machines=1, voters=1) as cluster:
            ann = await log_in(cluster, "ann", roles=["viewer"])
            async with asyncio.TaskGroup() as group:
                stream = group.create_task(watch_ended(cluster, ann))
                await asyncio.sleep(10)
                assert not stream.done()
                request = users_pb2.RevokeCertificatesRequest(user="ann")
                request.all.SetInParent()
                await cluster.channel.call(Users.REVOKE_CERTIFICATES, request)
                async with asyncio.timeout(2):
                    await stream

    simulate(scenario, seed=1)


@pytest.mark.parametrize("where", ["leader", "node"])
def test_a_certificate_that_ends_takes_its_open_streams_along(where: str) -> None:
    async def scenario() -> None:
        async with grown(machines=1, voters=1) as cluster:
            ann = await log_in(cluster, "ann", roles=["viewer"])
            (machine,) = cluster.world.machines
            await asyncio.sleep(1)
            async with asyncio.TaskGroup() as group:
                work = (
                    watch_ended(cluster, ann) if where == "leader" else ended(cluster, machine, ann)
                )
                stream = group.create_task(work)
                await asyncio.sleep(10)
                assert not stream.done()
                machine.host.clock.step(31 * 86_400)
                async with asyncio.timeout(REVOKED_S):
                    await stream
            with pytest.raises(UnauthenticatedError, match="expired"):
                await read_logs(cluster, machine, ann)

    simulate(scenario, seed=1)


def test_taking_a_permission_ends_what_was_begun_with_it() -> None:
    async def scenario() -> None:
        async with grown(machines=2, voters=1) as cluster:
            ann = await log_in(cluster, "ann", permissions=["node.logs"])
            machine = cluster.world.machines[1]
            await asyncio.sleep(1)
            async with asyncio.TaskGroup() as group:
                stream = group.create_task(ended(cluster, machine, ann))
                await asyncio.sleep(3)
                await cluster.channel.call(
                    Users.REVOKE,
                    users_pb2.RevokeRequest(
                        user="ann", grants=users_pb2.Grants(permissions=["node.logs"])
                    ),
                )
                async with asyncio.timeout(REVOKED_S):
                    await stream
            with pytest.raises(PermissionDeniedError):
                await read_logs(cluster, machine, ann)

    simulate(scenario, seed=1)


def test_a_deaf_node_admits_the_owner_only_and_says_so() -> None:
    async def scenario() -> None:
        async with grown(machines=2, voters=1) as cluster:
            ann = await log_in(cluster, "ann", roles=["viewer"])
            leader, deaf = cluster.world.machines
            await asyncio.sleep(1)
            network = cluster.world.network
            network.cut(leader.address, deaf.address)
            network.cut(deaf.address, leader.address)
            await asyncio.sleep(DEAF_S / 2)
            await read_logs(cluster, deaf, ann)
            await asyncio.sleep(DEAF_S / 2 + 2)
            with pytest.raises(UnavailableError, match="has not heard the cluster's leader for"):
                await read_logs(cluster, deaf, ann)
            await read_logs(cluster, deaf, owner_of(cluster))
            network.heal()
            await asyncio.sleep(30)
            await read_logs(cluster, deaf, ann)

    simulate(scenario, seed=1)


def test_a_node_hears_of_a_revocation_from_whoever_leads() -> None:
    async def scenario() -> None:
        async with grown(machines=3, voters=3) as cluster:
            ann = await log_in(cluster, "ann", roles=["viewer"])
            first, _second, third = cluster.world.machines
            await first.kill()

            async def delete() -> None:
                request = users_pb2.DeleteUserRequest(name="ann")
                await cluster.channel.call(Users.DELETE_USER, request)

            await cluster.insist(delete)
            await asyncio.sleep(REVOKED_S)
            with pytest.raises(UnauthenticatedError):
                await read_logs(cluster, third, ann)

    simulate(scenario, seed=1)


def test_a_replaced_owners_key_is_refused_everywhere() -> None:
    async def scenario() -> None:
        async with grown(machines=2, voters=1) as cluster:
            old, ca = owner_of(cluster), cluster._operator.ca
            signature = sign_rotation(NEW_OWNER_KEY, ca=ca, old_public_key=raw_public_key(old.key))
            request = users_pb2.RotateOwnerKeyRequest(
                new_public_key=raw_public_key(NEW_OWNER_KEY), signature=signature
            )
            answer = await cluster.channel.call(Users.ROTATE_OWNER_KEY, request)
            await asyncio.sleep(REVOKED_S)
            new = Credentials(certificate=answer.certificate, key=NEW_OWNER_KEY)
            for machine in cluster.world.machines:
                with pytest.raises(UnauthenticatedError, match="owner's key was replaced"):
                    await read_logs(cluster, machine, old)
                await read_logs(cluster, machine, new)
            leader, other = cluster.world.machines
            async with dialled(cluster, leader, old, CURATOR_TCP_PORT) as channel:
                with pytest.raises(UnauthenticatedError, match="owner's key was replaced"):
                    await channel.call(
                        Management.GET_CLUSTER_INFO, management_pb2.GetClusterInfoRequest()
                    )
            # Nor does a node that starts anew and hears nobody fall back on the old key.
            await leader.kill()
            await other.stop()
            other.boot()
            await asyncio.sleep(20)
            with pytest.raises(UnauthenticatedError, match="owner's key was replaced"):
                await read_logs(cluster, other, old)
            await read_logs(cluster, other, new)

    simulate(scenario, seed=1)
