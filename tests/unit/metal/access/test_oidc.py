# SPDX-License-Identifier: Apache-2.0
"""Bearer tokens of an identity provider that is asked over real HTTP."""

import asyncio
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import jwt
import pytest
from hypothesis import given, settings, strategies

from kits.oidc import CLIENT_ID, Issuer, new_key, provider
from metropolis.base.errors import UnauthenticatedError, UnavailableError
from metropolis.metal.access.caller import Caller
from metropolis.metal.access.oidc import KEYS_RETRY_S, OidcJudge
from metropolis.metal.access.role import Role
from metropolis.metal.masterdata.model import (
    TENANTS,
    IAMConfig,
    IDMConfig,
    IssuerConfig,
    Tenant,
)
from metropolis.metal.store.sqlite import SqliteStore
from metropolis.metal.web import HttpWeb, WebAnswer
from unit.metal.kit import StillClock, memory_store

Scenario = Callable[[OidcJudge, Issuer, StillClock], Awaitable[None]]


def run(scenario: Scenario, *, idm_type: str = "", url: str = "", configured: bool = True) -> None:
    async def whole(issuer: Issuer) -> None:
        clock = StillClock(datetime.fromtimestamp(int(time.time()), UTC))
        async with memory_store(clock) as store:
            if configured:
                await _configure(store, url or issuer.url, idm_type)
            judge = OidcJudge(store=store, clock=clock, web=HttpWeb(), tenant="tnnt")
            await scenario(judge, issuer, clock)

    with provider() as issuer:
        asyncio.run(whole(issuer))


async def _configure(store: SqliteStore, url: str, idm_type: str) -> None:
    iam = IAMConfig(
        issuer_config=IssuerConfig(url=url, client_id=CLIENT_ID),
        idm_config=IDMConfig(idm_type=idm_type),
    )
    await store.write(lambda tx: tx.insert(TENANTS, "tnnt", Tenant(iam_config=iam)))


async def accepted(judge: OidcJudge, token: str) -> Caller:
    caller = await judge.judge(token)
    assert caller is not None
    return caller


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512"])
def test_a_good_token_gives_its_user(algorithm: str) -> None:
    async def scenario(judge: OidcJudge, issuer: Issuer, _clock: StillClock) -> None:
        caller = await accepted(judge, issuer.token(algorithm=algorithm))
        assert (caller.email, caller.name, caller.subject) == ("ada@example.org", "ada", "42")
        assert (caller.tenant, caller.issuer, caller.role) == ("tnnt", issuer.url, Role.EDIT)
        assert caller.groups == ("maas-all-all-edit",)

    run(scenario)


def test_groups_stand_in_for_roles_and_are_read_as_the_directory_spells_them() -> None:
    async def scenario(judge: OidcJudge, issuer: Issuer, _clock: StillClock) -> None:
        names = ["tnnt_maas-all-all-admin", "other_maas-all-all-admin"]
        caller = await accepted(judge, issuer.token(without="roles", groups=names))
        assert caller.groups == ("maas-all-all-admin",)
        nobody = await accepted(judge, issuer.token(roles=["maas-all-all-admin"]))
        assert nobody.role is Role.ANY

    run(scenario, idm_type="ldap")


def test_a_token_for_another_client_is_refused() -> None:
    async def scenario(judge: OidcJudge, issuer: Issuer, _clock: StillClock) -> None:
        with pytest.raises(UnauthenticatedError, match="not for client 'metal'"):
            await judge.judge(issuer.token(aud="dashboard"))
        assert await judge.judge(issuer.token(aud=["dashboard", CLIENT_ID])) is not None

    run(scenario)


def test_dates_are_judged_by_our_clock() -> None:
    async def scenario(judge: OidcJudge, issuer: Issuer, clock: StillClock) -> None:
        now = int(clock.wall().timestamp())
        with pytest.raises(UnauthenticatedError, match="expired"):
            await judge.judge(issuer.token(exp=now - 10))
        with pytest.raises(UnauthenticatedError, match="of the future"):
            await judge.judge(issuer.token(nbf=now + 60))
        token = issuer.token(exp=now + 60)
        assert await judge.judge(token) is not None
        clock.advance(71)
        with pytest.raises(UnauthenticatedError, match="expired"):
            await judge.judge(token)

    run(scenario)


@pytest.mark.parametrize("claim", ["exp", "aud", "sub"])
def test_a_token_without_a_claim_that_matters_is_refused(claim: str) -> None:
    async def scenario(judge: OidcJudge, issuer: Issuer, _clock: StillClock) -> None:
        with pytest.raises(UnauthenticatedError, match=claim):
            await judge.judge(issuer.token(without=claim))

    run(scenario)


def test_a_key_of_somebody_else_under_a_known_name_is_refused() -> None:
    async def scenario(judge: OidcJudge, issuer: Issuer, _clock: StillClock) -> None:
        with pytest.raises(UnauthenticatedError, match="does not hold"):
            await judge.judge(issuer.token(signed_with=new_key()))

    run(scenario)


def test_algorithms_that_need_no_private_key_are_refused() -> None:
    async def scenario(judge: OidcJudge, issuer: Issuer, _clock: StillClock) -> None:
        good = jwt.decode(issuer.token(), options={"verify_signature": False})
        for token in (
            jwt.encode(good, "", algorithm="none", headers={"kid": "first"}),
            jwt.encode(good, "x" * 64, algorithm="HS256", headers={"kid": "first"}),
        ):
            with pytest.raises(UnauthenticatedError):
                await judge.judge(token)

    run(scenario)


def test_a_short_key_counts_for_nothing_even_if_it_is_published() -> None:
    async def scenario(judge: OidcJudge, issuer: Issuer, _clock: StillClock) -> None:
        issuer.keys["short"] = new_key(1024)
        with (
            pytest.warns(jwt.InsecureKeyLengthWarning),
            pytest.raises(UnauthenticatedError, match="no key we know"),
        ):
            await judge.judge(issuer.token(key="short"))

    run(scenario)


def test_keys_are_asked_for_once_and_again_for_a_new_one_but_not_often() -> None:
    async def scenario(judge: OidcJudge, issuer: Issuer, clock: StillClock) -> None:
        for _ in range(3):
            await accepted(judge, issuer.token())
        assert issuer.questions == 1
        issuer.keys["second"] = new_key()
        token = issuer.token(key="second")
        for _ in range(3):
            with pytest.raises(UnauthenticatedError, match="no key we know"):
                await judge.judge(token)
        assert issuer.questions == 1
        clock.advance(31)
        await accepted(judge, token)
        assert issuer.questions == 2
        clock.advance(1801)
        await accepted(judge, issuer.token())
        assert issuer.questions == 3

    run(scenario)


def test_known_keys_outlive_a_provider_that_is_down_and_withdrawn_ones_do_not() -> None:
    async def scenario(judge: OidcJudge, issuer: Issuer, clock: StillClock) -> None:
        token = issuer.token()
        await accepted(judge, token)
        issuer.is_broken = True
        clock.advance(1801)
        await accepted(judge, token)
        issuer.is_broken = False
        issuer.keys = {"second": new_key()}
        clock.advance(31)
        with pytest.raises(UnauthenticatedError, match="no key we know"):
            await judge.judge(token)

    run(scenario)


def test_a_provider_that_is_down_from_the_start_is_unavailable() -> None:
    async def scenario(judge: OidcJudge, issuer: Issuer, _clock: StillClock) -> None:
        issuer.is_broken = True
        for _ in range(2):
            with pytest.raises(UnavailableError):
                await judge.judge(issuer.token())

    run(scenario)


def test_a_provider_that_speaks_of_another_issuer_is_not_believed() -> None:
    async def scenario(judge: OidcJudge, issuer: Issuer, _clock: StillClock) -> None:
        issuer.claimed = "https://elsewhere.example"
        with pytest.raises(UnavailableError, match="another issuer"):
            await judge.judge(issuer.token())

    run(scenario)


def test_tokens_of_other_issuers_and_of_other_kinds_are_left_to_others() -> None:
    async def scenario(judge: OidcJudge, issuer: Issuer, _clock: StillClock) -> None:
        for token in (issuer.token(iss="https://elsewhere.example"), "a.b.c", "mtk.x.y", "", "x"):
            assert await judge.judge(token) is None
        assert issuer.questions == 0

    run(scenario)


def test_without_a_configured_issuer_no_token_is_ours() -> None:
    async def scenario(judge: OidcJudge, issuer: Issuer, _clock: StillClock) -> None:
        assert await judge.judge(issuer.token()) is None

    run(scenario, configured=False)


def _part(value: object) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


DATES = {"exp", "nbf", "iat"}  # the library refuses to sign odd ones
JSON_VALUES = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.text(),
    lambda inner: (
        strategies.lists(inner, max_size=3)
        | strategies.dictionaries(strategies.sampled_from(["exp", "aud", "kid", "x"]), inner)
    ),
    max_leaves=5,
)


MADE_UP = strategies.tuples(
    strategies.dictionaries(
        strategies.sampled_from(["alg", "kid", "typ", "crit", "b64"]), JSON_VALUES
    ),
    strategies.dictionaries(
        strategies.sampled_from(["exp", "nbf", "iat", "aud", "sub", "roles", "email"]), JSON_VALUES
    ),
    strategies.text(alphabet="abc.-_=", max_size=20),
)


@settings(max_examples=10)
@given(made_up=strategies.lists(MADE_UP, min_size=20, max_size=20))
def test_whatever_somebody_makes_up_is_refused_and_no_surprise(
    made_up: list[tuple[dict[str, object], dict[str, object], str]],
) -> None:
    async def scenario(judge: OidcJudge, issuer: Issuer, _clock: StillClock) -> None:
        for header, claims, raw in made_up:
            whole = {**claims, "iss": issuer.url}
            odd = {name: each for name, each in whole.items() if name not in DATES}
            signed = jwt.encode(odd, issuer.keys["first"], "RS256", {"kid": "first"})
            for token in (
                f"{_part(header)}.{_part(whole)}.{raw.replace('.', '')}",
                f"{_part({**header, 'alg': 'RS256', 'kid': 'first'})}.{_part(whole)}.AAAA",
                raw,
                signed,
            ):
                try:
                    caller = await judge.judge(token)
                except UnauthenticatedError:
                    continue
                assert caller is None

    run(scenario)


def test_who_shows_a_known_key_does_not_wait_for_who_shows_an_unknown_one() -> None:
    asked = asyncio.Event()

    @dataclass(frozen=True)
    class Web:
        """Asks until it is told to hang."""

        real: HttpWeb = field(default_factory=HttpWeb)
        hanging: list[bool] = field(default_factory=list[bool])

        async def head(self, url: str) -> int:
            return await self.real.head(url)

        async def get(self, url: str, *, bytes_max: int) -> WebAnswer:
            if self.hanging:
                asked.set()
                await asyncio.Event().wait()
            return await self.real.get(url, bytes_max=bytes_max)

    async def scenario(issuer: Issuer) -> None:
        clock, web = StillClock(datetime.fromtimestamp(int(time.time()), UTC)), Web()
        async with memory_store(clock) as store:
            await _configure(store, issuer.url, "")
            judge = OidcJudge(store=store, clock=clock, web=web, tenant="tnnt")
            await accepted(judge, issuer.token())
            web.hanging.append(True)
            clock.advance(KEYS_RETRY_S + 1)
            forged = issuer.token(key="unknown", signed_with=issuer.keys["first"])
            attack = asyncio.create_task(judge.judge(forged))
            await asked.wait()
            async with asyncio.timeout(5):
                await accepted(judge, issuer.token())
            attack.cancel()
            await asyncio.gather(attack, return_exceptions=True)

    with provider() as issuer:
        asyncio.run(scenario(issuer))
