# SPDX-License-Identifier: Apache-2.0
"""Prometheus' text format, written and read."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as some

from metropolis.base.errors import InvalidArgumentError
from metropolis.formats.exposition import (
    Family,
    Kind,
    Sample,
    counter,
    decode,
    encode,
    gauge,
    histogram_samples,
    number,
)


def test_families_are_written_as_the_format_says() -> None:
    families = [
        gauge("node_load1", "1m load average.", Sample(0.21)),
        counter("node_cpu_seconds_total", "CPU.", Sample(12, {"cpu": "0", "mode": "idle"})),
    ]
    assert encode(families).decode() == (
        "# HELP node_load1 1m load average.\n"
        "# TYPE node_load1 gauge\n"
        "node_load1 0.21\n"
        "# HELP node_cpu_seconds_total CPU.\n"
        "# TYPE node_cpu_seconds_total counter\n"
        'node_cpu_seconds_total{cpu="0",mode="idle"} 12\n'
    )


def test_a_histogram_adds_up_and_ends_at_infinity() -> None:
    samples = histogram_samples([0.1, 1.0], [2, 3, 1], 4.5, {"m": "x"})
    family = Family("h", "H.", Kind.HISTOGRAM, samples)
    assert encode([family]).decode().splitlines()[2:] == [
        'h_bucket{m="x",le="0.1"} 2',
        'h_bucket{m="x",le="1.0"} 5',
        'h_bucket{m="x",le="+Inf"} 6',
        'h_sum{m="x"} 4.5',
        'h_count{m="x"} 6',
    ]
    assert decode(encode([family]).decode()) == [family]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
        (3, "3"),
        (True, "1"),
        (0.5, "0.5"),
    ],
)
def test_numbers_are_spelled_for_go(value: float, text: str) -> None:
    assert number(value) == text


@given(some.text(), some.floats(allow_nan=False))
def test_whatever_a_label_holds_comes_back(label: str, value: float) -> None:
    label = label.encode("utf-8", "replace").decode()
    family = gauge("a", "", Sample(value, {"x": label, "y": "\\n"}))
    (read,) = decode(encode([family]).decode())
    assert read.samples == [Sample(value, {"x": label, "y": "\\n"})]


@pytest.mark.parametrize("line", ["1abc 3", "a{x=1} 2", 'a{x="1"', "a b", 'a{1x="1"} 2', "a"])
def test_what_is_no_sample_is_refused(line: str) -> None:
    with pytest.raises(InvalidArgumentError):
        decode(line)
