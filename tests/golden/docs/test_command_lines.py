# SPDX-License-Identifier: Apache-2.0
"""Every command line that a page shows is one that the programs take."""

import re
import shlex
from collections.abc import Iterator, Sequence

import click
import pytest

from golden.docs.pages import HANDBOOK, PAGES, ROOT, Shown, blocks, named, prose, read
from golden.docs.pages import shown_commands as all_shown
from metropolis.base.errors import MetropolisError
from metropolis.cluster.filters import compile_filter
from metropolis.ctl import configuration
from metropolis.ctl.command_line import CommandGroup
from metropolis.ctl.command_tree import TREE
from metropolis.ctl.metal.command_tree import TREE as METAL_TREE
from metropolis.ctl.metal.options import METALCTL
from metropolis.ctl.settings import Settings
from metropolis.lab.main import make_group

SHOWN = tuple(all_shown())
CHECKED_PROSE = (ROOT / "README.md", ROOT / "docs" / "glossary.md", *sorted(HANDBOOK.glob("*.md")))


def programs() -> dict[str, click.Group]:
    """The programs, fresh: a group keeps nothing, but nobody promises that."""
    return {
        "metroctl": CommandGroup("metroctl", TREE, is_root=True),
        "metalctl": CommandGroup("metalctl", METAL_TREE, tool=METALCTL, is_root=True),
        "metropolis": make_group(),
    }


def parse(group: click.Group, name: str, arguments: Sequence[str]) -> click.Context:
    """Parse a command line down to its leaf; return the leaf's context.

    Raises:
        click.ClickException, MetropolisError: the program would refuse it.
    """
    ctx = group.make_context(name, list(arguments))
    while isinstance(ctx.command, click.Group):
        left = [*getattr(ctx, "_protected_args", ()), *ctx.args]
        if not left:
            return ctx
        child_name, child, rest = ctx.command.resolve_command(ctx, left)
        assert child is not None, f"no command {left[0]}"
        ctx = child.make_context(child_name, rest, parent=ctx)
    return ctx


def words_of(text: str) -> Iterator[list[str]]:
    """Yield the simple commands of a shell line."""
    inner = re.search(r"<\((.+)\)", text)
    lexer = shlex.shlex(inner[1] if inner else text, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    command: list[str] = []
    for word in lexer:
        if set(word) <= set("|&;<>"):
            yield command
            command = []
        else:
            command.append(word)
    yield command


def check(text: str) -> None:
    """Check what can be known of a shell line without running it."""
    for words in words_of(text):
        program, arguments = words[0], words[1:]
        if (name := program.rpartition("/")[2]) in ("metroctl", "metalctl", "metropolis"):
            check_program(name, arguments)
        elif program == "make":
            targets = [word for word in arguments if "=" not in word]
            known = re.findall(r"^([a-z0-9-]+):", read(ROOT / "Makefile"), re.MULTILINE)
            assert set(targets) <= set(known), f"make has no target {targets}"
        elif name == "python" and arguments[0].endswith(".py"):
            assert (ROOT / arguments[0]).is_file(), arguments[0]


def check_program(name: str, arguments: Sequence[str]) -> None:
    """Check a command line of ours, with what its arguments mean where that is cheap."""
    try:
        ctx = parse(programs()[name], name, arguments)
    except click.exceptions.Exit:
        return  # --help
    settings = ctx.find_root().obj
    if isinstance(settings, Settings) and settings.filter_text:
        compile_filter(settings.filter_text)
    if "field" in ctx.params:
        configuration.find(ctx.params["field"])


@pytest.mark.parametrize("shown", SHOWN, ids=[f"{each.place} {each.text[:40]}" for each in SHOWN])
def test_a_shown_command_line_is_one_that_the_program_takes(shown: Shown) -> None:
    try:
        check(shown.text)
    except (click.ClickException, MetropolisError) as error:
        pytest.fail(f"{shown.place}: `{shown.text}`: {error}")


@pytest.mark.parametrize(
    "wrong",
    [
        "metroctl nodes list",
        "metroctl node list --colour",
        "metroctl node logs",
        "metroctl node set labels",
        "metroctl node list --filter 'node.stat == NODE_STATE_UP'",
        "metroctl cluster configure get colour",
        "metalctl machine lst",
        "metalctl size list --colour",
        "metropolis lunch",
        "metropolis launch --nodes three",
        "metropolis status extra",
        "cat x | metroctl approve one two",
        "make lunch",
        "python tools/missing.py",
    ],
)
def test_the_check_would_notice(wrong: str) -> None:
    with pytest.raises((click.ClickException, MetropolisError, AssertionError)):
        check(wrong)


def test_console_blocks_begin_with_a_command() -> None:
    found = [block for page in PAGES for block in blocks(page) if block.language == "console"]
    assert len(found) > 20
    for block in found:
        assert block.lines[0].startswith("$ "), f"{named(block.page)}:{block.line_number}"


def test_commands_named_in_the_text_exist() -> None:
    for page in CHECKED_PROSE:
        for text in re.findall(
            r"`(?:\.venv/bin/)?(met(?:roctl|alctl|ropolis) [^`]+)`", prose(page)
        ):
            name, *words = text.split()
            command: click.Command = programs()[name]
            for word in words:
                if not isinstance(command, click.Group) or word.startswith("-"):
                    break
                ctx = click.Context(command, info_name=name)
                found = command.get_command(ctx, word)
                assert found is not None, f"{named(page)}: `{text}`: no command {word}"
                command = found
