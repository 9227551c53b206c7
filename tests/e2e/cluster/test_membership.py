# SPDX-License-Identifier: Apache-2.0
"""Nodes that leave the consensus or the cluster, and come back; no secret is logged on the way."""

import asyncio
import base64
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from e2e.cluster.secrets import Vault, readable, spellings
from e2e.cluster.site import CALL_TIMEOUT_S, Site, launched_site
from metropolis.api.management_pb2 import Node
from metropolis.base.errors import MetropolisError
from metropolis.base.ports import CURATOR_TCP_PORT, NODE_MANAGEMENT_TCP_PORT
from metropolis.ctl import nodes
from metropolis.lab import parameters
from metropolis.lab.model import address_of
from metropolis.lab.probe import is_port_open
from metropolis.node.storage import ETCD, NODE_CERTIFICATE, NODE_KEY
from metropolis.pki import certificates, keys
from metropolis.pki.credentials import Credentials
from metropolis.pki.identity import server_verifier
from metropolis.rpc.status import NodeDeletedError
from metropolis.rpc.transport import Endpoint

CONTROL_PLANE = ("ConsensusMember", "KubernetesController")
DELETED = "This node was deleted from its cluster: it runs nothing any more."

pytestmark = pytest.mark.timeout(150)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Three voting members; every test leaves three."""
    with launched_site(tmp_path_factory.mktemp("membership")) as made:
        yield made


@pytest.fixture(scope="module")
def vault(site: Site) -> Vault:
    """Secrets, from the beginning on."""
    made = Vault()
    uvloop.run(made.collect(site))
    return made


def etcd_data(site: Site, number: int) -> Path:
    return site.cluster.directory.storage(number) / ETCD.path


async def follower(site: Site) -> tuple[int, Node]:
    """A machine that does not lead, and its node."""
    found = await site.wait_calm()
    leader = await site.leader()
    number = min(each for each in found if each != leader)
    return number, found[number]


async def insist(site: Site, what: str, change: Callable[[], Awaitable[None]]) -> None:
    """Make a change that may be repeated until the cluster takes it."""

    async def attempt() -> None:
        await change()

    await site.eventually(what, attempt)


async def give_roles(site: Site, node_id: str) -> None:
    async with site.operator() as connection:
        await insist(
            site,
            f"roles for {node_id}",
            lambda: nodes.update_roles(
                connection.channel, node_id, add=CONTROL_PLANE, timeout_s=CALL_TIMEOUT_S
            ),
        )


async def take_roles(site: Site, node_id: str) -> None:
    async with site.operator() as connection:
        await insist(
            site,
            f"{node_id} to lose its roles",
            lambda: nodes.update_roles(
                connection.channel, node_id, remove=CONTROL_PLANE, timeout_s=CALL_TIMEOUT_S
            ),
        )


async def wait_forgotten(site: Site, number: int) -> None:
    """Wait until no data of the consensus is left on a machine."""

    async def problem() -> str | None:
        data = etcd_data(site, number)
        return f"{data} is still there" if data.exists() else None

    await site.eventually(f"machine {number} to forget the consensus", problem)


def test_a_member_that_leaves_the_consensus_forgets_its_data_and_may_come_back(site: Site) -> None:
    async def scenario() -> None:
        number, node = await follower(site)
        assert etcd_data(site, number).exists()
        await take_roles(site, node.id)
        await wait_forgotten(site, number)
        after = await site.wait_calm(voters=2)
        assert not after[number].roles.HasField("consensus_member")
        await give_roles(site, node.id)
        after = await site.wait_calm()
        assert after[number].id == node.id
        assert after[number].roles.HasField("consensus_member")
        assert etcd_data(site, number).exists()

    site.run(scenario)


def test_a_leader_that_leaves_the_consensus_is_replaced(site: Site) -> None:
    async def scenario() -> None:
        before = await site.wait_calm()
        leader = await site.leader()
        await take_roles(site, before[leader].id)
        await wait_forgotten(site, leader)
        await site.wait_calm(voters=2)
        assert await site.leader() != leader
        await give_roles(site, before[leader].id)
        after = await site.wait_calm()
        assert {node.id for node in after.values()} == {node.id for node in before.values()}

    site.run(scenario)


def test_no_member_leaves_when_the_others_would_be_no_majority(site: Site) -> None:
    async def scenario() -> None:
        before = await site.wait_calm()
        leader = await site.leader()
        down, leaving = (number for number in site.numbers if number != leader)
        await site.cluster.power(down, "kill")
        async with site.operator(leader) as connection:

            async def refused_for_its_quorum() -> str | None:
                """It is noticed within seconds that a member is down."""
                try:
                    await nodes.update_roles(
                        connection.channel, before[leaving].id, remove=CONTROL_PLANE
                    )
                except MetropolisError as error:
                    is_said = "could not remove node" in str(error) and error.remedy
                    return None if is_said else str(error)
                raise AssertionError("a removal was accepted that leaves one of two members")

            await site.eventually("a refusal", refused_for_its_quorum)
        done = await asyncio.to_thread(
            site.metroctl, "node", "remove", "role", "KubernetesController", before[leaving].id
        )
        assert done.status == 0, done
        done = await asyncio.to_thread(
            site.metroctl, "node", "remove", "role", "ConsensusMember", before[leaving].id
        )
        assert done.status == 2, done
        assert "remedy: " in done.err
        await site.cluster.power(down, "on")
        await give_roles(site, before[leaving].id)
        after = await site.wait_calm(restarted={down: before[down]})
        assert {node.id for node in after.values()} == {node.id for node in before.values()}

    site.run(scenario)


def test_a_deleted_node_stops_and_stays_out_until_its_machine_is_wiped(
    site: Site, vault: Vault
) -> None:
    async def scenario() -> None:
        number, node = await follower(site)
        stolen = _credentials(site, number)
        await _delete(site, node.id)
        await _wait_retired(site, number, times=1)
        remaining = await site.wait_calm(count=2, voters=2)
        assert number not in remaining
        await _is_refused(site, stolen, await site.leader())
        await site.cluster.power(number, "cycle")
        await _wait_retired(site, number, times=2)
        await vault.collect(site)
        await site.cluster.power(number, "off")
        _wipe(site, number)
        await _register_anew(site, number)
        after = await site.wait_calm()
        assert after[number].id != node.id

    site.run(scenario)


def _credentials(site: Site, number: int) -> Credentials:
    """What somebody has who copied a node's disk."""
    storage = site.cluster.directory.storage(number)
    return Credentials(
        certificate=certificates.from_pem((storage / NODE_CERTIFICATE.path).read_bytes()),
        key=keys.from_pkcs8_pem((storage / NODE_KEY.path).read_bytes()),
    )


async def _delete(site: Site, node_id: str) -> None:
    command = ("node", "delete", node_id, "--yes", "--bypass-not-decommissioned")
    refused = await asyncio.to_thread(site.metroctl, *command)
    assert refused.status == 1, refused
    assert "still has the role" in refused.err
    assert "remedy: " in refused.err

    async def deleted() -> str | None:
        """Members that have just changed are given 5 s."""
        done = await asyncio.to_thread(site.metroctl, *command, "--bypass-has-roles")
        assert done.status != 1, done
        return None if done.status == 0 else done.err

    await site.eventually("the deletion to be accepted", deleted)


async def _wait_retired(site: Site, number: int, *, times: int) -> None:
    """Wait until a machine has said so often that it was deleted, and has stopped what it did."""
    proxy = site.cluster.rack.proxy_tcp_port

    async def problem() -> str | None:
        if site.printed(number).count(DELETED) < times:
            return "it does not say so"
        if etcd_data(site, number).exists():
            return "the data of its consensus member is still there"
        if await is_port_open(proxy, address_of(number), CURATOR_TCP_PORT):
            return "it serves the Cluster API"
        return None

    await site.eventually(f"machine {number} to know that it was deleted", problem)
    assert site.printed(number).count(DELETED) == times
    # People can still ask it for its log, which says what to do.
    assert await is_port_open(proxy, address_of(number), NODE_MANAGEMENT_TCP_PORT)


async def _is_refused(site: Site, stolen: Credentials, leader: int) -> None:
    async with site.operator() as connection:
        channel = connection.transport.dial(
            Endpoint(address_of(leader), CURATOR_TCP_PORT),
            credentials=stolen,
            verify=server_verifier(connection.ca),
        )
        try:
            with pytest.raises(NodeDeletedError) as refused:
                await nodes.list_nodes(channel)
        finally:
            await channel.close()
    assert refused.value.remedy


def _wipe(site: Site, number: int) -> None:
    for path in site.cluster.directory.storage(number).iterdir():
        shutil.rmtree(path)


async def _register_anew(site: Site, number: int) -> None:
    """Install a wiped machine, approve its node and give it the roles that it had."""
    async with site.operator() as connection:
        info = await nodes.cluster_info(connection.channel)
        ticket = await nodes.register_ticket(connection.channel)
        joining = parameters.register_parameters(info, ticket=ticket)
        await parameters.write_parameters(site.cluster.directory, number, joining)
        await site.cluster.power(number, "on")

        async def approved() -> str | None:
            waiting = await nodes.list_new_nodes(connection.channel)
            for node in waiting:
                await nodes.approve_node(connection.channel, node)
            return None if waiting else "nobody asks"

        await site.eventually("the machine to register", approved)
    new_id = ""

    async def up() -> str | None:
        nonlocal new_id
        found = await site.nodes()
        new_id = found[number].id if number in found else ""
        return None if new_id else "it has not reported an address"

    await site.eventually("the new node to be up", up)
    await give_roles(site, new_id)


def test_no_secret_of_the_cluster_is_in_a_log_or_an_argument(site: Site, vault: Vault) -> None:
    async def scenario() -> None:
        number, _node = await follower(site)
        before = await site.nodes()
        site.kill(number)
        await site.wait_calm(restarted={number: before[number]})
        await vault.collect(site)
        texts = await readable(site)
        assert len([where for where in texts if where.startswith("log of")]) == 3
        assert vault.leaks(texts) == []
        _the_search_finds_what_is_there(vault, texts)

    site.run(scenario)


def _the_search_finds_what_is_there(vault: Vault, texts: dict[str, bytes]) -> None:
    assert len(vault.secrets) >= 10, list(vault.secrets)
    for secret in vault.secrets.values():
        for needle in spellings(secret).values():
            assert vault.leaks({**texts, "planted": b"key: " + needle + b"\n"})
        for before in (b"", b"x", b"xy", b"0123456789abcdef"):
            text = base64.b64encode(before + secret + b"z")
            assert vault.leaks({"a message in base64": text})
        assert vault.leaks({"a message in base64": base64.urlsafe_b64encode(b"0" + secret)})
