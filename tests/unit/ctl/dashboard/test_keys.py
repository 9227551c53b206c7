# SPDX-License-Identifier: Apache-2.0
"""What terminals send, and what operators meant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.ctl.dashboard.keys import Char, Key, KeyPress, decode

SEQUENCES: list[tuple[bytes, list[KeyPress]]] = [
    (b"\x1b[A\x1bOB", [Key.UP, Key.DOWN]),  # normal and application cursor keys
    (b"\x1b[1;5C", [Key.RIGHT]),  # with Ctrl
    (b"\x1b[H\x1b[1~\x1b[7~\x1bOH", [Key.HOME] * 4),
    (b"\x1b[F\x1b[4~\x1b[8~", [Key.END] * 3),
    (b"\x1b[5~\x1b[6~", [Key.PAGE_UP, Key.PAGE_DOWN]),
    (b"\t\x1b[Z", [Key.TAB, Key.BACK_TAB]),
    (b"\r\n", [Key.ENTER, Key.ENTER]),
    (b"\x7f\x08", [Key.BACKSPACE, Key.BACKSPACE]),
    (b"\x03\x04", [Key.INTERRUPT, Key.INTERRUPT]),
    (b"jk?", [Char(text="j"), Char(text="k"), Char(text="?")]),
    ("é日".encode(), [Char(text="é"), Char(text="日")]),
    (b"\x1b[<0;10;5M\x1b[15~q", [Char(text="q")]),  # a mouse, F5: nothing we know
    (b"\xffq\x00", [Char(text="q")]),  # no UTF-8, no key
]


@pytest.mark.parametrize(("data", "keys"), SEQUENCES)
def test_sequences_are_keys(data: bytes, keys: list[KeyPress]) -> None:
    assert decode(data, is_complete=True) == (keys, b"")


@pytest.mark.parametrize(("data", "keys"), SEQUENCES)
def test_it_does_not_matter_where_a_slow_line_cuts_them(data: bytes, keys: list[KeyPress]) -> None:
    found: list[KeyPress] = []
    rest = b""
    for byte in data:
        some, rest = decode(rest + bytes((byte,)), is_complete=False)
        found += some
    some, rest = decode(rest, is_complete=True)
    assert ([*found, *some], rest) == (keys, b"")


def test_escape_alone_is_a_key_once_nothing_follows() -> None:
    assert decode(b"\x1b", is_complete=False) == ([], b"\x1b")
    assert decode(b"\x1b", is_complete=True) == ([Key.ESCAPE], b"")
    assert decode(b"\x1bq", is_complete=False) == ([Key.ESCAPE, Char(text="q")], b"")


@given(st.binary(max_size=80))
def test_whatever_comes_nothing_is_left_over_in_the_end(data: bytes) -> None:
    _, rest = decode(data, is_complete=False)
    assert len(rest) < 32
    assert decode(rest, is_complete=True)[1] == b""
