# SPDX-License-Identifier: Apache-2.0
"""Every mistake on the command line names the fix, and every help text is what it says."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from metropolis.base.errors import InvalidArgumentError, MetropolisError
from metropolis.ctl.command_line import Branch, CommandGroup, Leaf
from metropolis.ctl.command_tree import TREE
from metropolis.ctl.connection import parse_host
from metropolis.ctl.program import report
from unit.ctl.conftest import Metroctl
from unit.ctl.remote import Remote

METROCTL = (sys.executable, "-m", "metropolis.ctl.metroctl")


def leaves(branch: Branch, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Leaf]]:
    for name, what in branch.commands.items():
        if isinstance(what, Leaf):
            yield (*path, name), what
        else:
            yield from leaves(what, (*path, name))


@pytest.mark.parametrize(("path", "leaf"), list(leaves(TREE)))
def test_every_command_exists_and_its_summary_is_its_help(
    path: tuple[str, ...], leaf: Leaf, metroctl: Metroctl
) -> None:
    done = metroctl([*path, "--help"])
    assert done.status == 0
    group: click.Command = CommandGroup("metroctl", TREE)
    for name in path:
        assert isinstance(group, CommandGroup)
        found = group.get_command(click.Context(group), name)
        assert found is not None
        group = found
    assert group.name == path[-1]
    assert group.help
    if not leaf.is_hidden and "not" not in leaf.summary:
        assert group.help.startswith(leaf.summary.rstrip("."))


@pytest.mark.parametrize(
    ("arguments", "error", "remedy"),
    [
        (["aprove"], "metroctl has no command 'aprove'", "Did you mean approve?"),
        (["node", "lst"], "metroctl node has no command 'lst'", "Did you mean list"),
        (["xyzzy"], "metroctl has no command 'xyzzy'", "Run `metroctl --help`."),
        (["node", "list", "--filtr", "x"], "there is no option --filtr", "Did you mean --filter"),
        (["explain"], "NODE_ID is missing", "Run `metroctl explain --help`"),
        (["--timeout", "soon", "version"], "'soon' is not a timeout", "Give a number"),
        (["version", "--endpoints"], "option '--endpoints' requires an argument", "Run `metroctl"),
        (["node", "logs", "x", "--backlog", "many"], "invalid value for '--backlog'", "Run"),
        (["install", "genusb", "a", "--bootstrap"], "the option --bundle is missing", "--help"),
        (["install", "ssh", "root@x"], "is not in this build", "metroctl install genusb"),
        (["completion", "tcsh"], "there is no completion for 'tcsh'", "zsh"),
        (["--context", "nope", "node", "list"], "no context named 'nope'", "context list"),
        (["--context", "../x", "node", "list"], "cannot be the name of a context", "Use letters"),
        (["--context", "a", "--config", "b", "node", "list"], "exclude each other", "one of"),
        (["--proxy", "nonsense", "node", "list"], "is not a proxy", "HOST:PORT"),
        (["node", "list"], "no cluster is known here", "metropolis launch"),
    ],
)
def test_mistakes_name_the_fix(
    metroctl: Metroctl, arguments: list[str], error: str, remedy: str
) -> None:
    done = metroctl(arguments)
    assert (done.status, done.out) == (1, "")
    first, second = done.err.splitlines()
    assert first.startswith("error: ")
    assert error in first
    assert second.startswith("remedy: ")
    assert remedy in second


def test_a_group_alone_shows_its_commands(metroctl: Metroctl) -> None:
    done = metroctl(["node"])
    assert done.status == 0
    assert "approve" in done.out


@pytest.mark.parametrize("kind", MetropolisError.__subclasses__())
def test_the_exit_status_says_whether_to_try_again(
    kind: type[MetropolisError], capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(kind("it failed")) == (2 if kind.retryable else 1)
    assert "remedy: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("10.1.0.2", "10.1.0.2"),
        ("[fd00::1]", "fd00::1"),
        ("fd00:0::1", "fd00::1"),
        ("node-1.example", "node-1.example"),
    ],
)
def test_endpoints_are_hosts(text: str, host: str) -> None:
    assert parse_host(text) == host


@pytest.mark.parametrize("text", ["10.1.0.2:7835", "", "http://x", "a b", "x" * 300])
def test_endpoints_are_nothing_else(text: str) -> None:
    with pytest.raises(MetropolisError) as caught:
        parse_host(text)
    assert caught.value.remedy


def test_nobody_at_the_address_is_worth_another_try(
    metroctl: Metroctl, remote_flags: list[str]
) -> None:
    done = metroctl([*remote_flags, "node", "list", "--timeout", "1"])
    assert done.status == 2
    assert "tried 127.99.99.98:7835" in done.err
    assert "remedy: " in done.err


def test_an_endpoint_that_never_answers_delays_nobody(metroctl: Metroctl, home: Path) -> None:
    silent = socket.create_server(("127.99.99.97", 7835))  # accepts, then says nothing
    with silent, Remote().running() as remote:
        flags = remote.owned(home / "keys")[:2]
        flags += ["--endpoints", f"127.99.99.97,{remote.address}"]
        started_s = time.monotonic()
        assert metroctl([*flags, "node", "list"]).status == 0
        assert time.monotonic() - started_s < 4.0  # the silent one alone would take ten


def test_what_strangers_say_cannot_move_the_cursor(metroctl: Metroctl, home: Path) -> None:
    with Remote().running() as remote:
        owner = remote.owned(home / "keys")
        remote.own.status.external_address = "\x1b[2J\nx"
        assert "\\x1b[2J x" in metroctl([*owner, "node", "list"]).out
        remote.refusals["GetNodes"] = InvalidArgumentError("a\x1b]0;b\x07\nc", remedy="d\re")
        done = metroctl([*owner, "node", "list"])
        assert done.err == "error: a\\x1b]0;b\\x07 c\nremedy: d e\n"


def test_an_output_file_may_be_a_link_and_stays_one(metroctl: Metroctl, home: Path) -> None:
    link, target = home / "link", home / "target"
    target.write_text("x" * 1000)
    link.symlink_to(target)
    assert metroctl(["version", "--output-file", str(link)]).status == 0
    assert link.is_symlink()
    assert target.read_text() == metroctl(["version"]).out
    done = metroctl(["version", "--output-file", str(home / "none" / "x")])
    assert done.status == 1
    assert "cannot write" in done.err


def test_ctrl_c_ends_the_question_about_the_ca(home: Path) -> None:
    with Remote().running() as remote:
        flags = remote.unowned(home / "keys")
        terminal, theirs = os.openpty()
        with subprocess.Popen(
            [*METROCTL, *flags, "takeownership"],
            stdin=theirs,
            stderr=subprocess.PIPE,
            env={"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": "src"},
        ) as program:
            assert program.stderr is not None
            said = b""
            while b"Type yes in full: " not in said:
                said += os.read(program.stderr.fileno(), 4096)
            program.send_signal(signal.SIGINT)
            assert program.wait(20) == 130
            rest = program.stderr.read()
        os.close(terminal)
        os.close(theirs)
        assert b"Traceback" not in rest
        assert not (home / "keys" / "ca.pem").exists()


@pytest.fixture
def remote_flags(home: Path) -> list[str]:
    remote = Remote()
    remote.address = "127.99.99.98"
    return remote.owned(home / "keys")


def test_a_reader_that_leaves_early_is_no_error(home: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as broken:
        done = subprocess.run(
            [*METROCTL, "completion", "bash"],
            stdout=broken,
            stderr=subprocess.PIPE,
            env={"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": "src"},
            check=False,
            timeout=30,
        )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("arguments", [["--help"], ["context", "list"], ["appro"]])
def test_what_needs_no_cluster_loads_neither_protobuf_nor_tls(
    arguments: list[str], home: Path
) -> None:
    code = (
        "import sys; from metropolis.ctl.metroctl import main; main(sys.argv[1:])\n"
        "heavy = {'google.protobuf', 'OpenSSL', 'cryptography', 'rich', 'asyncio'}\n"
        "sys.exit(str(sorted(heavy & set(sys.modules))) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": "src", "HOME": str(home)},
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_the_program(metroctl: Metroctl, shell: str) -> None:
    done = metroctl(["completion", shell])
    assert done.status == 0
    assert f"_METROCTL_COMPLETE={shell}_complete" in done.out
