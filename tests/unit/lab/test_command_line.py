# SPDX-License-Identifier: Apache-2.0
"""The command line of `metropolis`: help without imports, mistakes with remedies."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from typing_extensions import override

from metropolis.lab import main as program
from metropolis.lab.progress import Progress


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("DRIVER", raising=False)
    return tmp_path


def test_help_imports_no_command_and_nothing_heavy() -> None:
    code = (
        "import sys\nfrom metropolis.lab.main import main\nmain(['--help'])\n"
        "heavy = ('asyncio', 'cryptography', 'google.protobuf', 'grpclib', 'rich', 'uvloop')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for command in ("launch", "status", "stop", "start", "destroy", "sim"):
        assert f"  {command} " in done.stdout


@pytest.mark.parametrize(
    ("words", "error", "remedy"),
    [
        (["lanch"], "metropolis has no command 'lanch'", "Did you mean launch?"),
        (["launch", "--nods", "3"], "there is no option --nods", "Did you mean --nodes?"),
        (["launch", "--nodes", "ten"], "'ten' is not a valid integer", "--help"),
        (["launch", "--nodes", "10"], "1 to 9 nodes, not 10", "a number from 1 to 9"),
        (["launch", "--driver", "docker"], "no driver 'docker'", "--driver namespace"),
        (["launch", "--name", "../x"], "cannot be the name of a cluster", "a-z, 0-9"),
        (["status", "--name", "no"], "no cluster named 'no'", "metropolis launch --name no"),
        (["stop", "--name", "no"], "no cluster named 'no'", "metropolis launch --name no"),
        (["start", "--name", "no"], "no cluster named 'no'", "metropolis launch --name no"),
        (["rack", "--nodes", "0"], "1 to 9 nodes, not 0", "a number from 1 to 9"),
        (["power", "0", "on", "--name", "no"], "no cluster named 'no'", "metropolis launch"),
        (["power", "0", "off", "--medium", "x"], "before a machine is switched on", "power 0 cut"),
        (["sim"], "either --seed or --seeds", "--seeds 10"),
    ],
)
def test_every_mistake_names_the_fix(
    words: list[str], error: str, remedy: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(words) == 1
    said = capsys.readouterr()
    assert said.out == ""
    first, second = said.err.splitlines()
    assert first.startswith("error: ")
    assert error in first
    assert second.startswith("remedy: ")
    assert remedy in second
    assert not (home / "state").exists()


def test_destroying_what_does_not_exist_is_done_already(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["destroy", "--name", "no", "--yes"]) == 0
    assert "There is no cluster named 'no'" in capsys.readouterr().err
    assert not (home / "state").exists()


def test_the_nearest_cluster_is_suggested(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = home / "state" / "metropolis" / "clusters" / "production"
    directory.mkdir(parents=True)
    (directory / "cluster.json").write_text("{}")
    assert program.main(["status", "--name", "prodction"]) == 1
    assert "Did you mean production?" in capsys.readouterr().err


def test_off_a_terminal_every_wait_is_one_line() -> None:
    stream = io.StringIO()
    progress = Progress(stream, title="launch")
    for what in ("a", "a", "b"):
        progress.awaiting(what)
    progress.say("done")
    progress.awaiting("b")
    assert stream.getvalue().splitlines() == [
        "launch: waiting for a …",
        "launch: waiting for b …",
        "launch: done",
        "launch: waiting for b …",
    ]


def test_on_a_terminal_there_is_one_live_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    class Terminal(io.StringIO):
        @override
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    progress = Progress(stream, title="launch")
    progress.awaiting("a")
    progress.awaiting("b" * 200)
    progress.say("done")
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text.endswith("\r\x1b[Klaunch: done\n")
    assert max(len(part) for part in text.split("\r\x1b[K")) < 80
