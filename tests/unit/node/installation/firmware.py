# SPDX-License-Identifier: Apache-2.0
"""A firmware's variables and its Secure Boot, as far as an installer meets them."""

from datetime import UTC, datetime
from functools import cache
from uuid import UUID

from kits.signer import signer
from metropolis.base.errors import FailedPreconditionError
from metropolis.formats.efi import authentication, signature_database
from metropolis.formats.efi.signature_database import EfiSignature
from metropolis.formats.efi.variables import (
    ALLOWED,
    GLOBAL,
    KEY_EXCHANGE_KEYS,
    PLATFORM_KEY,
    Attributes,
    VariableName,
)
from unit.node.installation.simulated_disk import PowerCutError

_CERTIFICATE_BYTES = 4
_TIME_BYTES = 16


class Firmware:
    """Variables that outlive a restart, and the rules of Setup Mode.

    Args:
        stays_in_setup_mode: It is broken: enrolling a PK has no effect.
        turns_on_by_itself: It enforces Secure Boot as soon as it has a PK, as most do.
    """

    def __init__(
        self, *, stays_in_setup_mode: bool = False, turns_on_by_itself: bool = True
    ) -> None:
        self.values: dict[tuple[str, str], bytes] = {
            ("SetupMode", str(GLOBAL)): b"\1",
            ("SecureBoot", str(GLOBAL)): b"\0",
        }
        self.refuses: set[str] = set()
        self.written: list[str] = []
        self.cut_at_write: int | None = None  # the power is cut instead of it, once
        self._stays = stays_in_setup_mode
        self._turns_on = turns_on_by_itself

    def read(self, name: str, guid: str = str(GLOBAL)) -> bytes | None:
        return self.values.get((name, guid))

    def write(
        self, name: str, data: bytes, guid: str = str(GLOBAL), *, attributes: int = 7
    ) -> None:
        if self.cut_at_write == len(self.written):
            self.cut_at_write = None
            raise PowerCutError
        if name in self.refuses:
            raise FailedPreconditionError(f"the firmware does not write the variable {name}")
        self.written.append(name)
        if attributes & Attributes.TIME_BASED_AUTHENTICATED_WRITE_ACCESS:
            data = self._take_update(
                name, data, is_added=bool(attributes & Attributes.APPEND_WRITE)
            )
        self.values[name, guid] = data
        if name == "PK" and not self._stays:
            self.values["SetupMode", str(GLOBAL)] = b"\0"

    def remove(self, name: str, guid: str = str(GLOBAL)) -> None:
        self.values.pop((name, guid), None)

    def names(self) -> tuple[tuple[str, str], ...]:
        return tuple(sorted(self.values))

    def restart(self) -> None:
        """Start the machine again: what it enforces was decided by then."""
        is_ready = self.read("SetupMode") == b"\0" and self._turns_on
        self.values["SecureBoot", str(GLOBAL)] = b"\1" if is_ready else b"\0"

    def holds(self, variable: VariableName) -> list[bytes]:
        value = self.read(variable.name, str(variable.vendor)) or b""
        return [each.data for each in signature_database.decode(value)]

    def _take_update(self, name: str, data: bytes, *, is_added: bool) -> bytes:
        if name == "PK":  # even in Setup Mode it must be signed by itself
            authentication.verify(PLATFORM_KEY, data, certificate_der=signer("PK").certificate_der)
        elif self.read("SetupMode") != b"\1":
            raise FailedPreconditionError(f"the firmware does not believe the signature of {name}")
        length = int.from_bytes(data[_TIME_BYTES : _TIME_BYTES + _CERTIFICATE_BYTES], "little")
        value = data[_TIME_BYTES + length :]
        signature_database.decode(value)
        variable = {"db": ALLOWED, "KEK": KEY_EXCHANGE_KEYS, "PK": PLATFORM_KEY}[name]
        before = self.read(name, str(variable.vendor)) or b""
        return before + value if is_added else value


@cache
def enrolment(owner: str = "") -> dict[str, bytes]:
    """PK.auth, KEK.auth and db.auth of a builder."""
    updates: dict[str, bytes] = {}
    for variable, by in ((PLATFORM_KEY, "PK"), (KEY_EXCHANGE_KEYS, "PK"), (ALLOWED, "KEK")):
        updates[variable.name] = authentication.authenticate(
            variable,
            certificates(f"{owner}{variable.name}"),
            time=datetime(2020, 1, 1, tzinfo=UTC),
            certificate_der=signer(f"{owner}{by}").certificate_der,
            sign=signer(f"{owner}{by}").sign,
        )
    return updates


def certificates(*names: str) -> bytes:
    """A database with the certificates of these signers."""
    return signature_database.encode(
        [
            EfiSignature(
                kind=signature_database.X509, owner=UUID(int=9), data=signer(name).certificate_der
            )
            for name in names
        ]
    )
