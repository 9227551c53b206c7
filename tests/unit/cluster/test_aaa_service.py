# SPDX-License-Identifier: Apache-2.0
"""The owner's certificate, and the order in which others are refused."""

import pytest

from metropolis.api.aaa_pb2 import EscrowRequest, EscrowResponse
from metropolis.base.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    MetropolisError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnimplementedError,
)
from metropolis.cluster.services.aaa import escrow
from metropolis.cluster.state import keys
from metropolis.consensus.store import Delete, Put
from metropolis.pki.identity import user_of, verify_signed_by
from metropolis.rpc.peer import Peer, PeerKind
from metropolis.rpc.status import NotLeaderError
from unit.cluster.harness import FIRST, OWNER_KEY, Bench, Call, run

Escrow = Call[EscrowRequest, EscrowResponse]

HOLDER = Peer(kind=PeerKind.EPHEMERAL, public_key=OWNER_KEY)
STRANGER_KEY = b"\x0f" * 32
REFRESH = EscrowResponse.ProofRequest.KIND_REFRESH_CERTIFICATE


def asking(identity: str = "owner", key: bytes = OWNER_KEY) -> EscrowRequest:
    return EscrowRequest(
        parameters=EscrowRequest.Parameters(requested_identity_name=identity, public_key=key)
    )


def test_the_owner_gets_the_same_certificate_every_time() -> None:
    async def scenario(bench: Bench) -> None:
        emitted = []
        for _ in range(3):
            call = Escrow(HOLDER, asking())
            await escrow(bench.leader, call)
            (answer,) = call.sent
            assert [proof.kind for proof in answer.fulfilled] == [REFRESH]
            assert not answer.needed
            emitted.append(answer.emitted_certificate)
        assert len(set(emitted)) == 1
        assert user_of(verify_signed_by(emitted[0], bench.born.ca_certificate)) == "owner"

    run(scenario)


@pytest.mark.parametrize(
    ("peer", "request_", "error"),
    [
        pytest.param(HOLDER, EscrowRequest(), InvalidArgumentError, id="no parameters"),
        pytest.param(HOLDER, asking(identity=""), InvalidArgumentError, id="no identity"),
        pytest.param(HOLDER, asking(key=b"short"), InvalidArgumentError, id="short key"),
        pytest.param(HOLDER, asking(key=STRANGER_KEY), UnimplementedError, id="other key"),
        pytest.param(
            Peer(kind=PeerKind.EPHEMERAL, public_key=STRANGER_KEY),
            asking(key=STRANGER_KEY),
            PermissionDeniedError,
            id="not the owner",
        ),
        pytest.param(Peer(kind=PeerKind.ANONYMOUS), asking(), UnauthenticatedError, id="anonymous"),
        pytest.param(FIRST.peer, asking(), UnauthenticatedError, id="a node"),
    ],
)
def test_everybody_else_is_refused(
    peer: Peer, request_: EscrowRequest, error: type[MetropolisError]
) -> None:
    async def scenario(bench: Bench) -> None:
        call = Escrow(peer, request_)
        with pytest.raises(error):
            await escrow(bench.leader, call)
        is_told = error is UnauthenticatedError
        assert [answer.needed[0].kind for answer in call.sent] == [REFRESH] * is_told
        assert not any(answer.emitted_certificate for answer in call.sent)

    run(scenario)


def test_a_caller_that_says_nothing_is_let_go() -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(InvalidArgumentError):
            await escrow(bench.leader, Escrow(HOLDER))
        with pytest.raises(DeadlineExceededError):
            await escrow(bench.leader, Escrow(HOLDER, ends=False))

    run(scenario)


@pytest.mark.parametrize("damage", [None, b"\xff", b"\x0a\x01x"])
def test_a_cluster_without_an_owner_says_so(damage: bytes | None) -> None:
    async def scenario(bench: Bench) -> None:
        change = Delete(keys.INITIAL_OWNER) if damage is None else Put(keys.INITIAL_OWNER, damage)
        await bench.store.transact([], [change])
        with pytest.raises(FailedPreconditionError):
            await escrow(bench.leader, Escrow(HOLDER, asking()))

    run(scenario)


def test_a_deposed_leader_issues_nothing() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.depose()
        with pytest.raises(NotLeaderError):
            await escrow(bench.leader, Escrow(HOLDER, asking()))

    run(scenario)
