# SPDX-License-Identifier: Apache-2.0
"""A cluster to try foreign clients on: real machines, founded from hand-written parameters."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from e2e.wire import paths
from e2e.wire.go_certificates import Identity, new_ephemeral, raw_public_key
from e2e.wire.go_client import OK, UNAVAILABLE, GoClient, Status, dialled
from e2e.wire.go_tls import Address, RefusedError
from e2e.wire.protobuf_bytes import encode
from metropolis.lab.cluster import LabCluster
from metropolis.lab.state import ClusterDirectory

UP_TIMEOUT_S: Final = 40.0
OWNER: Final = "owner"
FOUNDER_LABELS: Final = {"rack": "7", "example.com/zone": "a"}
BEST_EFFORT: Final = 2
PERMISSIVE: Final = 1


class Site:
    """The cluster, and the owner's key.

    Attributes:
        owner_key: As `metroctl install` makes it, in the certificate that proves it.
    """

    def __init__(self, cluster: LabCluster, owner_key: Identity) -> None:
        self.cluster = cluster
        self.owner_key = owner_key

    @cached_property
    def proxy_tcp_port(self) -> int:
        return self.cluster.rack.proxy_tcp_port

    def address(self, tcp_port: int = paths.CURATOR_TCP_PORT, *, number: int = 0) -> Address:
        """Where a service of a node is."""
        return Address(
            host=f"10.1.0.{2 + number}", tcp_port=tcp_port, proxy_tcp_port=self.proxy_tcp_port
        )

    def boots(self, number: int = 0) -> int:
        """How often a machine was started; more than once means that it crashed."""
        return asyncio.run(self.cluster.status())[number].boots

    @contextmanager
    def curator(self, identity: Identity | None, *, number: int = 0) -> Iterator[GoClient]:
        """Talk to the control plane's port."""
        with dialled(self.address(number=number), identity) as client:
            yield client

    @contextmanager
    def as_owner(self, tcp_port: int = paths.CURATOR_TCP_PORT) -> Iterator[GoClient]:
        """Talk to a port with the owner's certificate, and see that it is a node's."""
        with dialled(self.address(tcp_port), self.owner) as client:
            client.expect_node(self.ca)
            yield client

    @cached_property
    def ca(self) -> x509.Certificate:
        """The cluster's CA, trusted on first use."""
        with self.curator(self.owner_key) as client:
            answer = client.call(paths.GET_CA_CERTIFICATE).only_message
        return x509.load_der_x509_certificate(answer.data(1))

    @cached_property
    def owner(self) -> Identity:
        """The owner with the certificate that escrow gives."""
        with self.curator(self.owner_key) as client:
            answer = escrow(client, escrow_request(self.owner_key.raw_key)).only_message
        return self.owner_key.with_certificate(answer.data(3))

    @cached_property
    def node_id(self) -> str:
        """Of the founder."""
        with self.curator(None) as client:
            return client.expect_node(self.ca)

    @cached_property
    def ticket(self) -> bytes:
        """What shows that a machine may register."""
        with self.as_owner() as client:
            return client.call(paths.GET_REGISTER_TICKET).only_message.data(1)


def escrow_request(public_key: bytes, name: str = OWNER) -> bytes:
    return encode((1, encode((1, name), (2, public_key))))


def escrow(client: GoClient, *requests: bytes) -> Status:
    """Ask for a certificate as RetrieveOwnerCertificate does, which never closes its side."""
    stream = client.open(paths.ESCROW)
    for request in requests:
        stream.send(request)
    return stream.status()


def founding_parameters(owner_public_key: bytes) -> bytes:
    """NodeParameters that found a cluster."""
    configuration = encode((4, "cluster.internal"), (1, BEST_EFFORT), (2, PERMISSIVE))
    labels = encode(*((1, encode((1, key), (2, value))) for key, value in FOUNDER_LABELS.items()))
    return encode((1, encode((1, owner_public_key), (3, configuration), (4, labels))))


def joining_parameters(ca: x509.Certificate, ticket: bytes, host: str) -> bytes:
    """NodeParameters that register with a cluster."""
    node = encode((2, encode((1, host))))
    der = ca.public_bytes(Encoding.DER)
    return encode((2, encode((1, encode((1, node))), (2, ticket), (3, der))))


def write_parameters(cluster: LabCluster, number: int, parameters: bytes) -> None:
    path = cluster.directory.storage(number) / "esp" / "metropolis" / "parameters.pb"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_bytes(parameters)


@contextmanager
def founded_site(path: Path, *, count: int = 1) -> Iterator[Site]:
    """Run a rack whose first machine founds a cluster; the others wait for their parameters."""
    cluster = LabCluster(ClusterDirectory(path / "wire"), dies_with_us=True)
    cluster.create(count=count, proxy_tcp_port=0)
    owner_key = new_ephemeral()
    write_parameters(cluster, 0, founding_parameters(raw_public_key(owner_key.certificate)))
    try:
        cluster.start()
        site = Site(cluster, owner_key)
        wait_leading(site)
        wait_healthy(site)
        yield site
    finally:
        asyncio.run(cluster.destroy())


def wait_leading(site: Site, *, number: int = 0) -> None:
    """Wait until a node says who leads, and that one answers."""
    deadline_s = time.monotonic() + UP_TIMEOUT_S
    while True:
        try:
            with site.curator(site.owner_key, number=number) as client:
                stream = client.begin(paths.GET_CURRENT_LEADER)
                stream.receive()
                status = escrow(client, escrow_request(site.owner_key.raw_key))
                if status.code == OK:
                    return
                assert status.code == UNAVAILABLE, status
        except (RefusedError, AssertionError, OSError) as error:
            last = repr(error)
        else:
            last = status.text
        if time.monotonic() > deadline_s:
            console = "\n".join(site.cluster.console(number, lines=60))
            raise AssertionError(f"the cluster did not come up: {last}\n{console}")
        time.sleep(0.05)


def wait_healthy(site: Site) -> None:
    """Wait until the founder has told the leader about itself, running curator included."""
    ready = "node.health == HEALTH_HEALTHY && node.status.running_curator.port == 7835"
    deadline_s = time.monotonic() + UP_TIMEOUT_S
    with site.as_owner() as client:
        while not client.call(paths.GET_NODES, encode((1, ready))).messages:
            assert time.monotonic() < deadline_s, "the founder never became healthy"
            time.sleep(0.05)
