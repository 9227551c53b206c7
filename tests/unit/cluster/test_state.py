# SPDX-License-Identifier: Apache-2.0
"""What is stored: keys, records, fenced writes, certificate authorities, the birth of a cluster."""

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.api.common_pb2 import NODE_STATE_UP, ClusterConfiguration
from metropolis.api.storage_pb2 import InitialOwner
from metropolis.api.storage_pb2 import Node as StoredNode
from metropolis.base.errors import (
    AbortedError,
    DataLossError,
    FailedPreconditionError,
    InvalidArgumentError,
    UnavailableError,
)
from metropolis.cluster.lifecycle import NodeState
from metropolis.cluster.planner.roles import Roles
from metropolis.cluster.state import keys, pki, records
from metropolis.cluster.state.bootstrap import BootstrapRequest, bootstrap_cluster, seed_consensus
from metropolis.cluster.state.fenced import (
    Change,
    ConflictError,
    FencedStore,
    is_absent,
    is_unchanged,
    retry_conflicts,
)
from metropolis.consensus.memory.client import MemoryStore
from metropolis.consensus.memory.cluster import MemoryCluster
from metropolis.consensus.memory.faults import Faults
from metropolis.consensus.store import Compare, Delete, Get, KeyValue, Put, Store, Target
from metropolis.host.sim.entropy import SimEntropy
from metropolis.pki.certificates import issue_user
from metropolis.pki.identity import server_verifier
from metropolis.rpc.status import NotLeaderError
from metropolis.sim.loop import simulate
from unit.cluster.harness import (
    FIRST,
    LOCK,
    OWNER_KEY,
    Bench,
    bootstrap_request,
    machine,
    run,
)

NEW = machine(2)


def new_store(faults: Faults | None = None) -> MemoryStore:
    cluster = MemoryCluster(faults=faults)
    return MemoryStore(cluster, cluster.bootstrap(name="a", peer_url="https://a:1"))


def test_keys_lie_where_the_original_keeps_them() -> None:
    node_id = FIRST.node_id
    assert keys.node(node_id) == b"namespaced:curator//nodes/" + node_id.encode()
    assert keys.join_key(b"\xab" * 32) == b"namespaced:curator//join_keys/" + b"ab" * 32
    assert keys.CONFIGURATION == b"namespaced:curator//cluster/configuration"
    assert keys.INITIAL_OWNER == b"namespaced:curator//global/initial_owner"
    assert keys.REGISTER_TICKET == b"namespaced:curator//global/register_ticket"
    assert keys.LEADER == b"namespaced:curator//leader/"
    pki_prefix = b"namespaced:curator//cluster-pki/"
    assert pki.CLUSTER.key("cluster-ca") == pki_prefix + b"keys/cluster-ca-privkey.bin"
    assert pki.CLUSTER.certificate("owner") == pki_prefix + b"issued/owner-cert.der"
    assert pki.CLUSTER.crl == pki_prefix + b"cluster-ca-crl.der"
    assert pki.CONSENSUS.key("CA") == b"namespaced:etcd-pki//pki/keys/CA-privkey.bin"
    assert pki.CONSENSUS.certificate("x") == b"namespaced:etcd-pki//pki/issued/x-cert.der"
    assert pki.CONSENSUS.crl == b"namespaced:etcd-pki//pki/CA-crl.der"
    assert pki.node_name(node_id) == f"node-{node_id}"


def stored(value: bytes, key: bytes = keys.node(FIRST.node_id)) -> KeyValue:
    return KeyValue(key=key, value=value, create_revision=3, mod_revision=7)


def test_a_record_survives_storing() -> None:
    record = (
        records.new_record(public_key=FIRST.key, state=NodeState.NEW)
        .with_enrolment(join_key=FIRST.join_key, tpm_usage=2)
        .with_unlock_key(FIRST.unlock_key)
        .with_labels({"b": "1", "a": ""})
        .with_roles(Roles(consensus_member=True, kubernetes_worker=True), None)
        .in_state(NodeState.UP)
    )
    read = records.decode(stored(records.encode(record)))
    assert read == replace(record, mod_revision=7)
    assert read.roles == Roles(consensus_member=True, kubernetes_worker=True)
    assert list(read.labels.items()) == [("a", ""), ("b", "1")]
    assert read.state is NodeState.UP
    assert FIRST.unlock_key.hex() not in repr(read)
    assert repr(FIRST.unlock_key)[2:-1] not in repr(read)


def test_what_a_newer_build_wrote_survives_a_change() -> None:
    message = StoredNode(id=FIRST.node_id, public_key=FIRST.key, fsm_state=NODE_STATE_UP)
    unknown = b"\xfa\x7f\x05later"  # field 2047
    record = records.decode(stored(message.SerializeToString() + unknown))
    changed = record.with_labels({"a": "b"})
    assert unknown in records.encode(changed)
    assert not record.labels  # the original is untouched


def test_a_change_of_roles_keeps_what_a_member_is_told() -> None:
    record = records.new_record(public_key=FIRST.key, state=NodeState.UP)
    told = record.with_roles(Roles(consensus_member=True), None).message.roles.consensus_member
    told.ca_certificate = b"ca"
    member = record.with_roles(Roles(consensus_member=True), told)
    both = member.with_roles(Roles(consensus_member=True, kubernetes_worker=True), None)
    assert both.message.roles.consensus_member.ca_certificate == b"ca"
    assert not both.with_roles(Roles(), None).message.roles.ByteSize()


def test_a_record_without_an_id_has_the_one_of_its_key() -> None:
    message = StoredNode(public_key=FIRST.key, fsm_state=NODE_STATE_UP)
    assert records.decode(stored(message.SerializeToString())).node_id == FIRST.node_id


GOOD = StoredNode(id=FIRST.node_id, public_key=FIRST.key, fsm_state=NODE_STATE_UP)


@pytest.mark.parametrize(
    ("value", "key"),
    [
        pytest.param(b"\xff", keys.node(FIRST.node_id), id="garbage"),
        pytest.param(b"", keys.node(FIRST.node_id), id="empty"),
        pytest.param(GOOD.SerializeToString(), keys.node(NEW.node_id), id="under another key"),
        pytest.param(GOOD.SerializeToString(), keys.NODES + b"x", id="under no id"),
        pytest.param(GOOD.SerializeToString(), keys.NODES + b"\xff\xfe", id="under no text"),
        pytest.param(
            StoredNode(public_key=FIRST.key[:16], fsm_state=NODE_STATE_UP).SerializeToString(),
            keys.node(FIRST.node_id),
            id="short key",
        ),
        pytest.param(
            StoredNode(public_key=FIRST.key).SerializeToString(),
            keys.node(FIRST.node_id),
            id="no state",
        ),
        pytest.param(
            StoredNode(public_key=FIRST.key).SerializeToString() + b"\x18\x63",
            keys.node(FIRST.node_id),
            id="unknown state",
        ),
        pytest.param(
            StoredNode(
                id=NEW.node_id, public_key=FIRST.key, fsm_state=NODE_STATE_UP
            ).SerializeToString(),
            keys.node(FIRST.node_id),
            id="another's id",
        ),
    ],
)
def test_a_damaged_record_is_said_to_be_damaged(value: bytes, key: bytes) -> None:
    with pytest.raises(DataLossError, match="damaged") as caught:
        records.decode(stored(value, key))
    assert caught.value.remedy


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reading_of_records(value: bytes) -> None:
    with suppress(DataLossError):
        records.decode(stored(value))


def test_a_write_is_made_only_while_its_author_leads() -> None:
    async def scenario() -> None:
        store = new_store()
        await store.transact([], [Put(LOCK, b"ours")])
        lock = await store.get(LOCK)
        assert lock is not None
        fence = Compare(LOCK, Target.CREATE_REVISION, lock.create_revision)
        fenced = FencedStore(store, fence=fence)
        put = Change(compares=(is_absent(b"k"),), operations=(Put(b"k", b"1"),))
        revision = await fenced.write(put)
        assert (await fenced.read(Get(b"k"))).one(0) is not None
        with pytest.raises(ConflictError):
            await fenced.write(put)
        stale = Change(compares=(is_unchanged(b"k", revision - 1),), operations=(Delete(b"k"),))
        with pytest.raises(ConflictError):
            await fenced.write(stale)
        await store.transact([], [Delete(LOCK)])
        for attempt in (fenced.read(), fenced.write(put), fenced.write(Change())):
            with pytest.raises(NotLeaderError):
                await attempt
        await store.transact([], [Put(LOCK, b"another's")])
        for attempt in (fenced.read(), fenced.write(put)):
            with pytest.raises(NotLeaderError):
                await attempt
        kept = await store.get(b"k")
        assert kept is not None
        assert kept.mod_revision == revision

    simulate(scenario, seed=1)


def test_a_conflict_is_tried_again_but_not_for_ever() -> None:
    async def scenario() -> None:
        attempts = 0

        async def attempt() -> int:
            nonlocal attempts
            attempts += 1
            if attempts < 3:
                raise ConflictError("busy")
            return attempts

        assert await retry_conflicts(attempt) == 3
        attempts = -100
        with pytest.raises(AbortedError):
            await retry_conflicts(attempt)

    simulate(scenario, seed=1)


def test_a_certificate_is_issued_once_per_name_and_key() -> None:
    async def scenario(bench: Bench) -> None:
        async def issue(key: bytes) -> bytes:
            issued = await bench.leader.pki.issue(
                "someone",
                key,
                lambda authority, serial: issue_user(
                    authority, key, identity="owner", serial=serial
                ),
            )
            if issued.change.operations:
                await bench.leader.store.write(issued.change)
            return issued.certificate

        first = await retry_conflicts(lambda: issue(NEW.key))
        assert await issue(NEW.key) == first
        with pytest.raises(FailedPreconditionError, match="different public key"):
            await issue(FIRST.key)
        key = pki.CLUSTER.certificate("someone")
        await bench.store.transact([], [Put(key, b"garbage")])
        with pytest.raises(DataLossError):
            await issue(NEW.key)

    run(scenario)


def test_certificates_issued_at_the_same_time_are_one() -> None:
    async def scenario(bench: Bench) -> None:
        record = records.new_record(public_key=NEW.key, state=NodeState.UP)

        async def certify() -> bytes:
            return await bench.leader.members._certify(record)

        issued = await asyncio.gather(*(retry_conflicts(certify) for _ in range(4)))
        assert len(set(issued)) == 1

    for seed in range(20):
        run(scenario, seed=seed)


@pytest.mark.parametrize("what", ["key", "certificate"])
@pytest.mark.parametrize("damage", [None, b"garbage"])
def test_a_lost_authority_is_reported_as_lost_data(what: str, damage: bytes | None) -> None:
    key = pki.CLUSTER.key("cluster-ca") if what == "key" else pki.CLUSTER.certificate("cluster-ca")

    async def scenario(bench: Bench) -> None:
        change = Delete(key) if damage is None else Put(key, damage)
        await bench.store.transact([], [change])
        with pytest.raises(DataLossError, match=what):
            await bench.leader.pki.issue(
                "x", NEW.key, lambda a, s: issue_user(a, NEW.key, identity="owner", serial=s)
            )

    run(scenario)


def test_a_damaged_revocation_list_is_started_anew() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.store.transact([], [Put(pki.CONSENSUS.crl, b"garbage")])
        change = await bench.leader.members.pki.revoke(FIRST.node_id)
        assert change is not None
        await bench.leader.store.write(change)
        serials, number = pki.read_crl(await bench.leader.members.pki.crl())
        assert len(serials) == 1
        assert number > 2
        assert await bench.leader.members.pki.revoke(FIRST.node_id) is None

    run(scenario)


def test_a_cluster_is_born_whole() -> None:
    async def scenario(bench: Bench) -> None:
        born = bench.born
        server_verifier(born.ca_certificate, FIRST.node_id)(born.node_certificate)
        record = await bench.leader.load(FIRST.node_id)
        assert record.state is NodeState.UP
        assert record.roles == Roles(consensus_member=True, kubernetes_controller=True)
        assert record.message.cluster_unlock_key == FIRST.unlock_key
        assert await bench.raw(keys.join_key(FIRST.join_key)) == FIRST.node_id.encode()
        owner = await bench.raw(keys.INITIAL_OWNER)
        assert owner is not None
        assert InitialOwner.FromString(owner).public_key == OWNER_KEY
        ca_key = await bench.raw(pki.CLUSTER.key("cluster-ca"))
        assert ca_key is not None
        assert len(ca_key) == 64
        told = record.message.roles.consensus_member
        assert told.peer_certificate == await bench.raw(pki.CONSENSUS.certificate(FIRST.node_id))
        assert told == born.consensus

    run(scenario)


def test_a_bootstrap_may_be_repeated_by_the_same_node_only() -> None:
    async def scenario() -> None:
        store = new_store()
        first = await bootstrap_cluster(store, bootstrap_request(), SimEntropy(1))
        before = (await store.range(b"")).items
        assert await bootstrap_cluster(store, bootstrap_request(), SimEntropy(2)) == first
        other = replace(bootstrap_request(), node_public_key=NEW.key)
        with pytest.raises(FailedPreconditionError, match="another node"):
            await bootstrap_cluster(store, other, SimEntropy(3))
        for changed in (
            replace(bootstrap_request(), join_public_key=NEW.join_key),
            replace(bootstrap_request(), cluster_unlock_key=NEW.unlock_key),
        ):
            with pytest.raises(FailedPreconditionError, match="other secrets"):
                await bootstrap_cluster(store, changed, SimEntropy(3))
        assert (await store.range(b"")).items == before

    simulate(scenario, seed=1)


def test_a_bootstrap_uses_the_consensus_that_it_was_started_with() -> None:
    async def scenario() -> None:
        store, entropy = new_store(), SimEntropy(1)
        seed = seed_consensus(FIRST.key, entropy)
        born = await bootstrap_cluster(store, replace(bootstrap_request(), consensus=seed), entropy)
        assert born.consensus.ca_certificate == seed.authority.certificate
        assert born.consensus.peer_certificate == seed.peer_certificate
        assert born.consensus.initial_crl == seed.crl

    simulate(scenario, seed=1)


@pytest.mark.parametrize(
    "bad",
    [
        replace(bootstrap_request(), owner_public_key=b""),
        replace(bootstrap_request(), owner_public_key=b"x" * 33),
        replace(bootstrap_request(), join_public_key=b""),
        replace(bootstrap_request(), configuration=ClusterConfiguration()),
    ],
)
def test_a_bad_bootstrap_writes_nothing(bad: BootstrapRequest) -> None:
    async def scenario() -> None:
        store = new_store()
        with pytest.raises(InvalidArgumentError):
            await bootstrap_cluster(store, bad, SimEntropy(1))
        assert not (await store.range(b"")).items

    simulate(scenario, seed=1)


class LosesReplies:
    """A store whose every n-th write takes effect and is not acknowledged."""

    def __init__(self, store: Store, every: int) -> None:
        self._store = store
        self._every = every
        self._writes = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def transact(self, *arguments: object) -> object:
        result = await self._store.transact(*arguments)  # type: ignore[arg-type]
        self._writes += 1
        if self._writes % self._every == 0:
            raise UnavailableError("the reply was lost")
        return result


@pytest.mark.parametrize("every", [1, 2, 3])
def test_a_bootstrap_completes_whatever_replies_are_lost(every: int) -> None:
    async def scenario() -> None:
        store = new_store()
        flaky = LosesReplies(store, every)
        with suppress(UnavailableError):
            for _ in range(9):
                await bootstrap_cluster(flaky, bootstrap_request(), SimEntropy(1))  # type: ignore[arg-type]
            pytest.fail("no reply was lost")
        born = await bootstrap_cluster(store, bootstrap_request(), SimEntropy(2))
        server_verifier(born.ca_certificate, FIRST.node_id)(born.node_certificate)

    simulate(scenario, seed=1)
