# SPDX-License-Identifier: Apache-2.0
"""What a member keeps on disk: whose data it is, and that a crash anywhere leaves a way on."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from random import Random

import pytest

from metropolis.base.errors import DataLossError, FailedPreconditionError
from metropolis.base.ids import node_id_from_public_key
from metropolis.consensus.member.files import MemberFiles, Record, order_alone, wipe
from metropolis.consensus.member.start import PeerIdentity
from metropolis.host import Directory
from metropolis.host.sim.entropy import SimEntropy
from metropolis.host.sim.machine import SimHost
from metropolis.pki import certificates
from metropolis.pki.keys import from_pkcs8_pem, generate_key, raw_public_key
from metropolis.sim import simulate

KEY = generate_key(SimEntropy(1))
NODE_ID = node_id_from_public_key(raw_public_key(KEY))


def identity(*, ca: int = 7, revoked: tuple[int, ...] = (), serial: int = 3) -> PeerIdentity:
    authority = certificates.issue_etcd_ca(generate_key(SimEntropy(ca)), serial=1)
    return PeerIdentity(
        ca_certificate=authority.certificate,
        certificate=certificates.issue_etcd_peer(authority, raw_public_key(KEY), serial=serial),
        initial_crl=certificates.build_crl(authority, revoked, number=len(revoked) + 1),
        key=KEY,
    )


def machine() -> SimHost:
    return SimHost("n1", rng=Random(1), addresses=["10.0.0.1"])


def on_disk(scenario: Callable[[Directory, MemberFiles], Awaitable[None]]) -> None:
    async def run() -> None:
        storage = machine().boot().storage
        await scenario(storage, MemberFiles(storage, root="data/etcd"))

    simulate(run, seed=1)


def test_keys_are_written_as_etcd_reads_them_and_the_crl_in_der() -> None:
    async def scenario(storage: Directory, files: MemberFiles) -> None:
        wanted = identity()
        await files.write_identity(wanted)
        names = [await storage.list(path) for path in ("data/etcd", "data/etcd/peer_pki")]
        assert names == [("peer_crl", "peer_pki"), ("ca.pem", "cert-key.pem", "cert.pem")]
        key = from_pkcs8_pem(await storage.read("data/etcd/peer_pki/cert-key.pem"))
        assert raw_public_key(key) == raw_public_key(KEY)
        assert await storage.read("data/etcd/peer_crl") == wanted.initial_crl
        assert await files.ca_fingerprint() == certificates.fingerprint(wanted.ca_certificate)

    on_disk(scenario)


def test_a_newer_crl_on_disk_is_kept_until_the_ca_changes() -> None:
    async def scenario(storage: Directory, files: MemberFiles) -> None:
        await files.write_identity(identity())
        newer = identity(revoked=(5,)).initial_crl
        assert await files.write_crl(newer)
        assert not await files.write_crl(newer)
        await files.write_identity(identity(serial=4))
        assert await storage.read("data/etcd/peer_crl") == newer
        other = identity(ca=8)
        await files.write_identity(other)
        assert await storage.read("data/etcd/peer_crl") == other.initial_crl

    on_disk(scenario)


def test_data_of_another_node_or_cluster_is_refused_with_a_remedy() -> None:
    async def scenario(_storage: Directory, files: MemberFiles) -> None:
        record = Record(node_id=NODE_ID, ca="SHA256:aa")
        await files.write_record(record)
        assert await files.read_record() == record
        files.check_owner(record, node_id=NODE_ID, ca="SHA256:aa")
        files.check_owner(record, node_id=NODE_ID, ca=None)
        with pytest.raises(FailedPreconditionError, match="another cluster") as caught:
            files.check_owner(record, node_id=NODE_ID, ca="SHA256:bb")
        assert "ConsensusMember" in caught.value.remedy
        stranger = node_id_from_public_key(b"\1" * 32)
        with pytest.raises(FailedPreconditionError, match=NODE_ID):
            files.check_owner(record, node_id=stranger, ca="SHA256:aa")

    on_disk(scenario)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b'{"node_id": "x"}', b"\xff", b"{}"])
def test_a_damaged_record_is_data_loss_not_a_crash(text: bytes) -> None:
    async def scenario(storage: Directory, files: MemberFiles) -> None:
        await storage.write("data/etcd/member.json", text)
        with pytest.raises(DataLossError, match="damaged"):
            await files.read_record()

    on_disk(scenario)


def test_wiping_forgets_whose_data_it_was_before_the_data_is_gone() -> None:
    """The other order, cut by a crash, would leave a record of data that was lost."""

    async def scenario(seed: int) -> tuple[bool, bool]:
        box = SimHost("n1", rng=Random(seed), addresses=["10.0.0.1"])
        storage = box.boot().storage
        files = MemberFiles(storage, root="etcd")
        await files.write_record(Record(node_id=NODE_ID, ca="SHA256:aa"))
        await storage.write("etcd/data/member/wal/0.wal", b"log")
        box.disk.latency_s = (1.0, 1.0)
        wiping = asyncio.create_task(files.wipe_data())
        await asyncio.sleep(seed * 0.25)
        box.crash()
        await asyncio.wait([wiping])
        wiping.exception()
        box.disk.latency_s = (0.0, 0.0)
        files = MemberFiles(box.boot().storage, root="etcd")
        return await files.read_record() is not None, await files.has_data()

    outcomes = {simulate(lambda n=n: scenario(n), seed=n) for n in range(12)}  # type: ignore[misc]
    assert outcomes == {(True, True), (False, True), (False, False)}


def test_a_wiped_member_leaves_nothing() -> None:
    async def scenario(storage: Directory, files: MemberFiles) -> None:
        await files.write_identity(identity())
        await storage.write("data/etcd/data/member/wal/0.wal", b"log")
        assert await files.has_data()
        await wipe(storage, root="data/etcd")
        assert not await storage.exists("data/etcd")
        await wipe(storage, root="data/etcd")

    on_disk(scenario)


def test_the_record_is_json_that_names_node_and_ca() -> None:
    async def scenario(storage: Directory, files: MemberFiles) -> None:
        await files.write_record(Record(node_id=NODE_ID, ca="SHA256:aa"))
        text = await storage.read("data/etcd/member.json")
        assert json.loads(text) == {"node_id": NODE_ID, "ca": "SHA256:aa"}

    on_disk(scenario)


def test_an_order_to_be_alone_is_for_one_start_and_dies_with_the_data() -> None:
    async def scenario(storage: Directory, files: MemberFiles) -> None:
        assert not await files.is_to_be_alone()
        await order_alone(storage, root="data/etcd")
        assert await files.is_to_be_alone()
        await files.is_alone_now()
        assert not await files.is_to_be_alone()
        await files.order_alone()
        await files.wipe_data()
        assert not await files.is_to_be_alone()

    on_disk(scenario)
