# SPDX-License-Identifier: Apache-2.0
"""Rules for labels, domains and node ids, as tables."""

import pytest

from metropolis.base.errors import InvalidArgumentError
from metropolis.base.ids import is_node_id, node_id_from_public_key, parse_node_id
from metropolis.base.names import (
    cluster_domain_problem,
    domain_name_problem,
    label_key_problem,
    label_value_problem,
)


@pytest.mark.parametrize(
    "key",
    ["a", "A", "9", "a-b", "a.b", "a_b", "x" * 63, "example.com/name", f"{'a' * 63}.b/x", "1/1x"],
)
def test_good_label_keys(key: str) -> None:
    if key == "1/1x":
        assert label_key_problem(key) is not None  # a prefix may not be a number
    else:
        assert label_key_problem(key) is None


@pytest.mark.parametrize(
    "key",
    [
        "",
        "-a",
        "a-",
        ".a",
        "a.",
        "_",
        "x" * 64,
        "a b",
        "ä",
        "/a",
        "a/",
        "a/b/c",
        "Upper.case/x",
        "a\n",
        "a..b/x",
        "-x/y",
        f"{'a' * 250}.com/x",
    ],
)
def test_bad_label_keys(key: str) -> None:
    assert label_key_problem(key)


@pytest.mark.parametrize("value", ["", "a", "A.b_c-9", "x" * 63])
def test_good_label_values(value: str) -> None:
    assert label_value_problem(value) is None


@pytest.mark.parametrize("value", ["x" * 64, "-", "a-", "a/b", "a b", "a\n", "ü"])
def test_bad_label_values(value: str) -> None:
    assert label_value_problem(value)


@pytest.mark.parametrize("name", ["a", "cluster.internal", "a-b.c", "1.example", "x1"])
def test_good_domains(name: str) -> None:
    assert domain_name_problem(name) is None


@pytest.mark.parametrize(
    "name",
    ["", ".", "a.", ".a", "a..b", "A", "a_b", "-a", "a-", "1", "a.1", "a.0x1f", "a b", "a" * 64],
)
def test_bad_domains(name: str) -> None:
    assert domain_name_problem(name)


def test_cluster_domains_are_shorter_than_other_domains() -> None:
    assert cluster_domain_problem("a." * 39 + "aa") is None  # 80 characters
    assert cluster_domain_problem("a." * 39 + "aaa")
    assert domain_name_problem("a." * 39 + "aaa") is None


def test_a_node_id_is_the_first_half_of_the_key() -> None:
    key = bytes(range(32))
    assert node_id_from_public_key(key) == "metropolis-000102030405060708090a0b0c0d0e0f"
    assert is_node_id(node_id_from_public_key(key))


@pytest.mark.parametrize(
    "text", ["", "metropolis-", "metropolis-00", "metropolis-" + "G" * 32, "METROPOLIS-" + "0" * 32]
)
def test_what_is_no_node_id_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse_node_id(text)
    assert "metroctl node list" in caught.value.remedy
