# SPDX-License-Identifier: Apache-2.0
"""Real nodes that are taken out of service: what is left of them, and of their keys, is nothing."""

import asyncio
import sys
from collections.abc import Iterator
from statistics import quantiles

import pytest

from e2e.cluster import flood
from e2e.cluster.site import CALL_TIMEOUT_S, Site, launched_site
from metropolis.api import common_pb2, curator_pb2, private_pb2
from metropolis.api.management_pb2 import Node
from metropolis.api.rpc_curator import Curator
from metropolis.base.ids import NodeId, node_id_from_public_key
from metropolis.base.ports import CURATOR_TCP_PORT
from metropolis.ctl import nodes
from metropolis.ctl.connection import Cluster
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.lab.model import address_of
from metropolis.node.farewell.runnable import EPITAPH
from metropolis.node.sealing.envelope import decode
from metropolis.node.storage import COPY_SUFFIX, ETCD, FAREWELL, SEALED_CONFIGURATION
from metropolis.pki import keys
from metropolis.pki.certificates import issue_ephemeral
from metropolis.pki.credentials import Credentials
from metropolis.pki.identity import server_verifier
from metropolis.rpc.throttle import WRONG_TICKETS
from metropolis.rpc.transport import Endpoint

ENTROPY = LinuxEntropy()
UNLOCK_KEY = ENTROPY.token_bytes(32)
RECORD = ENTROPY.token_bytes(32)  # a join key of nobody
LEFT = [FAREWELL.path, FAREWELL.path + COPY_SUFFIX]  # of the whole disk, and kept twice
FLOOD_S = 4.0
GET_NODES_S_MAX = 0.25  # two slow cores carry the flood, the cluster and the owner

pytestmark = pytest.mark.timeout(150)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with launched_site(tmp_path_factory.mktemp("decommission")) as made:
        yield made


def databases(site: Site, *numbers: int) -> dict[int, bytes]:
    """The database files of consensus members, as bytes."""
    found: dict[int, bytes] = {}
    for number in numbers:
        (path,) = (site.cluster.directory.storage(number) / ETCD.path).rglob("snap/db")
        found[number] = path.read_bytes()
    return found


def join_key_of(site: Site, number: int) -> bytes:
    """The public half of a node's join key, which its record holds."""
    path = site.cluster.directory.storage(number) / SEALED_CONFIGURATION.path
    body = decode(SEALED_CONFIGURATION.path, path.read_bytes()).body
    sealed = private_pb2.SealedConfiguration.FromString(body)
    return keys.raw_public_key(keys.from_go_form(sealed.join_key))


def files_of(site: Site, number: int) -> list[str]:
    root = site.cluster.directory.storage(number)
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


async def enrol_by_hand(site: Site, owner: Cluster) -> NodeId:
    """Make a member of keys alone, whose disk would be encrypted. Nobody runs it."""
    key = keys.generate_key(ENTROPY)
    ticket = await nodes.register_ticket(owner.channel, timeout_s=CALL_TIMEOUT_S)
    register = curator_pb2.RegisterNodeRequest(register_ticket=ticket, join_key=RECORD)
    commit = curator_pb2.CommitNodeRequest(
        cluster_unlock_key=UNLOCK_KEY,
        storage_security=common_pb2.NODE_STORAGE_SECURITY_ENCRYPTED,
    )
    public_key = keys.raw_public_key(key)
    channel = owner.transport.dial(
        Endpoint(address_of(await site.leader()), CURATOR_TCP_PORT),
        credentials=Credentials(certificate=issue_ephemeral(key), key=key),
        verify=server_verifier(owner.ca),
    )
    try:
        await channel.call(Curator.REGISTER_NODE, register, timeout_s=CALL_TIMEOUT_S)
        await nodes.approve_node(owner.channel, Node(pubkey=public_key))
        await channel.call(Curator.COMMIT_NODE, commit, timeout_s=CALL_TIMEOUT_S)
    finally:
        await channel.close()
    return node_id_from_public_key(public_key)


def say_decommissioned(site: Site, node_id: str, *more: str) -> str:
    done = site.metroctl("node", "decommission", node_id, "--yes", *more)
    assert done.status == 0, done
    assert "Decommissioned node" in done.err
    for step in ("drain kubernetes", "drain consensus", "wipe", "delete keys", "scrub", "revoke"):
        assert step in done.err, done.err
    return done.err


def test_nothing_of_a_decommissioned_node_is_left(site: Site) -> None:
    """The leader itself goes, and then a member that cannot be reached, whose disk has a key."""

    async def scenario() -> None:
        before = await site.wait_calm()
        gone = await site.leader()
        node_id = before[gone].id
        stay = [number for number in site.numbers if number != gone]
        async with site.operator() as owner:
            hand_made = await enrol_by_hand(site, owner)
        join_key = join_key_of(site, gone)
        secrets = (UNLOCK_KEY, RECORD, RECORD.hex().encode(), join_key, join_key.hex().encode())

        async def all_stored() -> str | None:
            files = databases(site, *site.numbers).values()
            return None if all(s in file for s in secrets for file in files) else "not stored yet"

        await site.eventually("the keys to be in every database file", all_stored)
        refused = site.metroctl("node", "decommission", hand_made, "--yes")
        assert refused.status != 0
        said = say_decommissioned(site, node_id)
        assert "its machine is wiped" in said
        await _wait_epitaph(site, gone, times=1)
        assert files_of(site, gone) == LEFT
        said = say_decommissioned(site, hand_made, "--force")
        assert "never wiped" in said
        for number, file in databases(site, *stay).items():
            assert not [secret for secret in secrets if secret in file], number
        await site.cluster.power(gone, "off")
        await site.cluster.power(gone, "on")
        await _wait_epitaph(site, gone, times=2)
        assert files_of(site, gone) == LEFT
        async with site.operator(*stay) as owner:
            found = await nodes.list_nodes(owner.channel, timeout_s=CALL_TIMEOUT_S)
            states = {node.id: node.state for node in found}
            assert states[node_id] == common_pb2.NODE_STATE_DECOMMISSIONED
            members = await owner.channel.call(
                Curator.GET_CONSENSUS_STATUS, curator_pb2.GetConsensusStatusRequest()
            )
            assert {member.id for member in members.etcd_member} == {
                before[number].id for number in stay
            }
        explained = site.metroctl("explain", node_id, endpoints=stay)
        assert "its machine is wiped" in explained.out
        for each in (node_id, hand_made):
            done = site.metroctl("node", "delete", each, "--yes", endpoints=stay)
            assert done.status == 0, done
        async with site.operator(*stay) as owner:
            left = await nodes.list_nodes(owner.channel, timeout_s=CALL_TIMEOUT_S)
            assert {node.id for node in left} == {before[number].id for number in stay}
            assert all(node.health == Node.HEALTH_HEALTHY for node in left)

    site.run(scenario)


def test_a_flood_of_wrong_tickets_does_not_keep_the_owner_waiting(site: Site) -> None:
    """Strangers and the owner share one address here: the proxy's."""
    stay = [number for number in site.numbers if EPITAPH not in site.printed(number)]

    async def scenario() -> None:
        async with site.operator(*stay) as owner:
            calm = await _latencies_s(owner, within_s=1.0)
            address = address_of(await site.leader())
            flooding = await asyncio.create_subprocess_exec(
                *(sys.executable, flood.__file__, site.cluster.rack.proxy),
                *(address, str(FLOOD_S)),
                stdout=asyncio.subprocess.PIPE,
            )
            under_fire = await _latencies_s(owner, within_s=FLOOD_S)
            out, _ = await flooding.communicate()
        answers = dict(pair.split("=") for pair in out.decode().split())
        sys.stdout.write(
            f"calm {calm * 1e3:.0f} ms, under fire {under_fire * 1e3:.0f} ms\n{answers}\n"
        )
        assert under_fire <= GET_NODES_S_MAX, (calm, answers)
        assert set(answers) <= {"permission-denied", "throttled"}
        assert int(answers["throttled"]) > int(answers["permission-denied"])
        assert int(answers["permission-denied"]) <= WRONG_TICKETS.burst + FLOOD_S * (
            WRONG_TICKETS.per_s + 1
        )

    site.run(scenario)


async def _latencies_s(owner: Cluster, *, within_s: float) -> float:
    """Call GetNodes again and again; return what 19 of 20 calls took at most."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + within_s
    found: list[float] = []
    while loop.time() < until_s:
        begun_s = loop.time()
        await nodes.list_nodes(owner.channel, timeout_s=CALL_TIMEOUT_S)
        found.append(loop.time() - begun_s)
        await asyncio.sleep(0.02)
    return quantiles(found, n=20)[-1]


def test_a_replaced_ticket_admits_nobody_and_the_new_one_does(site: Site) -> None:
    stay = [number for number in site.numbers if EPITAPH not in site.printed(number)]
    old = site.metroctl("cluster", "ticket", endpoints=stay)
    done = site.metroctl("cluster", "ticket", "rotate", endpoints=stay)
    assert done.status == 0, done
    now = site.metroctl("cluster", "ticket", endpoints=stay)
    assert old.out != done.out == now.out


async def _wait_epitaph(site: Site, number: int, *, times: int) -> None:
    async def problem() -> str | None:
        said = site.printed(number).count(EPITAPH)
        return None if said >= times else f"said {said} times"

    await site.eventually(f"machine {number} to say what it is", problem)
