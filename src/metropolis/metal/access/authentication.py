# SPDX-License-Identifier: Apache-2.0
"""Who sends a request: a component with a shared key, a user with a token, or a guest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

from metropolis.base.errors import UnauthenticatedError
from metropolis.host import Clock
from metropolis.metal.access.caller import GUEST, Caller
from metropolis.metal.access.hmac import TYPES, HmacKeys, Proof, users, verify

_BEARER: Final = "bearer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who it is, and the signature that must not count twice, if it was one."""

    caller: Caller
    proof: Proof | None = None


class BearerJudge(Protocol):
    """One kind of bearer token."""

    async def judge(self, token: str) -> Caller | None:
        """Return whose token it is, or None when it is not of this kind.

        Raises:
            UnauthenticatedError: it is of this kind, and not valid.
            UnavailableError: whoever must be asked does not answer.
        """
        ...


_AS_GUEST: Final = Identity(caller=GUEST)


class Authenticator:
    """Judges the `Authorization` header."""

    def __init__(
        self, *, clock: Clock, keys: HmacKeys, tenant: str, bearers: Sequence[BearerJudge] = ()
    ) -> None:
        self._clock = clock
        self._keys = keys
        self._users = users(tenant)
        self._bearers = tuple(bearers)

    @property
    def signature_lifetime(self) -> timedelta:
        """The longest time that a signature is good for, from the past to the future."""
        return timedelta(seconds=2 * max(self._keys.lifetime_s.values()))

    async def identify(self, headers: Mapping[bytes, bytes], method: str) -> Identity:
        """Return who sends a request; without the header it is the guest.

        Raises:
            UnauthenticatedError: the header proves nothing.
        """
        encoded = headers.get(b"authorization")
        if encoded is None:
            return _AS_GUEST
        authorization = encoded.decode("latin-1")
        kind, _, given = authorization.partition(" ")
        if kind in TYPES:
            return self._signed(authorization, headers, method)
        if kind.lower() == _BEARER:
            return Identity(caller=await self._bearer(given.strip()))
        raise UnauthenticatedError(
            "the Authorization header is of no known kind",
            remedy="Send `Bearer <token>`, or a signature as Metal-View, Metal-Edit, Metal-Admin.",
        )

    def _signed(self, authorization: str, headers: Mapping[bytes, bytes], method: str) -> Identity:
        proof = verify(
            self._keys,
            self._users,
            authorization=authorization,
            date=headers.get(b"x-date", b"").decode("latin-1"),
            salt=headers.get(b"x-data-salt", b"").decode("latin-1"),
            method=method,
            now=self._clock.wall(),
        )
        return Identity(caller=proof.caller, proof=proof)

    async def _bearer(self, token: str) -> Caller:
        for judge in self._bearers:
            caller = await judge.judge(token)
            if caller is not None:
                return caller
        raise UnauthenticatedError(
            "nobody here issued this token", remedy="Log in again, or ask for an API token."
        )
