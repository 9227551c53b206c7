# SPDX-License-Identifier: Apache-2.0
"""The ticket that machines register with: who holds an old one, or guesses, gets nowhere."""

import pytest

from metropolis.api.curator_pb2 import RegisterNodeRequest
from metropolis.api.decommission_pb2 import RotateRegisterTicketRequest
from metropolis.api.management_pb2 import ApproveNodeRequest, GetRegisterTicketRequest
from metropolis.base.errors import FailedPreconditionError, PermissionDeniedError
from metropolis.cluster.lifecycle import NodeState
from metropolis.cluster.services.enrolment import commit_node, register_node
from metropolis.cluster.services.management import approve_node, get_register_ticket
from metropolis.cluster.services.tickets import rotate_register_ticket
from metropolis.cluster.state import keys
from metropolis.rpc.peer import Peer, PeerKind
from metropolis.rpc.status import ThrottledError
from metropolis.rpc.throttle import WRONG_TICKETS
from unit.cluster.harness import OWNER, Bench, Machine, commit_request, machine, run

NEW, OTHER = machine(2), machine(3)


async def rotate(bench: Bench) -> bytes:
    answer = await rotate_register_ticket(bench.leader, RotateRegisterTicketRequest(), OWNER)
    return answer.ticket


async def ticket_of(bench: Bench) -> bytes:
    return (await get_register_ticket(bench.leader, GetRegisterTicketRequest(), OWNER)).ticket


def request_with(ticket: bytes, who: Machine) -> RegisterNodeRequest:
    return RegisterNodeRequest(register_ticket=ticket, join_key=who.join_key, have_local_tpm=True)


def test_the_old_ticket_dies_at_once_and_the_new_one_admits() -> None:
    async def scenario(bench: Bench) -> None:
        old = await ticket_of(bench)
        new = await rotate(bench)
        assert new == await ticket_of(bench) != old
        with pytest.raises(PermissionDeniedError, match="registerticket invalid"):
            await register_node(bench.leader, request_with(old, NEW), NEW.stranger)
        await register_node(bench.leader, request_with(new, NEW), NEW.stranger)
        assert await rotate(bench) != new

    run(scenario)


def test_a_ticket_can_be_made_by_replacing_none() -> None:
    async def scenario(bench: Bench) -> None:
        assert await bench.raw(keys.REGISTER_TICKET) is None
        assert await rotate(bench) == await ticket_of(bench)

    run(scenario)


def test_machines_that_have_registered_are_approved_and_commit_as_if_nothing_had_happened() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.register(NEW)
        await rotate(bench)
        await approve_node(bench.leader, ApproveNodeRequest(pubkey=NEW.key), OWNER)
        await rotate(bench)
        await commit_node(bench.leader, commit_request(NEW), NEW.stranger)
        assert (await bench.leader.load(NEW.node_id)).state is NodeState.UP

    run(scenario)


@pytest.mark.parametrize("is_approved", [False, True])
def test_a_registration_whose_reply_was_lost_may_be_repeated_with_its_old_ticket(
    is_approved: bool,
) -> None:
    async def scenario(bench: Bench) -> None:
        request = await bench.register_request(NEW)
        first = await register_node(bench.leader, request, NEW.stranger)
        if is_approved:
            await approve_node(bench.leader, ApproveNodeRequest(pubkey=NEW.key), OWNER)
        await rotate(bench)
        before = await bench.raw(keys.node(NEW.node_id))
        assert await register_node(bench.leader, request, NEW.stranger) == first
        assert await bench.raw(keys.node(NEW.node_id)) == before
        changed = request_with(request.register_ticket, OTHER)  # the same machine, another key
        with pytest.raises(PermissionDeniedError):
            await register_node(bench.leader, changed, NEW.stranger)

    run(scenario)


def test_a_member_does_not_register_again_with_an_old_ticket() -> None:
    async def scenario(bench: Bench) -> None:
        request = await bench.register_request(NEW)
        await bench.enrol(NEW)
        with pytest.raises(FailedPreconditionError):
            await register_node(bench.leader, request, NEW.stranger)
        await rotate(bench)
        with pytest.raises(PermissionDeniedError):
            await register_node(bench.leader, request, NEW.stranger)

    run(scenario)


def test_a_registration_under_way_does_not_outlive_its_ticket() -> None:
    """The ticket is replaced after it was judged, and before the record is written."""

    async def scenario(bench: Bench) -> None:
        request = await bench.register_request(NEW)
        save, rotations = bench.leader.save, 0

        async def late(*arguments: object) -> None:
            nonlocal rotations
            rotations += 1
            await rotate(bench)
            await save(*arguments)  # type: ignore[arg-type]  # as it was called

        bench.leader.save = late  # type: ignore[method-assign,assignment]
        with pytest.raises(PermissionDeniedError, match="registerticket invalid"):
            await register_node(bench.leader, request, NEW.stranger)
        assert rotations == 1
        assert await bench.leader.find(NEW.node_id) is None

    run(scenario)


def test_guessing_is_slowed_at_one_address_and_nobody_elsewhere_notices() -> None:
    async def scenario(bench: Bench) -> None:
        right = await ticket_of(bench)
        guesser = Peer(kind=PeerKind.EPHEMERAL, public_key=OTHER.key, address="203.0.113.7")
        elsewhere = Peer(kind=PeerKind.EPHEMERAL, public_key=NEW.key, address="203.0.113.8")
        wrong = request_with(right[:-1] + bytes([right[-1] ^ 1]), OTHER)
        for _ in range(int(WRONG_TICKETS.burst)):
            with pytest.raises(PermissionDeniedError):
                await register_node(bench.leader, wrong, guesser)
        for request in (wrong, request_with(right, OTHER)):
            with pytest.raises(ThrottledError, match="wrong tickets") as caught:
                await register_node(bench.leader, request, guesser)
            assert caught.value.remedy.startswith("Try again in ")
        assert await bench.leader.find(OTHER.node_id) is None
        await register_node(bench.leader, request_with(right, NEW), elsewhere)

    run(scenario)


def test_right_tickets_are_not_counted() -> None:
    async def scenario(bench: Bench) -> None:
        right = await ticket_of(bench)
        for number in range(10, 10 + 2 * int(WRONG_TICKETS.burst)):
            each = machine(number)
            peer = Peer(kind=PeerKind.EPHEMERAL, public_key=each.key, address="203.0.113.7")
            await register_node(bench.leader, request_with(right, each), peer)

    run(scenario)
