# SPDX-License-Identifier: Apache-2.0
"""Register tickets: whoever shows the cluster's ticket may ask to become a node.

On the wire and in the store a ticket is the serialized `RegisterTicket` message, 34 bytes, which
everybody but the cluster treats as opaque:

    0x0a  0x20  32 random bytes
    tag   length
"""

from dataclasses import dataclass
from typing import ClassVar, Final

from metropolis.base.errors import InvalidArgumentError
from metropolis.pki.secret import SECRET_BYTES, Secret

_HEADER: Final = bytes((0x0A, SECRET_BYTES))  # field 1, length-delimited
TICKET_BYTES: Final = len(_HEADER) + SECRET_BYTES


@dataclass(frozen=True, slots=True, eq=False)
class RegisterTicket(Secret):
    """The secret that admits machines to registration (not to the cluster: people approve)."""

    NOUN: ClassVar[str] = "a register ticket's secret"

    def to_wire(self) -> bytes:
        """Return the 34 bytes that operators and nodes pass around."""
        return _HEADER + self.data

    @classmethod
    def from_wire(cls, wire: bytes) -> "RegisterTicket":
        """Read the 34 bytes.

        Raises:
            InvalidArgumentError: they are something else. The text never quotes them.
        """
        if len(wire) != TICKET_BYTES or not wire.startswith(_HEADER):
            raise InvalidArgumentError(
                f"not a register ticket: those are {TICKET_BYTES} bytes of a certain form",
                remedy="Make new node parameters with this cluster's ticket, unchanged; "
                "GetRegisterTicket returns it.",
            )
        return cls(wire[len(_HEADER) :])

    def is_shown_by(self, wire: bytes) -> bool:
        """Tell in constant time whether a caller showed this ticket; garbage is just wrong."""
        try:
            return self == RegisterTicket.from_wire(wire)
        except InvalidArgumentError:
            return False
