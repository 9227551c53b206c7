# SPDX-License-Identifier: Apache-2.0
"""Shared keys: one per role, with which components and administrators sign their requests.

A request carries `X-Date` (RFC 3339, seconds), `X-Data-Salt` and `Authorization: <type> <hex>`,
where the hex is HMAC-SHA256 of the key over date, method and salt. Neither path nor body is signed:
that is the interface, and the reason why the date is judged both ways and a salt counts only once
for anything that changes something (see `salts`). Use it only over TLS.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final

from metropolis.base.errors import UnauthenticatedError
from metropolis.metal.access.caller import Caller
from metropolis.metal.access.role import GROUPS, Role

TYPES: Final[Mapping[str, Role]] = {
    "Metal-View": Role.VIEW,
    "Metal-Edit": Role.EDIT,
    "Metal-Admin": Role.ADMIN,
}
LIFETIME_S: Final[Mapping[Role, float]] = {Role.VIEW: 30.0, Role.EDIT: 30.0, Role.ADMIN: 90.0}
SALT_CHARACTERS_MAX: Final = 256
_KEY_BYTES_MIN: Final = 1
_REMEDY: Final = "Sign with the key of that role, a correct clock and a new salt for every request."


@dataclass(frozen=True, slots=True, kw_only=True)
class HmacKeys:
    """The keys by role; a role without a key cannot be used.

    Attributes:
        lifetime_s: How far a date may be from ours, in either direction, by role.
    """

    keys: Mapping[Role, bytes] = field(repr=False)
    lifetime_s: Mapping[Role, float] = field(default_factory=lambda: dict(LIFETIME_S))

    def __post_init__(self) -> None:
        assert all(len(key) >= _KEY_BYTES_MIN for key in self.keys.values())
        assert all(lifetime_s > 0 for lifetime_s in self.lifetime_s.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A signature that holds.

    Attributes:
        digest: Of the signature; whoever presents it again replays a request.
        expires: When the date alone refuses it.
    """

    caller: Caller
    digest: bytes
    expires: datetime


def signature(key: bytes, *, date: str, method: str, salt: str) -> str:
    """Return the lower-case hex that `Authorization` must carry."""
    return hmac.new(key, f"{date}{method}{salt}".encode(), sha256).hexdigest()


def users(tenant: str) -> Mapping[Role, Caller]:
    """Return who signs with the key of each role."""
    return {
        role: Caller(
            email=f"{kind.lower()}@metal-stack.io",
            name=kind,
            tenant=tenant,
            groups=GROUPS[role],
            role=role,
        )
        for kind, role in TYPES.items()
    }


def verify(
    keys: HmacKeys,
    callers: Mapping[Role, Caller],
    *,
    authorization: str,
    date: str,
    salt: str,
    method: str,
    now: datetime,
) -> Proof:
    """Judge a signature.

    Raises:
        UnauthenticatedError: why it does not hold.
    """
    kind, _, given = authorization.partition(" ")
    role = TYPES[kind]
    key = keys.keys.get(role)
    if key is None:
        raise UnauthenticatedError(f"no key for {kind} is configured", remedy=_REMEDY)
    if not salt or len(salt) > SALT_CHARACTERS_MAX:
        raise UnauthenticatedError(
            f"X-Data-Salt must have 1 to {SALT_CHARACTERS_MAX} characters", remedy=_REMEDY
        )
    moment = _moment(date)
    lifetime = timedelta(seconds=keys.lifetime_s[role])
    if now - moment > lifetime:
        raise UnauthenticatedError("the timestamp in your header is too old", remedy=_REMEDY)
    if moment - now > lifetime:
        raise UnauthenticatedError("the timestamp in your header is in the future", remedy=_REMEDY)
    rendered = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    wanted = signature(key, date=rendered, method=method, salt=salt).encode()
    if not hmac.compare_digest(wanted, given.encode()):
        raise UnauthenticatedError("Wrong HMAC found", remedy=_REMEDY)
    return Proof(
        caller=callers[role],
        digest=sha256(kind.encode() + wanted).digest(),
        expires=moment + lifetime,
    )


def _moment(date: str) -> datetime:
    try:
        moment = datetime.fromisoformat(date)
        return moment.astimezone(UTC) if moment.tzinfo is not None else _refuse_date(date)
    except (ValueError, OverflowError):
        return _refuse_date(date)


def _refuse_date(date: str) -> datetime:
    raise UnauthenticatedError(
        f"X-Date {date[:64]!r} is not a date of RFC 3339 with its zone", remedy=_REMEDY
    )
