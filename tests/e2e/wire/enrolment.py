# SPDX-License-Identifier: Apache-2.0
"""A machine that enrols by hand: keys, three calls, nothing behind it."""

from dataclasses import dataclass

from cryptography import x509

from e2e.wire import paths
from e2e.wire.go_certificates import Identity, new_ephemeral, node_id_of
from e2e.wire.go_client import OK, GoClient, Status
from e2e.wire.protobuf_bytes import encode
from e2e.wire.site import Site

INSECURE, ENCRYPTED, AUTHENTICATED_ENCRYPTED = 1, 2, 3
UNLOCK_KEY = bytes(range(32))


@dataclass(slots=True, kw_only=True)
class Machine:
    """What a machine holds.

    Attributes:
        node: The node's key, in the certificate that proves it.
        join: The key that its later boots show.
        certificate: Of the node, once it committed.
    """

    node: Identity
    join: Identity
    certificate: x509.Certificate | None = None

    @property
    def raw_key(self) -> bytes:
        return self.node.raw_key

    @property
    def node_id(self) -> str:
        return node_id_of(self.raw_key)

    @property
    def credentials(self) -> Identity:
        """What a member shows."""
        assert self.certificate is not None
        return Identity(key=self.node.key, certificate=self.certificate)

    def register(self, site: Site, request: bytes | None = None) -> Status:
        with site.curator(self.node) as client:
            return client.call(
                paths.REGISTER_NODE,
                register_request(site.ticket, self.join.raw_key) if request is None else request,
            )

    def commit(self, site: Site, key: bytes = UNLOCK_KEY, security: int = ENCRYPTED) -> Status:
        with site.curator(self.node) as client:
            status = client.call(paths.COMMIT_NODE, encode((1, key), (2, security)))
        if status.code == OK:
            self.certificate = x509.load_der_x509_certificate(status.only_message.data(2))
        return status

    def rejoin(self, site: Site, *, is_sealed: bool = False) -> Status:
        with site.curator(self.join) as client:
            return client.call(paths.JOIN_NODE, encode((1, int(is_sealed))) if is_sealed else b"")

    def report(self, site: Site, address: str) -> Status:
        """Tell the leader where this member is."""
        status = encode((1, address), (4, encode((1, b""))), (5, bytes(16)))
        with site.curator(self.credentials) as client:
            return client.call(paths.UPDATE_NODE_STATUS, encode((1, self.node_id), (2, status)))

    def approve(self, owner: GoClient) -> Status:
        return owner.call(paths.APPROVE_NODE, encode((1, self.raw_key)))

    def delete(self, owner: GoClient) -> None:
        """Remove it whatever it is."""
        everything = encode((2, self.node_id), (3, b""), (4, b""))
        assert owner.call(paths.DELETE_NODE, everything).code == OK


def new_machine() -> Machine:
    return Machine(node=new_ephemeral(), join=new_ephemeral())


def register_request(ticket: bytes, join_key: bytes, *more: tuple[int, int | bytes]) -> bytes:
    return encode((1, ticket), (2, join_key), *more)


def registered_node(site: Site) -> Machine:
    """A machine that waits for approval."""
    machine = new_machine()
    assert machine.register(site).code == OK
    return machine


def enrolled_node(site: Site) -> Machine:
    """A member."""
    machine = registered_node(site)
    with site.as_owner() as owner:
        assert machine.approve(owner).code == OK
    assert machine.commit(site).code == OK
    return machine
