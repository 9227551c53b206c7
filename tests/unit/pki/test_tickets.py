# SPDX-License-Identifier: Apache-2.0
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.api.storage_pb2 import RegisterTicket as RegisterTicketMessage
from metropolis.base.errors import InvalidArgumentError
from metropolis.pki.tickets import RegisterTicket

SECRETS = st.binary(min_size=32, max_size=32)


class SeededEntropy:
    def token_bytes(self, count: int) -> bytes:
        return random.Random(7).randbytes(count)

    def jitter(self) -> random.Random:
        return random.Random(7)


@given(SECRETS)
def test_the_wire_form_is_the_message_that_the_store_keeps(secret: bytes) -> None:
    wire = RegisterTicket(secret).to_wire()
    assert wire == RegisterTicketMessage(opaque=secret).SerializeToString()
    assert len(wire) == 34
    assert RegisterTicket.from_wire(wire).data == secret


def test_a_new_ticket_is_drawn_from_the_entropy() -> None:
    ticket = RegisterTicket.generate(SeededEntropy())
    assert ticket == RegisterTicket(random.Random(7).randbytes(32))


@given(SECRETS, st.binary(max_size=40))
def test_only_the_very_ticket_is_accepted(secret: bytes, shown: bytes) -> None:
    ticket = RegisterTicket(secret)
    assert ticket.is_shown_by(ticket.to_wire())
    assert ticket.is_shown_by(shown) == (shown == ticket.to_wire())


@pytest.mark.parametrize("bit", range(34 * 8))
def test_one_wrong_bit_is_a_wrong_ticket(bit: int) -> None:
    ticket = RegisterTicket(bytes(range(32)))
    wire = bytearray(ticket.to_wire())
    wire[bit // 8] ^= 1 << bit % 8
    assert not ticket.is_shown_by(bytes(wire))


@pytest.mark.parametrize(
    "wire",
    [b"", bytes(34), b"\x0a\x20" + bytes(31), b"\x0a\x20" + bytes(33), b"\x0a\x1f" + bytes(32)],
)
def test_other_bytes_are_refused_without_being_quoted(wire: bytes) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        RegisterTicket.from_wire(wire)
    assert caught.value.remedy


def test_neither_repr_nor_str_shows_the_secret() -> None:
    ticket = RegisterTicket(b"hunter2" + bytes(25))
    for text in (repr(ticket), str(ticket), f"{ticket}", repr([ticket])):
        assert "hunter2" not in text
