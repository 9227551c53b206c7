# SPDX-License-Identifier: Apache-2.0
"""Pages held against what commands say: what may differ, and what may not."""

from pathlib import Path

import pytest

from kits.transcript import Transcript, exchanges

A, B, C = (f"metropolis-{digit * 32}" for digit in "abc")
OTHER = f"metropolis-{'9' * 32}"


def test_a_page_is_taken_apart_into_commands_and_what_stands_below_them(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One\n\n```console\n$ first\nsays\n[…]\n$ second\n```\n\n"
        "## Two\n```text\n$ no command\n```\n```console\n$ third\n\nmore\n```\n"
    )
    assert [(each.heading, each.command, list(each.shown)) for each in exchanges(page)] == [
        ("One", "first", ["says", "[…]"]),
        ("One", "second", []),
        ("Two", "third", ["", "more"]),
    ]


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ("Wrote x: 0.1.0-dev7.gabc, 127 MiB.", "Wrote x: 0.1.0-dev812.g01.dirty, 130 MiB."),
        ("/dev/vda (4.3 GB) holds nothing", "/dev/vda (4.0 GB) holds nothing"),
        ("NODE   STATE", "  NODE      STATE  "),
        (f"{A}   UP   10.1.0.2   0s", f"{OTHER} UP 10.1.0.2 17s"),
        (f"{A} is {A}", f"{OTHER} is {OTHER}"),
        ("b", "a\nb\nc"),
    ],
)
def test_numbers_names_and_gaps_may_differ(shown: str, said: str) -> None:
    assert Transcript().first_missing([shown], said) is None


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ("Approved node", "Approved nodes"),
        ("address 10.1.0.2", "address 10.1.0.3"),
        (f"{A} UP", f"{OTHER} NEW"),
        (f"{A} is {B}", f"{OTHER} is {OTHER}"),
        (f"{A} is {A}", f"{OTHER} is {A}"),
        ("sha256:" + "a" * 64, "sha256:" + "a" * 63),
        ("b", ""),
    ],
)
def test_words_addresses_and_who_is_who_may_not(shown: str, said: str) -> None:
    assert Transcript().first_missing([shown], said) == shown


def test_a_name_keeps_its_meaning_in_later_texts_and_commands() -> None:
    transcript = Transcript()
    assert transcript.first_missing([f"node {A}"], f"node {OTHER}") is None
    assert transcript.first_missing([f"node {A}"], f"node {C}") is not None
    assert transcript.first_missing([f"node {B}"], f"node {OTHER}") is not None
    assert transcript.spoken(f"metroctl approve {A}") == f"metroctl approve {OTHER}"


def test_what_a_text_told_that_lacks_a_line_is_forgotten() -> None:
    transcript = Transcript()
    assert transcript.first_missing([f"node {A}", "done"], f"node {C}") == "done"
    assert transcript.first_missing([f"node {A}", "done"], f"node {OTHER}\ndone") is None


def test_lines_stand_in_order_and_rows_of_nodes_in_that_of_their_ids() -> None:
    assert Transcript().first_missing(["a", "b"], "b\na") == "b"
    rows = [f"{A} UP 10.1.0.2", f"{B} UP 10.1.0.3"]
    said = f"ID STATE\n{C} UP 10.1.0.3\n{OTHER} UP 10.1.0.2\nend"
    assert Transcript().first_missing(["ID STATE", *rows, "end"], said) is None
