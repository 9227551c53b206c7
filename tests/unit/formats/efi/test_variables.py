# SPDX-License-Identifier: Apache-2.0
"""Variables as efivarfs shows them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.base.errors import DataLossError
from metropolis.formats.efi import variables


def test_a_file_is_attributes_and_value() -> None:
    content = variables.encode_file(variables.AUTHENTICATED, b"value")
    assert content == b"\x27\0\0\0value"
    assert variables.decode_file(content) == (variables.AUTHENTICATED, b"value")
    assert variables.SECURE_BOOT.file_name == "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


def test_a_cut_file_is_refused() -> None:
    with pytest.raises(DataLossError, match="length"):
        variables.decode_file(b"\1\2\3")


def test_a_flag_is_one_byte() -> None:
    assert variables.decode_flag(b"\1")
    assert not variables.decode_flag(b"\0")
    for value in (b"", b"\2", b"\1\1"):
        with pytest.raises(DataLossError):
            variables.decode_flag(value)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_a_text_comes_back(text: str) -> None:
    assert variables.decode_text(variables.encode_text(text)) == text


@pytest.mark.parametrize("value", [b"", b"a", b"a\0", b"\0\xd8\0\0", b"a\0\0\0b\0"])
def test_a_damaged_text_is_refused(value: bytes) -> None:
    with pytest.raises(DataLossError, match="text"):
        variables.decode_text(value)
