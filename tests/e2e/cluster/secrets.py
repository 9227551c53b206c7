# SPDX-License-Identifier: Apache-2.0
"""Every secret of a cluster, in every spelling, and everything that people or programs may read."""

import base64
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from e2e.cluster.site import Site
from metropolis.api import private_pb2
from metropolis.api.configuration_pb2 import NodeParameters
from metropolis.api.logtree_pb2 import LogEntry
from metropolis.api.management_pb2 import Node
from metropolis.api.rpc_management import NodeManagement
from metropolis.cluster.state import keys, pki
from metropolis.consensus.etcd.store import EtcdStore
from metropolis.ctl import nodes
from metropolis.ctl.connection import Cluster
from metropolis.ctl.node_logs import Query, request_of
from metropolis.host.linux.directory import LinuxDirectory
from metropolis.lab.leftovers import find_processes
from metropolis.node.storage import NODE_KEY, PARAMETERS, SEALED_CONFIGURATION, NodeStorage
from metropolis.pki.keys import from_pkcs8_pem
from metropolis.rpc.grpc import dial_unix

_SEED_BYTES: Final = 32
_TICKET_BYTES: Final = 32  # behind the two bytes that only say so


class Vault:
    """Secrets by name. They are collected again and again, because nodes come and go."""

    def __init__(self) -> None:
        self.secrets: dict[str, bytes] = {}

    async def collect(self, site: Site) -> None:
        """Read what root can read: the disks, the operator's directory, the store."""
        self._add("owner key", site.owner_key)
        for number in site.numbers:
            await self._collect_disk(number, site.cluster.directory.storage(number))
        async with site.operator() as connection:
            ticket = await nodes.register_ticket(connection.channel)
        self._add("register ticket", ticket[-_TICKET_BYTES:])
        await self._collect_store(site, await site.leader())

    async def _collect_disk(self, number: int, storage: Path) -> None:
        disk = NodeStorage(LinuxDirectory(storage))
        if (data := await disk.read(PARAMETERS)) is not None:
            joining = NodeParameters.FromString(data).cluster_register
            if joining.register_ticket:
                self._add("register ticket", joining.register_ticket[-_TICKET_BYTES:])
        if (data := await disk.read(SEALED_CONFIGURATION)) is not None:
            sealed = private_pb2.SealedConfiguration.FromString(data)
            self._add(f"join key of machine {number}", sealed.join_key[:_SEED_BYTES])
            if sealed.node_unlock_key:
                self._add(f"unlock key of machine {number}", sealed.node_unlock_key)
        if (path := storage / NODE_KEY.path).exists():
            self._add(
                f"node key of machine {number}",
                from_pkcs8_pem(path.read_bytes()).private_bytes_raw(),
            )

    async def _collect_store(self, site: Site, number: int) -> None:
        machine = Path(f"/proc/{site.process_1(number)}/root/run/node/ephemeral")
        (socket,) = machine.rglob("client.sock*")
        channel = dial_unix(str(socket))
        try:
            for prefix in (keys.CLUSTER_PKI, keys.CONSENSUS_PKI):
                for item in (await EtcdStore(channel).range(prefix)).items:
                    name = item.key.decode(errors="replace")
                    if b"privkey" in item.key:
                        self._add(name, item.value[:_SEED_BYTES])
        finally:
            await channel.close()
        authorities = [pki.CLUSTER.key(pki.CLUSTER.ca_name), pki.CONSENSUS.key("CA")]
        assert {each.decode() for each in authorities} <= set(self.secrets), list(self.secrets)

    def _add(self, name: str, secret: bytes) -> None:
        assert len(secret) >= 16, f"{name} is too short to be looked for"
        known = [each for each in self.secrets if each.split(" #")[0] == name]
        if secret not in (self.secrets[each] for each in known):
            self.secrets[f"{name} #{len(known)}" if known else name] = secret

    def leaks(self, texts: Mapping[str, bytes]) -> list[str]:
        """Say which secret is in which text, in which spelling."""
        return [
            f"{name} as {spelling} in {where}"
            for name, secret in self.secrets.items()
            for spelling, needle in spellings(secret).items()
            for where, text in texts.items()
            if needle in text
        ]


def spellings(secret: bytes) -> Mapping[str, bytes]:
    """How a secret may be written. Base64 is cut so that it is found at the end of any message."""
    found = {
        "raw": secret,
        "hex": secret.hex().encode(),
        "HEX": secret.hex().upper().encode(),
        "repr": repr(secret)[2:-1].encode(),
    }
    for offset in range(3):  # inside of something that is base64 as a whole, like a PEM body
        cut = -(len(secret) + offset) % 3
        whole = base64.b64encode(bytes(offset) + secret + bytes(cut))
        body = whole[4 if offset else 0 : -4 if cut else None]
        found[f"base64+{offset}"] = body
        found[f"base64url+{offset}"] = body.translate(bytes.maketrans(b"+/", b"-_"))
    return found


async def readable(site: Site) -> dict[str, bytes]:
    """Collect every log and everything that a process list shows."""
    texts = {"keeper.log": site.cluster.directory.keeper_log.read_bytes()}
    for number in site.numbers:
        texts[f"console of machine {number}"] = site.printed(number).encode()
    for process_id in find_processes(site.cluster.directory):
        try:
            for name in ("cmdline", "environ"):
                path = Path(f"/proc/{process_id}/{name}")
                texts[f"{name} of process {process_id}"] = path.read_bytes()
        except OSError:
            continue  # it ended
    async with site.operator() as connection:
        for node in await nodes.list_nodes(connection.channel):
            if node.status.external_address:
                texts[f"log of {node.id}"] = await _log(connection, node)
    return texts


async def _log(connection: Cluster, node: Node) -> bytes:
    chunks: list[bytes] = []
    async with connection.dial_node(node) as channel, channel.open(NodeManagement.LOGS) as stream:
        await stream.send(request_of(Query()))
        await stream.end()
        while (response := await stream.receive()) is not None:
            chunks += _lines(response.backlog_entries)
    assert len(chunks) > 100, "the log of a node that has lived has many lines"
    return b"\n".join(chunks)


def _lines(entries: Iterable[LogEntry]) -> Iterator[bytes]:
    for entry in entries:
        texts = [entry.raw.data] if entry.HasField("raw") else entry.leveled.lines
        yield from (text.encode() for text in texts)
