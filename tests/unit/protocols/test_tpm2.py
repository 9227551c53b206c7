# SPDX-License-Identifier: Apache-2.0
"""Commands and responses of a TPM, without one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.base.errors import FailedPreconditionError, InternalError, MetropolisError
from metropolis.protocols.tpm2 import commands, public
from metropolis.protocols.tpm2.commands import open_response, request
from metropolis.protocols.tpm2.refusal import Refusal, TpmRefusalError, refusal
from metropolis.protocols.tpm2.session import Password
from metropolis.protocols.tpm2.wire import Reader, sized, u16, u32


def test_a_command_is_marshalled_as_the_specification_says() -> None:
    flush = request(commands.flush(0x80000001))
    assert flush.hex() == "80010000000e0000016580000001"
    extend = request(commands.pcr_extend(11, b"d" * 32), Password())
    assert extend.hex() == (
        "8002" "00000041" "00000182" "0000000b"
        "00000009" "40000009" "0000" "00" "0000"
        "00000001" "000b" + "64" * 32
    )  # fmt: skip


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (0x99D, Refusal.POLICY_FAIL),  # of session 1
        (0x1DF, Refusal.INTEGRITY),  # of parameter 1
        (0x1C4, Refusal.VALUE),
        (0x2DB, Refusal.SIGNATURE),
        (0x921, Refusal.LOCKOUT),
        (0x922, Refusal.RETRY),
        (0x101, Refusal.OTHER),
    ],
)
def test_what_a_tpm_refuses_is_named_whatever_it_is_about(code: int, kind: Refusal) -> None:
    assert refusal(code) is kind
    response = u16(0x8001) + u32(10) + u32(code)
    with pytest.raises(TpmRefusalError) as caught:
        open_response(response, commands.pcr_read(7))
    assert caught.value.kind is kind
    assert f"{code:#05x}" in str(caught.value)
    assert caught.value.remedy


def test_a_register_is_read_and_a_bank_that_is_off_is_told() -> None:
    selection = u32(1) + u16(0x0B) + b"\x03\x80\x00\x00"
    answers = u32(1) + sized(b"v" * 32), u32(0)
    on, off = (u32(7) + selection + each for each in answers)
    assert commands.pcr_value(commands.Response(0, Reader(on))) == b"v" * 32
    with pytest.raises(FailedPreconditionError) as caught:
        commands.pcr_value(commands.Response(0, Reader(off)))
    assert "SHA-256 bank" in caught.value.remedy


def test_an_answer_that_ends_too_early_is_no_answer() -> None:
    with pytest.raises(InternalError, match="ends too early"):
        Reader(sized(b"abc")[:-1]).sized()


def test_a_key_that_is_no_point_is_refused() -> None:
    with pytest.raises(InternalError, match="another key"):
        public.point_of(public.sealed_object(bytes(32)) + bytes(40))


@given(st.binary(max_size=120))
def test_no_answer_does_anything_but_give_values_or_operating_errors(answer: bytes) -> None:
    for command in (commands.pcr_read(7), commands.create_primary(0x40000001, b"t")):
        try:
            response = open_response(answer, command, Password())
            commands.pcr_value(response)
            public.point_of(commands.primary_public(response))
        except MetropolisError:
            pass
