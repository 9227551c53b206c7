# SPDX-License-Identifier: Apache-2.0
"""Prometheus' text exposition format, version 0.0.4: families of samples to bytes, and back.

    # HELP node_load1 1m load average.
    # TYPE node_load1 gauge
    node_load1 0.21

Source: https://prometheus.io/docs/instrumenting/exposition_formats/. Written here because the
subset that we need is a page, and the node carries no package that it can do without.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from metropolis.base.errors import InvalidArgumentError

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_SAMPLE: Final = re.compile(r"(?P<name>[^\s{]+)(?:\{(?P<labels>.*)\})?\s+(?P<value>\S+)(?:\s+\S+)?")
_PAIR: Final = re.compile(r'\s*(?P<name>[^=,\s]+)="(?P<value>(?:[^"\\]|\\.)*)"\s*,?')
_ESCAPE: Final = re.compile(r"\\(.)")
_SUFFIXES: Final = ("_bucket", "_sum", "_count")
_NO_LABELS: Final[Mapping[str, str]] = {}


class Kind(StrEnum):
    """What a family's numbers mean."""

    COUNTER = "counter"  # only grows, until the process starts anew
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    SUMMARY = "summary"
    UNTYPED = "untyped"


@dataclass(frozen=True, slots=True)
class Sample:
    """One number. `suffix` is "_bucket", "_sum" or "_count" in a histogram, else empty."""

    value: float
    labels: Mapping[str, str] = field(default_factory=lambda: _NO_LABELS)
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """Everything of one name. The kind of a counter is told by its name's end, `_total`."""

    name: str
    text: str
    kind: Kind
    samples: Sequence[Sample]


def gauge(name: str, text: str, *samples: Sample) -> Family:
    """Return a family of numbers that go up and down."""
    return Family(name, text, Kind.GAUGE, samples)


def counter(name: str, text: str, *samples: Sample) -> Family:
    """Return a family of numbers that only grow."""
    return Family(name, text, Kind.COUNTER, samples)


def histogram_samples(
    bounds: Sequence[float], counts: Sequence[int], total: float, labels: Mapping[str, str]
) -> Sequence[Sample]:
    """Return the samples of one histogram.

    Args:
        bounds: Upper bounds, ascending, without infinity.
        counts: How many fell into each, not added up; one more than bounds.
        total: Sum of everything observed.
    """
    assert len(counts) == len(bounds) + 1, "one count above the last bound"
    samples: list[Sample] = []
    seen = 0
    for bound, count in zip([*bounds, math.inf], counts, strict=True):
        seen += count
        samples.append(Sample(seen, {**labels, "le": number(bound)}, "_bucket"))
    return [*samples, Sample(total, labels, "_sum"), Sample(seen, labels, "_count")]


def encode(families: Iterable[Family]) -> bytes:
    """Write families that have samples. A wrong name is a bug; labels may hold anything."""
    lines: list[str] = []
    for family in families:
        if not family.samples:
            continue
        name = family.name
        assert _NAME.fullmatch(name), f"{name!r} is no name of a metric"
        text = family.text.replace("\\", r"\\").replace("\n", r"\n")
        lines += (f"# HELP {name} {text}", f"# TYPE {name} {family.kind.value}")
        lines += (
            f"{name}{sample.suffix}{_labels(sample.labels)} {number(sample.value)}"
            for sample in family.samples
        )
    lines.append("")
    return "\n".join(lines).encode("utf-8", "replace")


def number(value: float) -> str:
    """Spell a number as Go's parser reads it."""
    if isinstance(value, int):
        return str(int(value))  # of a bool, too
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return value


def decode(text: str) -> Sequence[Family]:
    """Read what an exporter wrote, families in order.

    Raises:
        InvalidArgumentError: a line is no sample.
    """
    kinds: dict[str, Kind] = {}
    texts: dict[str, str] = {}
    samples: dict[str, list[Sample]] = {}
    for line in text.split("\n"):  # a label may hold what else separates lines
        if not line.strip():
            continue
        if line.startswith("#"):
            words = line.split(" ", 3)
            if len(words) > 2 and words[1] in ("HELP", "TYPE"):  # noqa: PLR2004  # a name follows
                samples.setdefault(words[2], [])
                rest = words[3] if len(words) > 3 else ""  # noqa: PLR2004  # HELP name text
                if words[1] == "TYPE":
                    kinds[words[2]] = Kind(rest)
                else:
                    texts[words[2]] = rest
            continue
        name, sample = _sample(line)
        base = name
        for suffix in _SUFFIXES:
            stem = name.removesuffix(suffix)
            if stem != name and kinds.get(stem) in (Kind.HISTOGRAM, Kind.SUMMARY):
                base, sample = stem, Sample(sample.value, sample.labels, suffix)
        samples.setdefault(base, []).append(sample)
    return [
        Family(name, texts.get(name, ""), kinds.get(name, Kind.UNTYPED), found)
        for name, found in samples.items()
    ]


def _sample(line: str) -> tuple[str, Sample]:
    match = _SAMPLE.fullmatch(line.strip())
    if match is None or not _NAME.fullmatch(match["name"]):
        raise _no_sample(line)
    labels: dict[str, str] = {}
    rest = match["labels"] or ""
    while rest.strip():
        pair = _PAIR.match(rest)
        if pair is None or not _LABEL.fullmatch(pair["name"]):
            raise _no_sample(line)
        labels[pair["name"]] = _ESCAPE.sub(
            lambda found: "\n" if found[1] == "n" else found[1], pair["value"]
        )
        rest = rest[pair.end() :]
    try:
        return match["name"], Sample(float(match["value"]), labels)
    except ValueError:
        raise _no_sample(line) from None


def _no_sample(line: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"no line of the exposition format: {line[:120]!r}",
        remedy="Ask an exporter of Prometheus' text format.",
    )
