# SPDX-License-Identifier: Apache-2.0
"""Users of an identity provider: their bearer tokens, judged by the keys that it publishes.

    token ─ its issuer ─ is it the provider tenant's? ─ keys (discovery, kept) ─ signature
          ─ audience, dates ─ groups ─ role

Only RSA signatures are taken. A token that names a key we have not seen makes us ask again, but
not more often than every half minute, whoever sends such tokens.
"""

import asyncio
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import RSAAlgorithm

from metropolis.base.errors import MetropolisError, UnauthenticatedError, UnavailableError
from metropolis.host import Clock
from metropolis.metal.access.caller import Caller
from metropolis.metal.access.groups import access_of
from metropolis.metal.access.role import role_of
from metropolis.metal.masterdata.model import TENANTS, IAMConfig, Tenant
from metropolis.metal.store import Reader, Store, Stored
from metropolis.metal.web import Web

ALGORITHMS: Final = ("RS256", "RS384", "RS512")
KEYS_S: Final = 1800.0  # that keys are used before they are asked for again
KEYS_RETRY_S: Final = 30.0  # between questions, when a token names an unknown key
CONFIGURATION_S: Final = 30.0  # that the tenant's configuration is used before it is read again
LEEWAY_S: Final = 10.0  # that clocks may differ
DOCUMENT_BYTES_MAX: Final = 1 << 20
TOKEN_CHARACTERS_MAX: Final = 32 * 1024
KEY_BITS_MIN: Final = 2048
_GROUPS_MAX: Final = 10_000
_AGAIN: Final = "Log in again."
_CHECK_ISSUER: Final = "Check the issuer in the IAM configuration of the provider tenant."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Issuer:
    url: str
    client_id: str
    idm_type: str


@dataclass(slots=True, kw_only=True)
class _Keys:
    """What one issuer publishes.

    Attributes:
        by_id: Key and the algorithms it is for.
        asked_s: Monotonic time of the last question, answered or not.
        known_s: Monotonic time of the last answer.
    """

    by_id: dict[str, tuple[RSAPublicKey, tuple[str, ...]]] = field(
        default_factory=dict[str, tuple[RSAPublicKey, tuple[str, ...]]]
    )
    asked_s: float = float("-inf")
    known_s: float = float("-inf")
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class OidcJudge:
    """Judges tokens of the issuer that the provider tenant's IAM configuration names."""

    def __init__(self, *, store: Store, clock: Clock, web: Web, tenant: str) -> None:
        self._store = store
        self._clock = clock
        self._web = web
        self._tenant = tenant
        self._issuer: _Issuer | None = None
        self._issuer_read_s = float("-inf")
        self._keys: dict[str, _Keys] = {}

    async def judge(self, token: str) -> Caller | None:
        """Return whose token it is, or None when it is not of our issuer.

        Raises:
            UnauthenticatedError: it is, and does not hold.
            UnavailableError: the issuer's keys cannot be had.
        """
        if token.count(".") != 2 or len(token) > TOKEN_CHARACTERS_MAX:  # noqa: PLR2004  # of a JWS
            return None
        issuer = await self._configured()
        if issuer is None or not _same_url(_claimed_issuer(token), issuer.url):
            return None
        claims = await self._verified(token, issuer)
        return self._caller(claims, issuer)

    async def _configured(self) -> _Issuer | None:
        now_s = self._clock.monotonic_s()
        if now_s - self._issuer_read_s < CONFIGURATION_S:
            return self._issuer

        async def view(reader: Reader) -> Stored[Tenant] | None:
            return await reader.lookup(TENANTS, self._tenant)

        found = await self._store.read(view)
        self._issuer = _issuer(found.value.iam_config) if found is not None else None
        self._issuer_read_s = now_s
        return self._issuer

    async def _verified(self, token: str, issuer: _Issuer) -> Mapping[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
            key, algorithms = await self._key(issuer, str(header.get("kid") or ""))
            claims = jwt.decode(
                token,
                key,
                algorithms=list(algorithms),
                audience=issuer.client_id,
                options={
                    "require": ["exp", "iss", "aud", "sub"],
                    # By our own clock, below.
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except jwt.InvalidAudienceError:
            raise UnauthenticatedError(
                f"the token is not for client {issuer.client_id!r}", remedy=_AGAIN
            ) from None
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as cause:
            raise UnauthenticatedError(f"the token does not hold: {cause}", remedy=_AGAIN) from None
        self._check_dates(claims)
        return claims

    def _check_dates(self, claims: Mapping[str, Any]) -> None:
        now_s = self._clock.wall().timestamp()
        if _seconds(claims, "exp") + LEEWAY_S <= now_s:
            raise UnauthenticatedError("the token has expired", remedy=_AGAIN)
        for name in ("nbf", "iat"):
            if name in claims and _seconds(claims, name) - LEEWAY_S > now_s:
                raise UnauthenticatedError(
                    "the token is of the future", remedy="Check the clocks, then log in again."
                )

    async def _key(self, issuer: _Issuer, key_id: str) -> tuple[RSAPublicKey, tuple[str, ...]]:
        keys = self._keys.setdefault(issuer.url, _Keys())
        known = keys.by_id.get(key_id)
        if known is not None and self._clock.monotonic_s() - keys.known_s < KEYS_S:
            return known  # not behind who waits for an answer about a key that he made up
        async with keys.lock:
            now_s = self._clock.monotonic_s()
            is_old = now_s - keys.known_s >= KEYS_S
            if (is_old or key_id not in keys.by_id) and now_s - keys.asked_s >= KEYS_RETRY_S:
                keys.asked_s = now_s
                try:
                    keys.by_id = await self._ask(issuer)
                    keys.known_s = self._clock.monotonic_s()
                except MetropolisError:
                    if key_id not in keys.by_id:
                        raise
            found = keys.by_id.get(key_id)
        if found is None:
            if keys.known_s == float("-inf"):
                raise UnavailableError(
                    f"the keys of {issuer.url} cannot be had", remedy="Try again in half a minute."
                )
            raise UnauthenticatedError("the token is signed with no key we know", remedy=_AGAIN)
        return found

    async def _ask(self, issuer: _Issuer) -> dict[str, tuple[RSAPublicKey, tuple[str, ...]]]:
        place = f"{issuer.url.rstrip('/')}/.well-known/openid-configuration"
        discovered = await self._document(place)
        if not _same_url(str(discovered.get("issuer") or ""), issuer.url):
            raise UnavailableError(f"{place} speaks of another issuer", remedy=_CHECK_ISSUER)
        keys_at = str(discovered.get("jwks_uri") or "")
        if issuer.url.startswith("https://") and not keys_at.startswith("https://"):
            raise UnavailableError(f"{place} names no https jwks_uri", remedy=_CHECK_ISSUER)
        listed = (await self._document(keys_at)).get("keys")
        found: dict[str, tuple[RSAPublicKey, tuple[str, ...]]] = {}
        for entry in cast("list[object]", listed) if isinstance(listed, list) else []:
            if isinstance(entry, dict):
                published = cast("dict[str, Any]", entry)
                usable = _usable(published)
                if usable is not None:
                    found[str(published.get("kid") or "")] = usable
        return found

    async def _document(self, url: str) -> dict[str, Any]:
        answer = await self._web.get(url, bytes_max=DOCUMENT_BYTES_MAX)
        if answer.status != 200:  # noqa: PLR2004  # OK
            raise UnavailableError(f"{url} answered {answer.status}", remedy=_CHECK_ISSUER)
        try:
            return msgspec.json.decode(answer.body, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise UnavailableError(f"{url} is not JSON", remedy=_CHECK_ISSUER) from None

    def _caller(self, claims: Mapping[str, Any], issuer: _Issuer) -> Caller:
        listed: object = claims.get("roles") or claims.get("groups")
        names = cast("list[object]", listed)[:_GROUPS_MAX] if isinstance(listed, list) else []
        groups = access_of(
            (name for name in names if isinstance(name, str)),
            idm_type=issuer.idm_type,
            tenant=self._tenant,
        )
        subject = str(claims["sub"])
        return Caller(
            email=str(claims.get("email") or subject),
            name=str(claims.get("preferred_username") or claims.get("name") or subject),
            tenant=self._tenant,
            issuer=str(claims["iss"]),
            subject=subject,
            groups=groups,
            role=role_of(groups),
        )


def _issuer(configuration: IAMConfig | None) -> _Issuer | None:
    if configuration is None or configuration.issuer_config is None:
        return None
    issuer = configuration.issuer_config
    if not issuer.url or not issuer.client_id:
        return None
    idm = configuration.idm_config
    return _Issuer(
        url=issuer.url,
        client_id=issuer.client_id,
        idm_type=idm.idm_type if idm is not None else "",
    )


def _claimed_issuer(token: str) -> str:
    """Return what an unverified token says; only to find out who must verify it."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):  # whatever somebody made up
        return ""
    return str(claims.get("iss") or "")


def _same_url(one: str, other: str) -> bool:
    return hmac.compare_digest(one.rstrip("/").encode(), other.rstrip("/").encode())


def _usable(entry: dict[str, Any]) -> tuple[RSAPublicKey, tuple[str, ...]] | None:
    """Return a published key and what it is for, or None when it is none for signatures."""
    if entry.get("kty") != "RSA" or entry.get("use", "sig") != "sig":
        return None
    try:
        key = RSAAlgorithm.from_jwk(entry)
    except (jwt.PyJWTError, ValueError):
        return None
    if not isinstance(key, RSAPublicKey) or key.key_size < KEY_BITS_MIN:
        return None
    named = entry.get("alg")
    if named is None:
        return key, ALGORITHMS
    return (key, (str(named),)) if named in ALGORITHMS else None


def _seconds(claims: Mapping[str, Any], name: str) -> float:
    try:
        return float(claims[name])
    except (TypeError, ValueError, OverflowError):
        raise UnauthenticatedError(f"{name} of the token is no date", remedy=_AGAIN) from None
