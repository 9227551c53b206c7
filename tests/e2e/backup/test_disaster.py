# SPDX-License-Identifier: Apache-2.0
"""A cluster is backed up, loses its majority, is lost altogether, and comes back elsewhere."""

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from e2e.backup.operator import Operator, join_second, launched, new_hardware
from metropolis.api import curator_pb2
from metropolis.api.rpc_curator import Curator
from metropolis.base.errors import MetropolisError
from metropolis.base.ports import CURATOR_TCP_PORT
from metropolis.lab.cluster import LabCluster
from metropolis.lab.model import address_of
from metropolis.node.storage import CA_CERTIFICATE, ETCD, NODE_CERTIFICATE, NODE_KEY, RESTORE
from metropolis.pki import certificates, keys
from metropolis.pki.credentials import Credentials
from metropolis.pki.identity import server_verifier
from metropolis.rpc.grpc import GrpcTransport
from metropolis.rpc.transport import Endpoint

PAGE = Path(__file__).resolve().parents[3] / "docs" / "handbook" / "backup-and-disaster.md"
NODE_ID = r"metropolis-[0-9a-f]+"
BYPASS = "--bypass-has-roles --bypass-not-decommissioned --yes"


def credentials_of(cluster: LabCluster, number: int) -> tuple[Credentials, bytes]:
    """What a node of before shows, and the CA it believes in."""
    storage = cluster.directory.storage(number)
    certificate = certificates.from_pem((storage / NODE_CERTIFICATE.path).read_bytes())
    key = keys.from_pkcs8_pem((storage / NODE_KEY.path).read_bytes())
    ca = certificates.from_pem((storage / CA_CERTIFICATE.path).read_bytes())
    return Credentials(certificate=certificate, key=key), ca


async def ask_as_node(credentials: Credentials, ca: bytes, proxy: str) -> None:
    channel = GrpcTransport(proxy=proxy).dial(
        Endpoint(address_of(0), CURATOR_TCP_PORT),
        credentials=credentials,
        verify=server_verifier(ca),
    )
    try:
        await channel.call(
            Curator.GET_CONSENSUS_STATUS, curator_pb2.GetConsensusStatusRequest(), timeout_s=10
        )
    finally:
        await channel.close()


def shown_on_the_page() -> set[str]:
    """Every command that the handbook shows; one of them asks a person, who is not here."""
    text = PAGE.read_text(encoding="utf-8")
    shown = set(re.findall(r"^ *\$ (metroctl .+)$", text, re.MULTILINE))
    assert len(shown) > 10
    return shown - {f"metroctl cluster recover-quorum {address_of(2)}"}


def nodes_in(text: str) -> Sequence[str]:
    return sorted(re.findall(NODE_ID, text))


@pytest.mark.timeout(180)
def test_backup_lost_majority_and_restore_on_new_hardware(tmp_path: Path) -> None:
    operator = Operator(tmp_path)
    with launched(operator, count=3) as old:
        operator.proxy = old.rack.proxy
        _back_up(operator)
        _lose_the_majority(operator, old)
        operator.do("metroctl cluster backup fetch 1 survived.backup")
        operator.do("metroctl cluster backup verify survived.backup")
        told = operator.do("metroctl audit list --method recoverquorum -o wide").out
        assert told.count("QuorumRecovery.RecoverQuorum") == 1
        operator.do("metroctl audit verify")
        operator.do("metroctl cluster backup create after.backup")
        operator.refuses(
            "metroctl cluster restore after.backup --to early", "the cluster of this context still"
        )
        dead, ca = credentials_of(old, 0)
    _refuse_what_is_not_the_newest_whole_backup(operator)
    operator.do("metroctl cluster restore after.backup --to new-node")
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "new-node").iterdir()} == {0o600}
    with new_hardware(tmp_path, tmp_path / "new-node") as new:
        operator.proxy = new.rack.proxy
        _come_back(operator, new)
        with pytest.raises(MetropolisError, match="not admitted any more"):
            asyncio.run(ask_as_node(dead, ca, new.rack.proxy))
    assert shown_on_the_page() <= {re.sub(NODE_ID, "NODE_ID", line) for line in operator.said}


def _back_up(operator: Operator) -> None:
    operator.refuses("metroctl cluster backup create no.backup", "no recovery key")
    assert not (operator.home / "no.backup").exists()
    operator.do("metroctl cluster backup keygen")
    operator.do("metroctl cluster backup schedule --every 6h --keep 14")
    operator.wait(
        "metroctl cluster backup list -o json",
        lambda found: '"generation": "1"' in found.out and found.out.count("metropolis-") >= 1 + 3,
    )  # the leader, and the three that hold it
    operator.do("metroctl cluster backup list")
    operator.do("metroctl cluster backup fetch 1 scheduled.backup")
    operator.do("metroctl cluster backup verify scheduled.backup")
    operator.do("metroctl cluster backup create before.backup")
    verified = operator.do("metroctl cluster backup verify before.backup")
    assert "of 3 nodes came back in a rehearsal" in verified.out


def _lose_the_majority(operator: Operator, cluster: LabCluster) -> None:
    operator.refuses(f"metroctl cluster recover-quorum {address_of(2)} --yes", "nothing to recover")
    ids = nodes_in(operator.do("metroctl node list").out)

    async def kill() -> None:
        await cluster.power(0, "kill")
        await cluster.power(1, "kill")

    asyncio.run(kill())
    operator.refuses(f"metroctl cluster recover-quorum {address_of(2)}", "nobody is here")
    recovered = operator.do(f"metroctl cluster recover-quorum {address_of(2)} --yes")
    (alone,) = set(nodes_in(recovered.err))
    listed = operator.wait("metroctl node list", lambda found: len(nodes_in(found.out)) > 0)
    assert nodes_in(listed.out) == ids
    for lost in ids:
        if lost != alone:
            operator.do(f"metroctl node delete {lost} {BYPASS}")
    operator.wait("metroctl node list", lambda found: nodes_in(found.out) == [alone])
    assert not (cluster.directory.storage(2) / ETCD.path / "alone").exists()


def _refuse_what_is_not_the_newest_whole_backup(operator: Operator) -> None:
    operator.refuses("metroctl cluster restore before.backup --to x", "whatever changed in between")
    damaged = bytearray((operator.home / "after.backup").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (operator.home / "damaged.backup").write_bytes(damaged)
    operator.refuses("metroctl cluster restore damaged.backup --to x", "damaged")
    (operator.home / "cut.backup").write_bytes(damaged[: len(damaged) // 3])
    operator.refuses("metroctl cluster restore cut.backup --to x", "damaged")
    assert not (operator.home / "x").is_dir() or not (operator.home / "x" / "restore.pb").exists()


def _come_back(operator: Operator, cluster: LabCluster) -> None:
    first = operator.wait("metroctl node list", lambda found: len(nodes_in(found.out)) > 0)
    assert len(nodes_in(first.out)) == 1
    operator.do("metroctl node list")
    assert not (cluster.directory.storage(0) / RESTORE.path).exists()
    ticket = operator.do("metroctl cluster ticket").out.strip()
    (ca_path,) = operator.contexts_root.glob("contexts/*/ca.pem")
    join_second(cluster, ca_path.read_bytes(), ticket)
    waiting = operator.wait("metroctl approve", lambda found: "metropolis-" in found.out)
    (new_id,) = nodes_in(waiting.out)
    operator.do(f"metroctl approve {new_id}")
    operator.wait("metroctl node list", lambda found: found.out.count("UP") == 2)
    operator.do("metroctl cluster backup create first-after.backup")
    operator.do("metroctl cluster backup verify first-after.backup")
