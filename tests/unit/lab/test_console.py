# SPDX-License-Identifier: Apache-2.0
"""What machines print: kept, bounded, private."""

from pathlib import Path

from metropolis.lab.console import ConsoleLog, ConsoleReader, last_lines, plain


def test_a_console_never_takes_more_than_twice_its_limit(tmp_path: Path) -> None:
    console = ConsoleLog(tmp_path / "console.log", bytes_max=100)
    for number in range(100):
        console.write([b"line %d" % number])
    console.close()
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"console.log", "console.log.1"}
    assert all(size <= 100 for size in sizes.values())
    assert last_lines(tmp_path / "console.log", 1) == ("line 99",)


def test_a_console_goes_on_where_it_ended_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    for text in (b"first boot", b"second boot"):
        console = ConsoleLog(path)
        console.write([text])
        console.close()
    assert last_lines(path, 5) == ("first boot", "second boot")
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_console_that_cannot_be_written_loses_lines_and_nothing_else(tmp_path: Path) -> None:
    console = ConsoleLog(tmp_path / "missing" / "console.log")
    console.write([b"lost"])
    (tmp_path / "missing").mkdir()
    console.write([b"kept"])
    console.close()
    assert last_lines(tmp_path / "missing" / "console.log", 5) == ("kept",)


def test_a_machine_that_never_ran_printed_nothing(tmp_path: Path) -> None:
    assert last_lines(tmp_path / "console.log", 5) == ()


def test_a_reader_goes_on_where_it_was_even_when_a_full_file_is_renamed(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    log = ConsoleLog(path, bytes_max=20)
    reader = ConsoleReader(path)
    assert reader.read() == ""
    log.write([b"first"])
    assert reader.read() == "first\n"
    assert reader.read() == ""
    log.write([b"second", b"third"])
    log.write([b"fourth line"])  # the file is full: this is in the next one
    assert reader.read() == "second\nthird\nfourth line\n"


def test_a_reader_begins_behind_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    path.write_bytes(b"old\n")
    reader = ConsoleReader(path)
    with path.open("ab") as file:
        file.write(b"new\n")
    assert reader.read() == "new\n"


def test_what_would_clear_a_terminal_is_not_shown() -> None:
    said = "\x1b[2J\x1b[01;01H\x1b[=3hBdsDxe: loading\r\n\tnext\x07 line\x1bc"
    assert plain(said) == "BdsDxe: loading\n\tnext line"
