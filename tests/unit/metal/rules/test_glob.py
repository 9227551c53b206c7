# SPDX-License-Identifier: Apache-2.0
"""Shell patterns."""

import fnmatch
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.rules import glob

alphabet = st.text(alphabet="ab/", max_size=8)
patterns = st.lists(
    st.sampled_from(["a", "b", "/", "*", "?", "[ab]", "[^a]", "[a-b]"]), max_size=8
).map("".join)


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("*", "", True),
        ("/dev/nvme*", "/dev/nvme0n1", True),
        ("/dev/nvme*", "/dev/sda", False),
        ("/dev/sd?", "/dev/sdab", False),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        ("[]-]", "]", True),
        ("[a-]b", "-b", True),
        ("[a-]b", "]b", False),
        ("\\*", "*", True),
        ("\\*", "x", False),
        ("", "", True),
        ("", "x", False),
    ],
)
def test_patterns_match_as_in_a_shell(pattern: str, text: str, expected: bool) -> None:
    assert glob.matches(pattern, text) is expected


@pytest.mark.parametrize("pattern", ["[", "[a", "[^", "\\", "[z-a]", "[a-", "*" * 2000])
def test_a_pattern_that_is_not_well_formed_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidArgumentError, match="pattern"):
        glob.validate(pattern)


@given(patterns, alphabet)
def test_patterns_agree_with_the_standard_library(pattern: str, text: str) -> None:
    standard = re.match(fnmatch.translate(pattern.replace("[^", "[!")), text) is not None
    assert glob.matches(pattern, text) is standard


@given(st.text(max_size=20), st.text(max_size=20))
def test_an_escaped_text_matches_itself_alone(text: str, other: str) -> None:
    assert glob.matches(glob.escape(text), text)
    assert glob.matches(glob.escape(text), other) is (text == other)


def test_a_malicious_pattern_takes_no_time() -> None:
    assert not glob.matches("*a" * 400, "a" * 399 + "b" * 400)
