# SPDX-License-Identifier: Apache-2.0
"""Log entries as text: the full and the concise form, to the letter."""

from datetime import UTC, datetime

import pytest

from metropolis.supervision import Entry, LeveledEntry, RawEntry, Severity
from metropolis.supervision.log_text import format_concise, format_entry, shorten, text_of

THEN = datetime(2022, 2, 28, 13, 30, 45, 996960, tzinfo=UTC)


def leveled(dn: str, *lines: str, severity: Severity = Severity.INFO) -> LeveledEntry:
    return LeveledEntry(dn, lines, THEN, severity, "bootstrap.py", 48)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (
            leveled("root.enrolment", "Mounting"),
            "root.enrolment                   I0228 13:30:45.996960 bootstrap.py:48] Mounting",
        ),
        (
            RawEntry("root.time", b"2022-02-28T13:30:45Z chronyd version 4.1", 40),
            "root.time                        R 2022-02-28T13:30:45Z chronyd version 4.1",
        ),
        (RawEntry("root.time", b"abc", 2000), f"{'root.time':<32} R abc..."),
        (
            leveled("root.role", "one", "two", severity=Severity.WARNING),
            "\n".join(
                f"{'root.role':<32} W0228 13:30:45.996960 bootstrap.py:48] {line}"
                for line in ("one", "two")
            ),
        ),
        (
            leveled("root.a_very_long_name_that_is_not_cut", "x", severity=Severity.FATAL),
            "root.a_very_long_name_that_is_not_cut F0228 13:30:45.996960 bootstrap.py:48] x",
        ),
        (leveled("a", "tab\there \x1b[2J\r"), "tab\there \\x1b[2J\\x0d"),
        (leveled("a", "grüße\u00a0\u0085dich"), "grüße\u00a0\\x85dich"),
        (RawEntry("a", b"caf\xc3\xa9 \xff\xfe!", 8), "café <INVALID>!"),
    ],
    ids=range(8),
)
def test_the_full_form(entry: Entry, expected: str) -> None:
    text = format_entry(entry)
    assert text == expected or (entry.dn == "a" and text.endswith(f" {expected}"))


@pytest.mark.parametrize(
    ("entry", "width", "expected"),
    [
        (
            leveled("root.role.kubernetes.run.kubernetes.apiserver", "Hello there!"),
            120,
            "       k8s apiserver I Hello there!",
        ),
        (
            leveled("root.role.kubernetes.run.kubernetes.apiserver", "Hello there!", "", "Again."),
            0,
            "       k8s apiserver I Hello there!\n                     | Again.",
        ),
        (
            leveled("root.role.kubernetes.run.kubernetes.apiserver", "Hello there!"),
            60,
            "   k8s apiserver I Hello there!",
        ),
        (
            leveled("root.role.kubernetes.run.kubernetes.apiserver", "Hello there!"),
            59,
            "I Hello there!",
        ),
        (
            leveled("root.network", "these words are too many for one line of this console"),
            30,
            "I these words are too many for\n| one line of this console",
        ),
        (
            RawEntry("root.network.dhcp", b"raw words", 10_000),
            80,
            "            net dhcp R raw words...",
        ),
        (leveled("root", ""), 80, "                root I "),
    ],
    ids=range(7),
)
def test_the_concise_form(entry: Entry, width: int, expected: str) -> None:
    assert format_concise(entry, width=width) == expected


@pytest.mark.parametrize(
    ("dn", "expected"),
    [
        ("root", "root"),
        ("", ""),
        ("root.time", "time"),
        ("root.network.interfaces.dhcp", "net ifaces dhcp"),
        ("root.role", "role"),
        ("root.role.controlplane", "cplane"),
        ("root.role.controlplane.launcher.consensus.etcd", "cplane etcd"),
        ("root.role.controlplane.map-cluster-membership", "cplane map-membership"),
        ("root.role.kubernetes.run.controller_manager", "k8s controllers"),
        ("supervisor", "supervisor"),
        ("root.something.quite.long.to.read.here", "...g quite long to read here"),
    ],
)
def test_names_are_shortened(dn: str, expected: str) -> None:
    assert shorten(dn, columns=28) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"plain", "plain"),
        ("ünï".encode(), "ünï"),
        (b"\xff", "<INVALID>"),
        (b"a\xff\xfe\xfdb\xffc", "a<INVALID>b<INVALID>c"),
        (b"\xed\xa0\x80", "<INVALID>"),
        (b"\xf0\x9f\x98", "<INVALID>"),
        ("lone \udcff", "lone <INVALID>"),
    ],
)
def test_what_is_no_text_is_marked(data: bytes | str, expected: str) -> None:
    assert text_of(data) == expected
    text_of(data).encode()
