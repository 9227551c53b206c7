# SPDX-License-Identifier: Apache-2.0
"""The signature that clients of masterdata put into a call's metadata, inside of mutual TLS.

Names and rule are those of the REST interface; the method is the word `GRPC`, the type `tmdm`, and
a signature is worth 15 seconds. Whoever could replay one would have to be inside the TLS
connection.
"""

import hmac
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final

from metropolis.api.methods import Method
from metropolis.base.errors import UnauthenticatedError
from metropolis.host import Clock, Entropy
from metropolis.rpc.grpc.mutual import CertificateAuthenticator
from metropolis.rpc.peer import Peer

TYPE: Final = "tmdm"
METHOD: Final = "GRPC"
LIFETIME: Final = timedelta(seconds=15)
_REMEDY: Final = "Sign with the key of masterdata and a correct clock."
_LETTERS: Final = string.ascii_letters
_SALT_LETTERS: Final = 24
_SALT_CHARACTERS_MAX: Final = 256


def signature(key: bytes, *, date: str, salt: str) -> str:
    """Return the lower-case hex that `authorization` must carry."""
    return hmac.new(key, f"{date}{METHOD}{salt}".encode(), sha256).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Makes metadata for a client."""

    key: bytes = field(repr=False)
    clock: Clock
    entropy: Entropy

    def metadata(self) -> Mapping[str, str]:
        """Return what one call must carry."""
        date = self.clock.wall().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        salt = "".join(
            _LETTERS[byte % len(_LETTERS)] for byte in self.entropy.token_bytes(_SALT_LETTERS)
        )
        return {
            "x-date": date,
            "x-data-salt": salt,
            "authorization": f"{TYPE} {signature(self.key, date=date, salt=salt)}",
        }


class SignatureAuthenticator(CertificateAuthenticator):
    """Admits whoever has a certificate of the authority and signs with the key."""

    def __init__(self, *, key: bytes, clock: Clock) -> None:
        assert key, "an empty key would be everybody's"
        self._key = key
        self._clock = clock

    def judge_metadata(
        self, method: Method[Any, Any], metadata: Mapping[str, str], peer: Peer
    ) -> None:
        """Judge the signature of a call.

        Raises:
            UnauthenticatedError: why it does not hold.
        """
        del method, peer
        kind, _, given = metadata.get("authorization", "").partition(" ")
        date, salt = metadata.get("x-date", ""), metadata.get("x-data-salt", "")
        if kind != TYPE or not given:
            raise UnauthenticatedError(
                f"authorization in the metadata must be {TYPE!r} and a signature", remedy=_REMEDY
            )
        if not 0 < len(salt) <= _SALT_CHARACTERS_MAX:
            raise UnauthenticatedError("x-data-salt is missing or too long", remedy=_REMEDY)
        moment = _moment(date)
        if abs(self._clock.wall() - moment) > LIFETIME:
            raise UnauthenticatedError(
                "x-date in the metadata is too old or in the future", remedy=_REMEDY
            )
        rendered = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        wanted = signature(self._key, date=rendered, salt=salt)
        if not hmac.compare_digest(wanted.encode(), given.encode()):
            raise UnauthenticatedError("the signature does not hold", remedy=_REMEDY)


def _moment(date: str) -> datetime:
    try:
        moment = datetime.fromisoformat(date)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise UnauthenticatedError("x-date in the metadata is no date with its zone", remedy=_REMEDY)
