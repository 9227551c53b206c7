# SPDX-License-Identifier: Apache-2.0
"""What is different for a person at a terminal: pictures, colours, questions, Ctrl-C."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from kits.metal import Replica
from metropolis.metal.seed import SHOP, SHOP_NETWORK
from unit.ctl.metal.conftest import Metalctl

COMMAND = (sys.executable, "-m", "metropolis.ctl.metal.main")
QUESTION = "Type yes: "


def at_terminal(arguments: Sequence[str], answer: str = "") -> tuple[int, str]:
    """Run the program on a terminal; answer its question, if it has one."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": "src", "TERM": "xterm", "LANG": "C.UTF-8"}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen(
        [*COMMAND, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as running:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 65536)
            except OSError:  # that is how a terminal ends
                break
            if answer and shown.decode(errors="ignore").endswith(QUESTION):
                os.write(ours, f"{answer}\n".encode())
                answer = ""
        os.close(ours)
        return running.wait(), shown.decode().replace("\r", "")


def test_a_terminal_gets_pictures_and_colours_and_a_pipe_gets_words(admin: Metalctl) -> None:
    machine = "00000000-0000-0000-0000-000100000002"
    admin("machine", "lock", machine, "--description", "x")
    admin("machine", "identify", "on", machine)
    status, shown = at_terminal(["machine", "list"])
    assert (status, "🔒" in shown, "locked" in shown) == (0, True, False)
    assert f"\x1b[34m{machine}\x1b[0m" in shown
    piped = admin("machine", "list").out
    assert ("🔒" in piped, "locked" in piped, "\x1b" in piped) == (False, True, False)
    admin("machine", "identify", "off", machine)
    admin("machine", "lock", machine, "--remove")


@pytest.mark.parametrize(("answer", "status"), [("no", 1), ("y", 1), ("yes", 0)])
def test_only_yes_in_full_deletes(admin: Metalctl, answer: str, status: int) -> None:
    assert admin("size", "create", "--id", "x-9").status in (0, 1)  # there from the case before
    done, shown = at_terminal(["size", "delete", "x-9"], answer)
    assert (done, "size: delete 1: x-9. Type yes: " in shown) == (status, True)
    assert (admin("size", "describe", "x-9").status == 0) == (answer != "yes")
    admin("size", "delete", "x-9")


def test_who_really_means_it_is_not_asked(admin: Metalctl) -> None:
    admin("size", "create", "--id", "x-9")
    status, shown = at_terminal(["size", "delete", "x-9", "--yes-i-really-mean-it"])
    assert (status, QUESTION in shown) == (0, False)


def test_many_changes_are_shown_in_colours_before_they_are_made(
    admin: Metalctl, tmp_path: Path
) -> None:
    path = tmp_path / "sizes.yaml"
    path.write_text("[{id: x-8, constraints: []}, {id: x-9, constraints: []}]", "utf-8")
    status, shown = at_terminal(["size", "apply", "-f", str(path)], "no")
    assert status == 1
    assert "\x1b[32m+id: x-8\x1b[0m" in shown
    assert "size: create 2. Type yes: " in shown
    assert admin("size", "describe", "x-8").status == 1


def test_ctrl_c_ends_the_waiting_and_not_the_machine(admin: Metalctl, served: Replica) -> None:
    spare = "00000000-0000-0000-0000-000200000001"
    assert served.url == os.environ["METALCTL_API_URL"]
    arguments = ["--id", spare, "--project", SHOP, "--partition", "mini-lab", "--hostname", "c"]
    arguments += ["--size", "v1-small-x86", "--image", "ubuntu-24.04", "--networks", SHOP_NETWORK]
    with subprocess.Popen(
        [*COMMAND, "machine", "create", *arguments, "--wait"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": "src"},
    ) as running:
        assert running.stderr is not None
        assert "Ctrl-C stops the waiting" in running.stderr.readline()
        running.send_signal(signal.SIGINT)
        rest = running.stderr.read()
        assert running.wait() == 130
    assert f"It goes on without you: `metalctl machine logs {spare}`." in rest
    assert "Traceback" not in rest
    assert admin("machine", "describe", spare).out.count("hostname: c\n") == 1
    assert admin("machine", "delete", spare).status == 0
