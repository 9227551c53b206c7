# SPDX-License-Identifier: Apache-2.0
"""Logs of libraries (`logging`) as entries of the log tree.

Only libraries use `logging`; our own code logs through its context. Records of other threads are
handed to the loop's thread first, because the log tree belongs to it.
"""

import asyncio
import logging
import re
import threading
from collections.abc import Mapping

from typing_extensions import override

from metropolis.supervision.entries import LeveledLine, Severity
from metropolis.supervision.failure import describe
from metropolis.supervision.log_tree import LogTree
from metropolis.supervision.names import NAME_LENGTH_MAX

LIBRARIES: Mapping[str, str] = {"asyncio": "library.asyncio", "grpclib": "library.grpclib"}

_NOT_IN_NAMES = re.compile(r"[^a-z0-9_]+")


class LogTreeHandler(logging.Handler):
    """Sends records of one library to a DN; loggers below it go to DNs below that one."""

    def __init__(self, log_tree: LogTree, *, library: str, dn: str, level: int) -> None:
        super().__init__(level)
        self._log_tree = log_tree
        self._library = library
        self._dn = dn
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    @override
    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = _line_of(record)
            if threading.get_ident() == self._thread:
                self._write(record.name, line)
            else:
                self._loop.call_soon_threadsafe(self._write, record.name, line)
        except Exception:  # noqa: BLE001  # logging's own rule: a handler never raises
            self.handleError(record)

    def _write(self, logger: str, line: LeveledLine) -> None:
        below = logger.removeprefix(self._library).strip(".").lower().split(".")
        names = [_NOT_IN_NAMES.sub("_", name)[:NAME_LENGTH_MAX] for name in below if name]
        self._log_tree.leveled(".".join([self._dn, *names])).entry(line)


class LoggingBridge:
    """Routes libraries' logs into the log tree from `install` to `remove`."""

    def __init__(
        self,
        log_tree: LogTree,
        *,
        libraries: Mapping[str, str] = LIBRARIES,
        level: int = logging.WARNING,
    ) -> None:
        """Choose what to route.

        Args:
            libraries: Name of the library's top logger -> DN.
            level: Records below this level of `logging` are dropped.
        """
        self._log_tree = log_tree
        self._libraries = dict(libraries)
        self._level = level
        self._handlers: dict[str, tuple[LogTreeHandler, bool]] = {}

    def install(self) -> None:
        """Start routing. Call it inside the running event loop, once."""
        assert not self._handlers, "the bridge is installed already"
        for library, dn in self._libraries.items():
            handler = LogTreeHandler(self._log_tree, library=library, dn=dn, level=self._level)
            logger = logging.getLogger(library)
            self._handlers[library] = (handler, logger.propagate)
            logger.addHandler(handler)
            logger.propagate = False  # not to stderr as well

    def remove(self) -> None:
        """Stop routing; `logging` is as before. Removing twice is fine."""
        for library, (handler, propagate) in self._handlers.items():
            logger = logging.getLogger(library)
            logger.removeHandler(handler)
            logger.propagate = propagate
        self._handlers.clear()


def _line_of(record: logging.LogRecord) -> LeveledLine:
    text = record.getMessage()
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        failure = describe(error)
        text = "\n".join([f"{text}: {failure.summary}", *failure.lines[1:]])
    return LeveledLine(
        text=text, severity=_severity(record.levelno), file=record.pathname, line=record.lineno
    )


def _severity(level: int) -> Severity:
    if level >= logging.CRITICAL:
        return Severity.FATAL
    if level >= logging.ERROR:
        return Severity.ERROR
    return Severity.WARNING if level >= logging.WARNING else Severity.INFO
