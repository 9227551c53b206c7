# SPDX-License-Identifier: Apache-2.0
"""Logs of libraries reach the log tree, and only while the bridge stands."""

import asyncio
import logging
from datetime import UTC, datetime

from metropolis.supervision import LeveledEntry, LogTree, ReadOptions, Severity
from metropolis.supervision.logging_bridge import LoggingBridge


class Clock:
    def monotonic_s(self) -> float:
        return 0.0

    def wall(self) -> datetime:
        return datetime(2022, 1, 1, tzinfo=UTC)


def entries(tree: LogTree) -> list[LeveledEntry]:
    reader = tree.read("", ReadOptions(with_children=True, backlog=None))
    return [entry for entry in reader.backlog if isinstance(entry, LeveledEntry)]


def test_records_arrive_under_the_name_of_their_library() -> None:
    async def main() -> None:
        tree = LogTree(clock=Clock())
        tree.conceal(b"hunter2")
        bridge = LoggingBridge(tree, libraries={"somelib": "library.somelib"})
        bridge.install()
        logging.getLogger("somelib").warning("%d of %s", 1, "hunter2")
        logging.getLogger("somelib.Server-1.conn").error("bad")
        logging.getLogger("somelib").info("dropped: below the level")
        logging.getLogger("otherlib").debug("not ours")
        try:
            raise OSError("no carrier")
        except OSError:
            logging.getLogger("somelib").critical("failed", exc_info=True)
        bridge.remove()
        bridge.remove()
        assert not logging.getLogger("somelib").handlers
        assert logging.getLogger("somelib").propagate
        first, second, third = entries(tree)
        assert (first.dn, first.lines) == ("library.somelib", ("1 of <redacted>",))
        assert (first.severity, first.file) == (Severity.WARNING, "test_logging_bridge.py")
        assert (second.dn, second.severity) == ("library.somelib.server_1.conn", Severity.ERROR)
        assert third.severity is Severity.FATAL
        assert third.lines[0] == "failed: OSError: no carrier"

    asyncio.run(main())


def test_a_record_of_another_thread_is_handed_to_the_loop() -> None:
    async def main() -> None:
        tree = LogTree(clock=Clock())
        bridge = LoggingBridge(tree, libraries={"somelib": "library.somelib"})
        bridge.install()
        await asyncio.to_thread(logging.getLogger("somelib").warning, "from afar")
        await asyncio.sleep(0)
        bridge.remove()
        assert [entry.lines for entry in entries(tree)] == [("from afar",)]

    asyncio.run(main())


def test_a_record_that_cannot_be_formatted_upsets_nobody() -> None:
    async def main() -> None:
        tree = LogTree(clock=Clock())
        bridge = LoggingBridge(tree, libraries={"somelib": "library.somelib"})
        bridge.install()
        raise_errors, logging.raiseExceptions = logging.raiseExceptions, False
        logging.getLogger("somelib").warning("%d", "not a number")
        logging.raiseExceptions = raise_errors
        bridge.remove()

    asyncio.run(main())
