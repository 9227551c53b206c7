# SPDX-License-Identifier: Apache-2.0
"""How users besides the owner get certificates, and how those are renewed."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from metropolis.api.aaa_pb2 import EscrowRequest
from metropolis.api.users_pb2 import RevokeCertificatesRequest
from metropolis.base.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    MetropolisError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnimplementedError,
)
from metropolis.cluster.services.aaa import escrow
from metropolis.cluster.services.user_escrow import KEYS_PER_USER_MAX
from metropolis.cluster.services.users import PASSWORD_ATTEMPTS, revoke_certificates
from metropolis.host.sim.clock import SimClock
from metropolis.pki.identity import user_identity
from metropolis.rpc.peer import Peer, PeerKind
from unit.cluster.accounts_kit import (
    PASSWORD,
    REFRESH,
    Escrow,
    Person,
    asking,
    create,
    key_number,
    log_in,
    password_of,
    showing,
    shown,
)
from unit.cluster.harness import FIRST, OWNER, Bench, run

ANN = Person(name="ann")


def clock_of(bench: Bench) -> SimClock:
    clock = bench.leader.own.clock
    assert isinstance(clock, SimClock)
    return clock


async def attempt(bench: Bench, password: str, person: Person = ANN) -> Escrow:
    call = Escrow(person.stranger, asking(person), showing(password))
    await escrow(bench.leader, call)
    return call


def test_a_password_gives_a_certificate_of_thirty_days() -> None:
    async def scenario(bench: Bench) -> None:
        await create(bench, "ann")
        password = await password_of(bench, "ann")
        call = await attempt(bench, password)
        asked, given = call.sent
        assert [proof.kind for proof in asked.needed] == [PASSWORD]
        assert not asked.emitted_certificate
        assert [proof.kind for proof in given.fulfilled] == [PASSWORD]
        ca, now = bench.born.ca_certificate, clock_of(bench).wall()
        certificate = given.emitted_certificate
        for days in (0, 29):
            assert user_identity(certificate, ca, now=now + timedelta(days=days)) == "ann"
        with pytest.raises(UnauthenticatedError, match="expired"):
            user_identity(certificate, ca, now=now + timedelta(days=31))
        (listed,) = (await shown(bench, "ann")).certificates
        assert listed.public_key == ANN.public_key

    run(scenario)


@pytest.mark.parametrize("spelled", [str.lower, lambda text: text.replace("-", " "), str.strip])
def test_a_password_is_read_as_people_write_it(spelled: Callable[[str], str]) -> None:
    async def scenario(bench: Bench) -> None:
        await create(bench, "ann")
        await attempt(bench, spelled(await password_of(bench, "ann")))

    run(scenario)


def test_a_password_works_once() -> None:
    async def scenario(bench: Bench) -> None:
        await create(bench, "ann")
        password = await password_of(bench, "ann")
        await attempt(bench, password)
        thief = Person(name="ann", key=key_number(9))
        with pytest.raises(PermissionDeniedError):
            await attempt(bench, password, thief)

    run(scenario)


def test_of_two_who_show_one_password_at_the_same_time_one_is_let_in() -> None:
    async def scenario(bench: Bench) -> None:
        await create(bench, "ann")
        password = await password_of(bench, "ann")
        people = [Person(name="ann", key=key_number(number)) for number in range(5)]
        outcomes = await asyncio.gather(
            *(attempt(bench, password, person) for person in people), return_exceptions=True
        )
        assert sum(not isinstance(each, Exception) for each in outcomes) == 1
        assert len((await shown(bench, "ann")).certificates) == 1

    run(scenario)


def test_a_later_password_replaces_an_earlier_one() -> None:
    async def scenario(bench: Bench) -> None:
        await create(bench, "ann")
        first = await password_of(bench, "ann")
        second = await password_of(bench, "ann")
        with pytest.raises(PermissionDeniedError):
            await attempt(bench, first)
        await attempt(bench, second)

    run(scenario)


def test_a_password_expires() -> None:
    async def scenario(bench: Bench) -> None:
        await create(bench, "ann")
        password = await password_of(bench, "ann")
        clock_of(bench).step(86_401)
        assert not (await shown(bench, "ann")).HasField("password_expires")
        with pytest.raises(PermissionDeniedError):
            await attempt(bench, password)

    run(scenario)


def test_wrong_passwords_are_counted_and_end_the_right_one() -> None:
    async def scenario(bench: Bench) -> None:
        await create(bench, "ann")
        password = await password_of(bench, "ann")
        wrong = ("B" if password[0] == "A" else "A") + password[1:]
        guesses = [attempt(bench, wrong) for _ in range(PASSWORD_ATTEMPTS)]
        outcomes = await asyncio.gather(*guesses, return_exceptions=True)
        assert all(isinstance(each, MetropolisError) for each in outcomes)
        while (await shown(bench, "ann")).HasField("password_expires"):
            with pytest.raises(PermissionDeniedError):
                await attempt(bench, wrong)
        with pytest.raises(PermissionDeniedError):
            await attempt(bench, password)

    run(scenario)


def test_nobody_learns_which_users_exist_or_wait_for_a_password() -> None:
    async def scenario(bench: Bench) -> None:
        await create(bench, "ann")
        await create(bench, "bob")
        await password_of(bench, "bob")
        answers = []
        for name in ("ann", "bob", "nobody"):
            person = Person(name=name)
            call = Escrow(person.stranger, asking(person), showing("A" * 26))
            with pytest.raises(PermissionDeniedError) as refused:
                await escrow(bench.leader, call)
            answers.append((str(refused.value), refused.value.remedy, list(call.sent)))
        assert answers[0] == answers[1] == answers[2]

    run(scenario)


def test_a_key_with_a_certificate_gets_the_next_one_without_a_password() -> None:
    async def scenario(bench: Bench) -> None:
        await create(bench, "ann")
        ann = await log_in(bench, ANN)
        clock_of(bench).step(25 * 86_400)
        call = Escrow(ann.stranger, asking(ann))
        await escrow(bench.leader, call)
        (answer,) = call.sent
        assert [proof.kind for proof in answer.fulfilled] == [REFRESH]
        assert answer.emitted_certificate != ann.certificate
        now = clock_of(bench).wall() + timedelta(days=29)
        ca = bench.born.ca_certificate
        assert user_identity(answer.emitted_certificate, ca, now=now) == "ann"

    run(scenario)


def test_renewals_leave_the_certificate_before_and_nothing_older() -> None:
    async def scenario(bench: Bench) -> None:
        await create(bench, "ann")
        await log_in(bench, ANN)
        for _ in range(3):
            await escrow(bench.leader, Escrow(ANN.stranger, asking(ANN)))
        assert len((await shown(bench, "ann")).certificates) == 2

    run(scenario)


def test_an_expired_or_revoked_key_needs_a_password_again() -> None:
    async def scenario(bench: Bench) -> None:
        await create(bench, "ann")
        await log_in(bench, ANN)
        clock_of(bench).step(31 * 86_400)
        call = Escrow(ANN.stranger, asking(ANN))
        with pytest.raises(UnauthenticatedError, match="password"):
            await escrow(bench.leader, call)
        assert [proof.kind for proof in call.sent[0].needed] == [PASSWORD]
        await log_in(bench, ANN)
        everything = RevokeCertificatesRequest(user="ann", all=RevokeCertificatesRequest.All())
        await revoke_certificates(bench.leader, everything, OWNER)
        with pytest.raises(UnauthenticatedError, match="password"):
            await escrow(bench.leader, Escrow(ANN.stranger, asking(ANN)))

    run(scenario)


@pytest.mark.parametrize(
    "peer", [Peer(kind=PeerKind.ANONYMOUS), FIRST.peer, OWNER], ids=["anonymous", "node", "owner"]
)
def test_a_key_has_to_be_proven(peer: Peer) -> None:
    async def scenario(bench: Bench) -> None:
        await create(bench, "ann")
        password = await password_of(bench, "ann")
        call = Escrow(peer, asking(ANN), showing(password))
        with pytest.raises(UnauthenticatedError, match="not proven"):
            await escrow(bench.leader, call)
        assert [proof.kind for proof in call.sent[0].needed] == [REFRESH]
        await attempt(bench, password)  # it was not used up

    run(scenario)


def test_a_certificate_is_for_the_key_of_the_connection_only() -> None:
    async def scenario(bench: Bench) -> None:
        await create(bench, "ann")
        other = Person(name="ann", key=key_number(8)).public_key
        password = await password_of(bench, "ann")
        call = Escrow(ANN.stranger, asking(ANN, key=other), showing(password))
        with pytest.raises(UnimplementedError):
            await escrow(bench.leader, call)

    run(scenario)


@pytest.mark.parametrize("second", [EscrowRequest(), asking(ANN)], ids=["empty", "parameters"])
def test_what_is_no_proof_is_refused(second: EscrowRequest) -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(InvalidArgumentError):
            await escrow(bench.leader, Escrow(ANN.stranger, asking(ANN), second))

    run(scenario)


def test_who_shows_no_password_is_let_go() -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(DeadlineExceededError):
            await escrow(bench.leader, Escrow(ANN.stranger, asking(ANN), ends=False))

    run(scenario)


def test_a_user_has_so_many_keys_and_no_more() -> None:
    async def scenario(bench: Bench) -> None:
        await create(bench, "ann")
        for number in range(KEYS_PER_USER_MAX):
            await log_in(bench, Person(name="ann", key=key_number(number)))
        with pytest.raises(ResourceExhaustedError):
            await log_in(bench, Person(name="ann", key=key_number(99)))

    run(scenario)
