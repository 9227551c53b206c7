# SPDX-License-Identifier: Apache-2.0
"""Versions of images and constraints on them."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.rules.semver import Version, parse_constraint, parse_version

OPERATORS = ["", "=", "!=", ">", "<", ">=", "=>", "<=", "=<", "~", "~>", "^"]
small = st.integers(min_value=0, max_value=3)
versions = st.builds(Version, small, small, small)
texts = st.lists(small, min_size=1, max_size=3).map(lambda parts: ".".join(map(str, parts)))
constraints = st.one_of(
    st.just("*"),
    st.builds(
        lambda operator, text: f"{operator} {text}" if operator else text,
        st.sampled_from(OPERATORS),
        texts,
    ),
)
NEARBY = [Version(a, b, c) for a in range(6) for b in range(6) for c in range(6)]


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("24.04.20250101", Version(24, 4, 20250101)),
        ("24.04", Version(24, 4, 0)),
        ("12", Version(12, 0, 0)),
        ("v1.2.3", Version(1, 2, 3)),
        ("007.08", Version(7, 8, 0)),
    ],
)
def test_versions_are_read_leniently(text: str, version: Version) -> None:
    assert parse_version(text) == version


def test_versions_are_ordered_by_number_and_shown_in_full() -> None:
    older, newer = parse_version("24.04.9"), parse_version("24.4.10")
    assert older < newer
    assert not newer < older
    assert not older < parse_version("24.4.9")
    assert str(newer) == "24.4.10"


@pytest.mark.parametrize(
    "text", ["", "latest", "1.2.3.4", "1.", "-1", "1.2-rc1", "1 2", "٣", "9" * 40]
)
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="version"):
        parse_version(text)


@pytest.mark.parametrize(
    ("constraint", "allowed", "refused"),
    [
        ("*", ["0.0.0", "99.1.2"], []),
        ("24.04.1", ["24.4.1"], ["24.4.0", "24.4.2"]),
        ("24.04", ["24.4.0", "24.4.9"], ["24.5.0", "24.3.9"]),
        ("24", ["24.9.9"], ["25.0.0", "23.9.9"]),
        ("= 1.2.3", ["1.2.3"], ["1.2.4"]),
        ("!= 1.2.3", ["1.2.2", "1.2.4"], ["1.2.3"]),
        ("!= 1.2", ["1.1.9", "1.3.0"], ["1.2.0", "1.2.9"]),
        ("!= 0.0.0", ["0.0.1"], ["0.0.0"]),
        ("> 1.2.3", ["1.2.4", "2.0.0"], ["1.2.3", "1.2.2"]),
        ("> 11", ["12.0.0"], ["11.1.0", "11.0.0"]),
        ("> 11.1", ["11.2.0", "12.0.0"], ["11.1.5"]),
        ("< 1.2.3", ["1.2.2", "0.9.9"], ["1.2.3"]),
        ("< 11", ["10.99.99"], ["11.0.0"]),
        (">= 20.04.20211010", ["20.4.20211010", "21.0.0"], ["20.4.20211009"]),
        ("=> 2", ["2.0.0"], ["1.9.9"]),
        ("<= 1.2.3", ["1.2.3", "0.1.0"], ["1.2.4"]),
        ("=< 11", ["11.9.9"], ["12.0.0"]),
        ("<= 11.1", ["11.1.99"], ["11.2.0"]),
        ("~ 1.2.3", ["1.2.3", "1.2.9"], ["1.2.2", "1.3.0"]),
        ("~ 1.2", ["1.2.0", "1.2.9"], ["1.3.0"]),
        ("~> 1", ["1.0.0", "1.9.9"], ["2.0.0"]),
        ("^ 1.2.3", ["1.2.3", "1.9.0"], ["1.2.2", "2.0.0"]),
        ("^ 0.2.3", ["0.2.3", "0.2.9"], ["0.3.0", "0.2.2"]),
        ("^ 0.0.3", ["0.0.3"], ["0.0.4"]),
        ("^ 0.0", ["0.0.9"], ["0.1.0"]),
        ("^ 0", ["0.9.9"], ["1.0.0"]),
    ],
)
def test_an_operator_allows_what_clients_know_it_to(
    constraint: str, allowed: list[str], refused: list[str]
) -> None:
    parsed = parse_constraint(constraint)
    assert [text for text in allowed if not parsed.allows(parse_version(text))] == []
    assert [text for text in refused if parsed.allows(parse_version(text))] == []


@pytest.mark.parametrize(
    "text",
    ["", " ", " 1.2", ">=1.2", ">=  1.2", "> ", "!! 1.2", ">= 1.2 ", "1.2 || 2", ">= *", "latest"],
)
def test_a_constraint_that_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="not understood"):
        parse_constraint(text)


@given(constraints, constraints)
@example("> 1", "< 2")
@example("> 1.2", "< 1.3")
@example("<= 1", ">= 2")
@example("!= 0", "< 1")
def test_two_constraints_overlap_exactly_when_a_version_fits_both(one: str, other: str) -> None:
    ours, theirs = parse_constraint(one), parse_constraint(other)
    witness = any(ours.allows(version) and theirs.allows(version) for version in NEARBY)
    assert ours.overlaps(theirs) is witness
    assert theirs.overlaps(ours) is witness


@given(texts, versions)
def test_operators_are_each_others_complement(text: str, version: Version) -> None:
    def allows(operator: str) -> bool:
        return parse_constraint(f"{operator} {text}").allows(version)

    assert allows("=") is not allows("!=")
    assert allows(">") is not allows("<=")
    assert allows("<") is not allows(">=")
    assert allows("=") is (allows("<=") and allows(">="))
