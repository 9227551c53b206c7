# SPDX-License-Identifier: Apache-2.0
"""The log tree: every log line of a node, by the DN of who wrote it, in bounded memory.

Single-threaded: it belongs to the event loop. Library loggers of other threads reach it through
`metropolis.supervision.logging_bridge`.
"""

from contextlib import suppress
from sys import _getframe  # pyright: ignore[reportPrivateUsage]  # documented, and the cheap way

from metropolis.base.errors import InvalidArgumentError
from metropolis.host import Clock
from metropolis.supervision.entries import LeveledLine, Severity
from metropolis.supervision.journal import (
    BYTES_MAX,
    ENTRIES_MAX,
    PER_DN_MAX,
    RAW,
    Journal,
    Journals,
    Record,
    newest_first,
)
from metropolis.supervision.lines import RAW_LINE_BYTES_MAX, LineBuffer
from metropolis.supervision.names import is_dn, is_within
from metropolis.supervision.reader import LogReader, ReadOptions
from metropolis.supervision.redaction import PemLines, Redaction

TEXT_CHARS_MAX = 32_768  # of one leveled entry; a longer one is cut, and ends in "..."
_PEM_END = b"PRIVATE KEY-----"

_INFO, _WARNING, _ERROR, _FATAL = map(int, Severity)


class LogTree:
    """Journals by DN, who reads them, and the secrets that must not enter them."""

    def __init__(
        self,
        *,
        clock: Clock,
        per_dn_max: int = PER_DN_MAX,
        entries_max: int = ENTRIES_MAX,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        self.journals = Journals(
            per_dn_max=per_dn_max, entries_max=entries_max, bytes_max=bytes_max
        )
        self.redaction = Redaction()
        self.wall = clock.wall
        self.is_guarded = False  # whether any secret is known
        self._readers: dict[LogReader, str] = {}

    def leveled(self, dn: str) -> "Logger":
        """Return a logger at `dn`, which springs into existence on use."""
        return Logger(self, self._journal(dn))

    def raw(self, dn: str) -> "RawLogger":
        """Return a writer of other programs' lines at `dn`."""
        return RawLogger(self, self._journal(dn))

    def set_verbosity(self, dn: str, level: int) -> None:
        """Let `Logger.detail` entries up to `level` through, at exactly this DN. 0 is none."""
        self._journal(dn).verbosity = level

    def conceal(self, secret: bytes) -> None:
        """Replace `secret`, in every usual spelling, by `<redacted>` in all later entries."""
        self.redaction.conceal(secret)
        self.is_guarded = True

    def clean(self, text: str) -> str:
        """Return what of `text` may enter a journal: no secrets, bounded length."""
        text = self.redaction.text(text)
        return text if len(text) <= TEXT_CHARS_MAX else f"{text[:TEXT_CHARS_MAX]}..."

    def read(self, dn: str, options: ReadOptions) -> LogReader:
        """Open a reader. A DN nobody logged to is no error: its log is empty.

        Raises:
            InvalidArgumentError: `dn` is not a DN.
        """
        if not is_dn(dn):
            raise InvalidArgumentError(
                "invalid DN", remedy="Write names joined by single dots, like root.role."
            )
        backlog: list[Record] = []
        if options.backlog != 0:
            matching = [j for j in self.journals.by_dn.values() if _matches(j.dn, dn, options)]
            backlog = newest_first(matching, options.wants, count=options.backlog)
        reader = LogReader(options, backlog, closed=self._forget)
        if options.stream:
            self._readers[reader] = dn
            for journal in self.journals.by_dn.values():
                if _matches(journal.dn, dn, options):
                    journal.listeners = (*journal.listeners, reader.offer)
        return reader

    def close(self) -> None:
        """End every stream; the journals stay readable."""
        for reader in list(self._readers):
            reader.close()

    def _journal(self, dn: str) -> Journal:
        journal = self.journals.by_dn.get(dn)
        if journal is None:
            assert is_dn(dn), f"{dn!r} is not a DN"
            journal = self.journals.by_dn[dn] = Journal(dn)
            journal.listeners = tuple(
                reader.offer
                for reader, wanted in self._readers.items()
                if _matches(dn, wanted, reader.options)
            )
        return journal

    def _forget(self, reader: LogReader) -> None:
        if self._readers.pop(reader, None) is None:
            return
        for journal in self.journals.by_dn.values():
            if reader.offer in journal.listeners:
                journal.listeners = tuple(x for x in journal.listeners if x != reader.offer)


def _matches(dn: str, wanted: str, options: ReadOptions) -> bool:
    return is_within(dn, wanted) if options.with_children else dn == wanted


class Logger:
    """Writes leveled entries at one DN. Text is fixed, values are arguments: `("%s => %s", a, b)`.

    Arguments are formatted at once, so later changes to them do not change the entry. FATAL does
    not exit; it says that a runnable ended.
    """

    __slots__ = ("_depth", "_journal", "_tree")

    def __init__(self, tree: LogTree, journal: Journal, *, depth: int = 2) -> None:
        self._tree = tree
        self._journal = journal
        self._depth = depth

    @property
    def dn(self) -> str:
        """Where the entries go."""
        return self._journal.dn

    def info(self, message: str, *args: object) -> None:
        """Say that a state changed or a decision was taken."""
        self._log(_INFO, message, args)

    def warning(self, message: str, *args: object) -> None:
        """Say that something went wrong and was handled."""
        self._log(_WARNING, message, args)

    def error(self, message: str, *args: object) -> None:
        """Say that someone must act, and how."""
        self._log(_ERROR, message, args)

    def fatal(self, message: str, *args: object) -> None:
        """Say that this runnable ends here."""
        self._log(_FATAL, message, args)

    def detail(self, level: int, message: str, *args: object) -> None:
        """Say more than an operator wants, if the verbosity of this DN is at least `level`."""
        if level <= self._journal.verbosity:
            self._log(_INFO, message, args)

    def with_added_stack_depth(self, frames: int) -> "Logger":
        """Return a logger that names the caller `frames` levels above the immediate one."""
        return Logger(self._tree, self._journal, depth=self._depth + frames)

    def entry(self, line: LeveledLine) -> None:
        """Log what came from outside, with its own time and location."""
        wall = line.timestamp or self._tree.wall()  # both aware and in UTC
        text = self._tree.clean(line.text)
        journals = self._tree.journals
        journals.append(self._journal, line.severity, wall, line.file, line.line, text)

    def _log(self, severity: int, message: str, args: tuple[object, ...]) -> None:
        tree = self._tree
        try:
            frame = _getframe(self._depth)
            text = message % args if args else message
            if tree.is_guarded or "-----BEGIN" in text or len(text) > TEXT_CHARS_MAX:
                text = tree.clean(text)
        except Exception:  # noqa: BLE001  # an argument's __str__ may raise anything
            self._log_badly(severity, message, args)
            return
        wall = tree.wall()
        tree.journals.append(self._journal, severity, wall, frame.f_code, frame.f_lasti, text)

    def _log_badly(self, severity: int, message: object, args: tuple[object, ...]) -> None:
        """Log what can be saved of a call that would raise: a log line never ends its writer."""
        place, line = "???", 1
        with suppress(ValueError):  # the stack is not that deep
            frame = _getframe(self._depth + 1)
            place, line = frame.f_code.co_filename, frame.f_lineno
        text = f"{message} (called with arguments that cannot be formatted)"
        with suppress(Exception):
            text = str(message) % args if args else str(message)
        text = self._tree.clean(text)
        wall = self._tree.wall()
        self._tree.journals.append(self._journal, severity, wall, place, line, text)


class RawLogger:
    """Writes what other programs print, at one DN, line by line.

    Lines longer than `RAW_LINE_BYTES_MAX` are cut; their original length is kept.
    """

    __slots__ = ("_journal", "_lines", "_pem", "_tree")

    def __init__(self, tree: LogTree, journal: Journal) -> None:
        self._tree = tree
        self._journal = journal
        self._lines = LineBuffer()
        self._pem = PemLines()

    @property
    def dn(self) -> str:
        """Where the lines go."""
        return self._journal.dn

    def write(self, data: bytes) -> int:
        """Log every line that `data` completes; a partial line waits for its newline."""
        for line, length in self._lines.feed(data):
            self.line(line, original_length=length)
        return len(data)

    def close(self) -> None:
        """Log the partial line, if there is one."""
        for line, length in self._lines.flush():
            self.line(line, original_length=length)

    def line(self, data: bytes, *, original_length: int | None = None) -> None:
        """Log one line, given without its newline."""
        length = len(data) if original_length is None else original_length
        redacted = self._tree.redaction.data(self._pem.line(data))
        kept = redacted[:RAW_LINE_BYTES_MAX]
        if redacted is not data:  # lengths of a secret are nobody's business either
            length = max(len(redacted), length - len(data) + len(redacted))
        self._tree.journals.append(self._journal, RAW, None, "", length, kept)
