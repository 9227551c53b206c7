# SPDX-License-Identifier: Apache-2.0
"""Every command and flag that people know of `metalctl` is there, and the program starts fast."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from metropolis.ctl.command_line import Branch, CommandGroup, Leaf
from metropolis.ctl.metal.command_tree import TREE
from metropolis.ctl.metal.entities import ENTITIES, entity_of
from metropolis.ctl.metal.options import METALCTL
from metropolis.ctl.metal.places import PLACES
from unit.ctl.metal.conftest import Metalctl

ROOT = Path(__file__).resolve().parents[4]
KNOWN = ROOT / "tests" / "golden" / "ctl" / "metal" / "commands.txt"


def leaves(branch: Branch, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Leaf]]:
    for name, what in branch.commands.items():
        if isinstance(what, Leaf):
            yield " ".join((*path, name)), what
        else:
            yield from leaves(what, (*path, name))


def command_of(words: str) -> click.Command:
    """Find a command; a group that has a default stands for it."""
    found: click.Command = CommandGroup("metalctl", TREE, tool=METALCTL, is_root=True)
    branch: Branch | Leaf = TREE
    for word in [*words.split(), ""]:
        assert isinstance(found, click.Group)
        if not word:
            assert isinstance(branch, Branch)
            word = branch.default  # noqa: PLW2901  # what is meant when nothing is named
        ctx = click.Context(found)
        child = found.get_command(ctx, word)
        assert child is not None, f"there is no command {words}"
        assert isinstance(branch, Branch)
        found, branch = child, branch.commands[word]
        if isinstance(branch, Leaf):
            return found
    raise AssertionError(words)


@pytest.mark.parametrize("line", KNOWN.read_text(encoding="utf-8").splitlines())
def test_a_command_that_people_know_is_there_with_its_flags(line: str) -> None:
    words, _, flags = line.partition(":")
    command = command_of(words.removesuffix(" short"))  # of `context`, which takes it as a name
    known = {
        option.removeprefix("--")
        for parameter in command.get_params(click.Context(command, **command.context_settings))
        for option in parameter.opts
    }
    missing = [flag for flag in flags.split() if flag not in known]
    assert not missing, f"{words} lacks {missing}"


@pytest.mark.parametrize(("words", "leaf"), [*leaves(TREE)], ids=lambda each: str(each)[:40])
def test_every_command_of_the_table_has_help_that_ends_in_a_full_stop(
    words: str, leaf: Leaf
) -> None:
    command = command_of(words)
    assert command.name == words.rsplit(maxsplit=1)[-1]
    assert command.help
    assert command.get_short_help_str(300).endswith((".", "!")), command.help
    assert leaf.summary.endswith(".")


def test_every_entity_has_a_place_and_says_what_may_be_written() -> None:
    assert set(ENTITIES) == set(PLACES)
    for words in ENTITIES:
        entity = entity_of(words)
        assert entity.words == words
        roots = {flag.to.partition(".")[0] for flag in entity.create_flags if flag.to}
        named = {"id", "uuid", "meta", entity.key.partition(".")[0]}
        assert roots <= entity.create_fields | named, words
        roots = {flag.to.partition(".")[0] for flag in entity.update_flags if flag.to}
        assert roots <= entity.update_fields, words


def test_help_loads_neither_commands_nor_yaml_nor_a_client(home: Path) -> None:
    code = (
        "import sys; from metropolis.ctl.metal.main import main; main(['--help'])\n"
        "heavy = {'yaml', 'ssl', 'http.client', 'asyncio', 'google.protobuf', 'cryptography',\n"
        "  'metropolis.ctl.metal.entity_commands', 'metropolis.ctl.metal.client'}\n"
        "sys.exit(str(sorted(heavy & set(sys.modules))) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": "src", "HOME": str(home)},
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["machin"], "Did you mean machine?"),
        (["size", "lst"], "Did you mean list?"),
        (["size", "create", "--nam", "x"], "Did you mean --name"),
        (["size", "list", "-o", "jsn"], "Did you mean json?"),
        (["size", "list", "--timeout", "never"], "Give a number of seconds, e.g. 30."),
        (["size", "describe"], "Run `metalctl size describe --help` to see what it takes."),
        (["size", "apply"], "Add -f FILE, or -f - for standard input."),
        (["size", "delete"], "Give its id, or -f FILE."),
        (
            ["size", "create", "--id", "x", "--max", "3"],
            "Add --type cores, memory, storage or gpu.",
        ),
        (["completion", "bsh"], "Did you mean bash"),
        (["update", "do"], "Get the source of that version, and run `make setup` in it."),
    ],
    ids=lambda each: " ".join(each)[:30] if isinstance(each, list) else "",
)
def test_what_is_mistyped_is_refused_with_a_remedy(
    metalctl: Metalctl, arguments: list[str], remedy: str
) -> None:
    done = metalctl(*arguments)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("error: ")
    assert f"remedy: {remedy}" in done.err


def test_without_a_place_to_call_nothing_is_dialled(metalctl: Metalctl) -> None:
    done = metalctl("size", "list")
    assert done.status == 1
    assert done.err.startswith("error: nothing says where the Metal API is\nremedy: Give --api-url")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_the_program(metalctl: Metalctl, shell: str) -> None:
    done = metalctl("completion", shell)
    assert done.status == 0
    assert f"_METALCTL_COMPLETE={shell}_complete" in done.out


def test_markdown_has_a_section_for_every_command(metalctl: Metalctl) -> None:
    done = metalctl("markdown")
    headings = [line[3:] for line in done.out.splitlines() if line.startswith("## ")]
    assert headings[:-1] == [f"metalctl {words}" for words, _ in leaves(TREE)]
    assert headings[-1] == "Templates"
