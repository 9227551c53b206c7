# SPDX-License-Identifier: Apache-2.0
"""Users and their certificates, for the tests of the leader's handlers."""

from dataclasses import dataclass, field
from random import Random

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from metropolis.api.aaa_pb2 import EscrowRequest, EscrowResponse
from metropolis.api.users_pb2 import (
    CreateUserRequest,
    Grants,
    IssuePasswordRequest,
    ListUsersRequest,
    User,
)
from metropolis.cluster.services.aaa import escrow
from metropolis.cluster.services.users import create_user, issue_password, list_users
from metropolis.pki.keys import raw_public_key
from metropolis.rpc.peer import Peer, PeerKind
from unit.cluster.harness import OWNER, Bench, Call

Escrow = Call[EscrowRequest, EscrowResponse]
REFRESH = EscrowResponse.ProofRequest.KIND_REFRESH_CERTIFICATE
PASSWORD = EscrowResponse.ProofRequest.KIND_PLAINTEXT_PASSWORD


def key_number(number: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(Random(number).randbytes(32))


@dataclass(frozen=True, kw_only=True)
class Person:
    """Somebody with a key, who may have a certificate."""

    name: str
    key: Ed25519PrivateKey = field(default_factory=lambda: key_number(7))
    certificate: bytes = b""

    @property
    def public_key(self) -> bytes:
        return raw_public_key(self.key)

    @property
    def stranger(self) -> Peer:
        """With nothing but the key."""
        return Peer(kind=PeerKind.EPHEMERAL, public_key=self.public_key)

    @property
    def peer(self) -> Peer:
        return Peer(
            kind=PeerKind.USER,
            identity=self.name,
            public_key=self.public_key,
            certificate=self.certificate,
        )


def asking(person: Person, *, key: bytes | None = None) -> EscrowRequest:
    return EscrowRequest(
        parameters=EscrowRequest.Parameters(
            requested_identity_name=person.name, public_key=key or person.public_key
        )
    )


def showing(password: str) -> EscrowRequest:
    return EscrowRequest(proofs=EscrowRequest.Proofs(plaintext_password=password))


async def create(bench: Bench, name: str, *, by: Peer = OWNER, **granted: list[str]) -> None:
    request = CreateUserRequest(name=name, grants=Grants(**granted))
    await create_user(bench.leader, request, by)


async def password_of(bench: Bench, name: str, *, by: Peer = OWNER) -> str:
    answer = await issue_password(bench.leader, IssuePasswordRequest(user=name), by)
    return answer.password


async def log_in(bench: Bench, person: Person) -> Person:
    """Get a first certificate by a new password."""
    call = Escrow(person.stranger, asking(person), showing(await password_of(bench, person.name)))
    await escrow(bench.leader, call)
    return Person(name=person.name, key=person.key, certificate=call.sent[-1].emitted_certificate)


async def shown(bench: Bench, name: str) -> User:
    answer = await list_users(bench.leader, ListUsersRequest(), OWNER)
    (found,) = [user for user in answer.users if user.name == name]
    return found
