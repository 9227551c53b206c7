# SPDX-License-Identifier: Apache-2.0
"""Somebody who has only the page: types its commands as they stand there, against a lab cluster."""

import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from e2e.cluster.site import CALM_S, METROCTL, Outcome, Site

TRY_AGAIN = 2  # the exit status of what may succeed later, see the handbook
PAGE = Path(__file__).resolve().parents[3] / "docs" / "handbook" / "troubleshooting-and-runbooks.md"
COMMAND_TIMEOUT_S = 60
_HEADING = re.compile(r"^## (.+)$")


def commands_on_the_page() -> dict[str, list[str]]:
    """The commands of `console` blocks, by the heading that they stand below."""
    found: dict[str, list[str]] = {}
    heading = ""
    is_console = False
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if (match := _HEADING.match(line)) is not None:
            heading = match[1]
        elif line.strip().startswith("```"):
            is_console = line.strip() == "```console"
        elif is_console and line.startswith("$ "):
            found.setdefault(heading, []).append(line[2:])
    return found


class Reader:
    """Runs commands of the page, and knows which ones were never run."""

    def __init__(self, site: Site, home: Path) -> None:
        self.site = site
        self.home = home
        self._page = commands_on_the_page()
        self._run: set[tuple[str, str]] = set()

    @property
    def left(self) -> list[tuple[str, str]]:
        """What the page shows and nobody has run."""
        return [
            (heading, line)
            for heading, lines in self._page.items()
            for line in lines
            if (heading, line) not in self._run
        ]

    def try_(self, heading: str, line: str, *, stdin: str = "", **words: str) -> Outcome:
        """Run a command that stands below a heading, with its placeholders filled in."""
        assert line in self._page[heading], f"{heading}: the page does not say {line!r}"
        self._run.add((heading, line))
        program, *arguments = (words.get(word, word) for word in shlex.split(line))
        assert program == "metroctl"
        return self.aside(*arguments, stdin=stdin)

    def aside(self, *arguments: str, stdin: str = "") -> Outcome:
        """Run a command that the page does not show."""
        done = subprocess.run(
            [METROCTL, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=self.home,
            env={**os.environ, "HOME": str(self.home), "XDG_CONFIG_HOME": str(self.home / "x")},
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        return Outcome(status=done.returncode, out=done.stdout, err=done.stderr)

    def answer(self, *arguments: str) -> Outcome:
        """Repeat a command that the page does not show for as long as it says "try again".

        Right after a revocation a call may end with its connection instead of an answer.
        """
        deadline_s = time.monotonic() + CALM_S
        while (outcome := self.aside(*arguments)).status == 2:
            assert time.monotonic() < deadline_s, outcome
        return outcome

    def do(self, heading: str, line: str, *, stdin: str = "", **words: str) -> Outcome:
        """Run a command that must succeed; as a person would, again if it says "try again"."""
        deadline_s = time.monotonic() + CALM_S
        while True:
            outcome = self.try_(heading, line, stdin=stdin, **words)
            if outcome.status != TRY_AGAIN or time.monotonic() > deadline_s:
                break
        assert outcome.status == 0, (heading, line, outcome, self.site.consoles())
        return outcome

    def wait(
        self, heading: str, line: str, until: Callable[[Outcome], bool], **words: str
    ) -> Outcome:
        """Repeat a command until it says what it should; each takes long enough by itself."""
        deadline_s = time.monotonic() + CALM_S
        while True:
            outcome = self.try_(heading, line, **words)
            if outcome.status == 0 and until(outcome):
                return outcome
            assert time.monotonic() < deadline_s, (heading, line, outcome, self.site.consoles())
