# SPDX-License-Identifier: Apache-2.0
"""The demo of the handbook: somebody types its commands, and sees what it shows."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from golden.docs.pages import HANDBOOK
from kits.transcript import Exchange, Transcript, exchanges
from metropolis.image.bundle import write_bundle
from metropolis.lab.cluster import LabCluster
from metropolis.lab.leftovers import find_processes
from metropolis.lab.main import INTERRUPTED
from metropolis.lab.state import ClusterDirectory

PAGE = HANDBOOK / "demo-cluster.md"
BIN = Path(sys.executable).parent
NAME = "demo"
WAIT_S = 300.0  # of an installation, on a busy computer without KVM
COMMAND_TIMEOUT_S = 100
ASK_AGAIN_S = 3.0  # answers cost an emulated processor work
TRY_AGAIN = 2
# What makes the files that the fixture has, and the short way.
NOT_TYPED = {
    "make launch",
    "make release",
    "mkdir ~/demo",
    "cp build/release/metroctl build/release/bundle.zip ~/demo",
    "export PATH=~/demo:$PWD/.venv/bin:$PATH",
    "cd ~/demo",
}
# What changes nothing can be asked until it says what is shown, as a reader would.
QUESTIONS = ("approve", "list", "describe", "explain", "status", "logs", "console")
SAYS_YES = "Type yes in full: "


class Reader:
    """Somebody who has a bundle and the page."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._transcript = Transcript()
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith("XDG_")
        } | {
            "HOME": str(home),
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",  # lines in the order in which a terminal shows them
        }

    @property
    def cluster(self) -> LabCluster:
        return LabCluster(
            ClusterDirectory(self.home / ".local" / "state" / "metropolis" / "clusters" / NAME)
        )

    def follow(self, exchange: Exchange) -> None:
        """Type a command, once or until it says what the page shows."""
        command = self._transcript.spoken(exchange.command)
        shown = [line.replace("/root/", f"{self.home}/") for line in exchange.shown]
        words = command.split()
        asks_for_somebody = words[-2] == "approve"  # and is no question
        is_question = not asks_for_somebody and not {*words}.isdisjoint(QUESTIONS)
        if words[-3:] == ["--follow", "--name", NAME]:
            self._watch(command, shown)
            return
        wanted = 1 if shown and shown[0].startswith("error: ") else 0
        deadline_s = time.monotonic() + WAIT_S
        while True:
            status, said = self.type(command)
            missing = self._transcript.first_missing(shown, said)
            if status == wanted and missing is None:
                return
            may_wait = is_question or status == TRY_AGAIN
            if not may_wait or time.monotonic() > deadline_s:
                pytest.fail(
                    f"$ {command}\n{said}\nexit status {status}, the page shows {missing!r}\n"
                    f"{self._consoles()}"
                )
            time.sleep(ASK_AGAIN_S)

    def _watch(self, command: str, shown: Sequence[str]) -> None:
        """Type a command that goes on until it is interrupted: when all has been seen."""
        said, missing = "", None
        with subprocess.Popen(
            ["/bin/bash", "-c", f"exec {command}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.home / "demo",
            env=self._environment,
        ) as process:
            assert process.stdout is not None
            bound = threading.Timer(WAIT_S, process.kill)
            bound.start()
            for line in process.stdout:
                said += line
                if (missing := self._transcript.first_missing(shown, said)) is None:
                    break
            bound.cancel()
            process.send_signal(signal.SIGINT)
            process.stdout.read()
        assert process.returncode == INTERRUPTED, f"$ {command}\n{said}\nthere is no {missing!r}"

    def type(self, command: str) -> tuple[int, str]:
        done = subprocess.run(
            ["/bin/bash", "-c", command],
            input="yes\n",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.home / "demo",
            env=self._environment,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        # A person's answer is seen, and ends the line.
        return done.returncode, done.stdout.replace(SAYS_YES, f"{SAYS_YES}yes\n")

    def _consoles(self) -> str:
        return "\n".join(
            f"machine {number}:\n" + "\n".join(self.cluster.console(number, lines=40))
            for number in (0, 1)
        )


@pytest.fixture
def reader(image: Path, tmp_path: Path) -> Iterator[Reader]:
    """Has what `make release` makes; afterwards no machine is left."""
    made = Reader(tmp_path)
    (tmp_path / "demo").mkdir()
    write_bundle(image, tmp_path / "demo" / "bundle.zip")
    try:
        yield made
    finally:
        made.type(f"metropolis destroy --name {NAME} --yes")
    assert find_processes(made.cluster.directory) == []


@pytest.mark.timeout(1200)
def test_the_demo_can_be_followed_word_by_word(reader: Reader) -> None:
    page = exchanges(PAGE)
    assert {each.command for each in page} >= NOT_TYPED
    for exchange in page:
        if exchange.command not in NOT_TYPED:
            reader.follow(exchange)
    assert not reader.cluster.directory.path.exists()
    assert {path.name for path in (reader.home / "demo").iterdir()} == {
        "bundle.zip",
        "bootstrap-node-installer.img",
        "second-node-installer.img",
    }
