# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.base.errors import InvalidArgumentError
from metropolis.pki import pem

LABELS = st.sampled_from([pem.CERTIFICATE, pem.CRL, "PRIVATE KEY"])
GOOD = pem.encode(pem.CERTIFICATE, b"thirty-two bytes of certificate.")


@given(LABELS, st.binary(max_size=2000))
def test_what_was_armoured_comes_back(label: str, data: bytes) -> None:
    assert pem.decode(label, pem.encode(label, data)) == data


def test_lines_have_64_columns_and_the_text_ends_with_a_newline() -> None:
    lines = pem.encode(pem.CERTIFICATE, bytes(100)).split("\n")
    assert [len(line) for line in lines[1:-2]] == [64, 64, 8]
    assert lines[-1] == ""


def test_windows_line_ends_and_surrounding_blanks_are_fine() -> None:
    assert pem.decode(pem.CERTIFICATE, "\n" + GOOD.replace("\n", "\r\n") + " ") == pem.decode(
        pem.CERTIFICATE, GOOD
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        GOOD + GOOD,
        "subject=joe\n" + GOOD,
        GOOD.replace("CERTIFICATE", "PRIVATE KEY"),
        GOOD.replace("END CERTIFICATE", "END PRIVATE KEY"),
        GOOD.replace("=", ""),
        GOOD.replace("dGh", "d*h"),
        GOOD.replace("-----BEGIN CERTIFICATE-----\n", "-----BEGIN CERTIFICATE-----\nA: b\n\n"),
        GOOD + "\n" * (64 << 10),
    ],
    ids=["empty", "two", "prose", "label", "end", "padding", "alphabet", "header", "huge"],
)
def test_anything_but_one_block_is_refused_with_a_remedy(text: str) -> None:
    for form in (text, text.encode()):
        with pytest.raises(InvalidArgumentError) as caught:
            pem.decode(pem.CERTIFICATE, form)
        assert caught.value.remedy
        assert caught.value.__cause__ is None


@given(st.one_of(st.text(), st.binary()))
def test_garbage_gives_one_kind_of_error(text: str | bytes) -> None:
    with pytest.raises(InvalidArgumentError):
        pem.decode(pem.CERTIFICATE, text)
