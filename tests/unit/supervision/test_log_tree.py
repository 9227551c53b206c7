# SPDX-License-Identifier: Apache-2.0
"""Writing to the log tree, and reading the backlog: order, filters, bounds."""

from datetime import UTC, datetime

import pytest
from typing_extensions import override

from metropolis.base.errors import InvalidArgumentError
from metropolis.supervision import (
    Entry,
    LeveledEntry,
    LeveledLine,
    Logger,
    LogTree,
    RawEntry,
    ReadOptions,
    Severity,
)

NOW = datetime(2022, 2, 28, 13, 30, 45, 996960, tzinfo=UTC)
EVERYTHING = ReadOptions(with_children=True, backlog=None)


class Clock:
    """Stands still."""

    def monotonic_s(self) -> float:
        return 0.0

    def wall(self) -> datetime:
        return NOW


def new_tree(
    *, per_dn_max: int = 8192, entries_max: int = 65536, bytes_max: int = 1 << 24
) -> LogTree:
    return LogTree(
        clock=Clock(), per_dn_max=per_dn_max, entries_max=entries_max, bytes_max=bytes_max
    )


def texts(entries: list[Entry]) -> list[str]:
    return ["\n".join(e.lines) if isinstance(e, LeveledEntry) else e.data.decode() for e in entries]


def read(tree: LogTree, dn: str = "", options: ReadOptions = EVERYTHING) -> list[str]:
    return texts(tree.read(dn, options).backlog)


def test_an_entry_carries_who_when_where_and_how_bad() -> None:
    tree = new_tree()
    tree.leveled("root.a").warning("%s => %s", "NEW", "UP")
    (entry,) = tree.read("root.a", EVERYTHING).backlog
    assert isinstance(entry, LeveledEntry)
    assert entry.dn == "root.a"
    assert entry.lines == ("NEW => UP",)
    assert entry.timestamp == NOW
    assert entry.severity is Severity.WARNING
    assert entry.file == "test_log_tree.py"
    assert (
        entry.line == test_an_entry_carries_who_when_where_and_how_bad.__code__.co_firstlineno + 2
    )


@pytest.mark.parametrize(
    ("method", "severity"),
    [("info", 1), ("warning", 2), ("error", 3), ("fatal", 4)],
)
def test_each_method_logs_its_severity(method: str, severity: int) -> None:
    tree = new_tree()
    getattr(tree.leveled("a"), method)("x")
    (entry,) = tree.read("a", EVERYTHING).backlog
    assert isinstance(entry, LeveledEntry)
    assert entry.severity == severity


def wrapped(log: Logger, message: str) -> None:
    log.with_added_stack_depth(1).info(message)


def test_added_stack_depth_names_the_caller_of_the_caller() -> None:
    tree = new_tree()
    wrapped(tree.leveled("a"), "x")
    tree.leveled("a").with_added_stack_depth(10_000).info("%s", "too deep")
    entry, deep = tree.read("a", EVERYTHING).backlog
    assert isinstance(entry, LeveledEntry)
    assert isinstance(deep, LeveledEntry)
    first = test_added_stack_depth_names_the_caller_of_the_caller.__code__.co_firstlineno
    assert (entry.file, entry.line) == ("test_log_tree.py", first + 2)
    assert (deep.file, deep.line, deep.lines) == ("???", 1, ("too deep",))


@pytest.mark.parametrize(
    ("message", "lines"),
    [
        ("one", ("one",)),
        ("one\ntwo\n\nfour", ("one", "two", "", "four")),
        ("\n\none\ntwo\n\n", ("one", "two")),
        ("", ("",)),
        ("100 %", ("100 %",)),
    ],
)
def test_lines_of_one_message_stay_together(message: str, lines: tuple[str, ...]) -> None:
    tree = new_tree()
    tree.leveled("a").info(message)
    (entry,) = tree.read("a", EVERYTHING).backlog
    assert isinstance(entry, LeveledEntry)
    assert entry.lines == lines


def test_arguments_are_taken_as_they_are_now() -> None:
    tree, changing = new_tree(), ["before"]
    tree.leveled("a").info("%s", changing)
    changing.append("after")
    assert read(tree) == ["['before']"]


class Unprintable:
    @override
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


@pytest.mark.parametrize("args", [("a", "b", "c"), (Unprintable(), "b"), ("a",)])
def test_a_wrong_log_call_logs_something_and_never_raises(args: tuple[object, ...]) -> None:
    tree = new_tree()
    tree.leveled("a").info("%s %s", *args)
    tree.leveled("a").info(OSError("not even text"))  # type: ignore[arg-type]
    assert read(tree) == ["%s %s (called with arguments that cannot be formatted)", "not even text"]
    (entry, _) = tree.read("a", EVERYTHING).backlog
    assert isinstance(entry, LeveledEntry)
    assert entry.file == "test_log_tree.py"


def test_details_are_logged_up_to_the_verbosity_of_exactly_their_name() -> None:
    tree = new_tree()
    tree.set_verbosity("a", 2)
    for dn in ("a", "a.b"):
        for level in (1, 2, 3):
            tree.leveled(dn).detail(level, "%s at %d", dn, level)
    assert read(tree) == ["a at 1", "a at 2"]


def test_an_entry_from_outside_keeps_its_own_time_and_place() -> None:
    tree = new_tree()
    then = datetime(2020, 1, 1, tzinfo=UTC)
    line = LeveledLine(text="x", severity=Severity.ERROR, file="src/a.go", line=7, timestamp=then)
    tree.leveled("a").entry(line)
    tree.leveled("a").entry(LeveledLine(text="y"))
    assert tree.read("a", EVERYTHING).backlog == [
        LeveledEntry("a", ("x",), then, Severity.ERROR, "a.go", 7),
        LeveledEntry("a", ("y",), NOW, Severity.INFO, "unknown", 0),
    ]


def test_backlogs_are_chronological_over_all_names() -> None:
    tree = new_tree()
    names = ["main", "main.foo", "main.bar", "aux"] * 3
    for number, dn in enumerate(names):
        tree.leveled(dn).info("%d", number)
    assert read(tree) == [str(n) for n in range(12)]
    assert read(tree, "main") == [str(n) for n in range(12) if n % 4 != 3]
    exact = ReadOptions(backlog=None)
    assert read(tree, "main", exact) == ["0", "4", "8"]
    assert read(tree, "main", ReadOptions(with_children=True, backlog=4)) == ["6", "8", "9", "10"]


def test_a_subtree_goes_by_component() -> None:
    tree = new_tree()
    for dn in ("foo", "foo.bar", "foo.bar.baz", "foo.barr", "foobar", "x.foo.bar"):
        tree.leveled(dn).info(dn)
    assert read(tree, "foo.bar") == ["foo.bar", "foo.bar.baz"]
    assert read(tree, "foo") == ["foo", "foo.bar", "foo.bar.baz", "foo.barr"]
    assert len(read(tree, "")) == 6


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (ReadOptions(backlog=None), ["i", "raw", "w", "e", "f"]),
        (ReadOptions(backlog=None, only_raw=True), ["raw"]),
        (ReadOptions(backlog=None, only_leveled=True), ["i", "w", "e", "f"]),
        (ReadOptions(backlog=None, minimum_severity=Severity.INFO), ["i", "w", "e", "f"]),
        (ReadOptions(backlog=None, minimum_severity=Severity.ERROR), ["e", "f"]),
        (ReadOptions(backlog=2, minimum_severity=Severity.WARNING), ["e", "f"]),
        (ReadOptions(backlog=1, only_raw=True), ["raw"]),
        (ReadOptions(backlog=None, only_raw=True, minimum_severity=Severity.INFO), []),
        (ReadOptions(), []),
    ],
)
def test_filters_choose_the_newest_that_match(options: ReadOptions, expected: list[str]) -> None:
    tree = new_tree()
    log = tree.leveled("a")
    log.info("i")
    tree.raw("a").write(b"raw\n")
    log.warning("w")
    log.error("e")
    log.fatal("f")
    assert read(tree, "a", options) == expected


def test_contradictions_and_bad_names_are_refused_with_a_remedy() -> None:
    with pytest.raises(InvalidArgumentError) as both:
        ReadOptions(only_raw=True, only_leveled=True)
    assert both.value.remedy
    with pytest.raises(InvalidArgumentError):
        ReadOptions(backlog=-1)
    for dn in (".", "a.", ".a", "a..b", "a" * 2000):
        with pytest.raises(InvalidArgumentError, match="invalid DN"):
            new_tree().read(dn, EVERYTHING)


def test_an_unknown_name_is_empty_and_stays_unknown() -> None:
    tree = new_tree()
    assert read(tree, "nobody") == []
    assert not tree.journals.by_dn


def test_a_name_keeps_its_newest_entries_and_only_loses_its_own() -> None:
    tree = new_tree()
    tree.leveled("quiet").info("still here")
    for number in range(9000):
        tree.leveled("noisy").info("%d", number)
    tree.raw("noisy").write(b"raw\n")
    kept = read(tree, "noisy")
    assert len(kept) == 8192
    assert kept[0] == str(9000 + 1 - 8192)
    assert kept[-1] == "raw"
    assert read(tree, "quiet") == ["still here"]
    assert tree.journals.entries == 8193


def test_all_names_together_are_bounded_in_entries() -> None:
    tree = new_tree(per_dn_max=50, entries_max=1000)
    for number in range(5000):
        tree.leveled(f"n{number % 100}").info("%d", number)
        assert tree.journals.entries <= 1000
    kept = [int(text) for text in read(tree)]
    assert kept == list(range(5000 - len(kept), 5000)), "the oldest went first"
    assert len(kept) > 950


def test_all_names_together_are_bounded_in_bytes() -> None:
    tree = new_tree(bytes_max=100_000)
    for number in range(500):
        tree.leveled(f"n{number % 10}").info("%d %s", number, "x" * 1000)
        tree.raw(f"n{number % 10}").write(b"y" * 500 + b"\n")
        assert tree.journals.size_bytes <= 100_000
    assert read(tree)[-2].startswith("499 ")
    total = sum(
        record[6].__sizeof__() for j in tree.journals.by_dn.values() for record in j.records
    )
    assert tree.journals.size_bytes == total
    assert tree.journals.entries == sum(len(j.records) for j in tree.journals.by_dn.values())


def test_one_huge_message_is_cut_and_does_not_push_out_the_rest() -> None:
    tree = new_tree()
    tree.leveled("a").info("small")
    tree.leveled("a").info("x" * 10_000_000)
    small, huge = read(tree)
    assert small == "small"
    assert len(huge) == 32_768 + 3
    assert huge.endswith("x...")


@pytest.mark.parametrize(
    ("writes", "expected"),
    [
        ([b"one\n"], [(b"one", 3)]),
        ([b"one\ntwo\n"], [(b"one", 3), (b"two", 3)]),
        ([b"o", b"n", b"e\ntw", b"o\nthr"], [(b"one", 3), (b"two", 3)]),
        ([b"\n\n"], [(b"", 0), (b"", 0)]),
        ([b"dos\r\n"], [(b"dos", 3)]),
        ([b"x" * 1024 + b"\n"], [(b"x" * 1024, 1024)]),
        ([b"x" * 1025 + b"\n"], [(b"x" * 1024, 1025)]),
        (
            [b"x" * 1000, b"y" * 1_000_000, b"\nz\n"],
            [(b"x" * 1000 + b"y" * 24, 1_001_000), (b"z", 1)],
        ),
        ([b"\xff\xfe\n"], [(b"\xff\xfe", 2)]),
        ([b"partial"], []),
    ],
    ids=range(10),
)
def test_raw_lines_are_cut_at_newlines_and_at_the_limit(
    writes: list[bytes], expected: list[tuple[bytes, int]]
) -> None:
    tree = new_tree()
    raw = tree.raw("a")
    for data in writes:
        assert raw.write(data) == len(data)
    entries = tree.read("a", EVERYTHING).backlog
    assert entries == [RawEntry("a", data, length) for data, length in expected]


def test_a_partial_line_appears_when_its_writer_closes() -> None:
    tree = new_tree()
    raw = tree.raw("a")
    raw.write(b"last words")
    assert read(tree) == []
    raw.close()
    raw.close()
    assert read(tree) == ["last words"]


def test_a_large_backlog_comes_in_pieces() -> None:
    tree = new_tree()
    for number in range(4500):
        tree.leveled("a").info("%d", number)
    reader = tree.read("a", EVERYTHING)
    chunks = list(reader.backlog_chunks())
    assert [len(chunk) for chunk in chunks] == [2000, 2000, 500]
    assert [entry for chunk in chunks for entry in chunk] == reader.backlog
