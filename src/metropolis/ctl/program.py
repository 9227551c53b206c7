# SPDX-License-Identifier: Apache-2.0
"""Running a tool. Exit status: 0 done, 1 fix it, 2 try again, 130 interrupted."""

import os
import sys
from collections.abc import Sequence
from typing import Final

import click

from metropolis.base.errors import InternalError, MetropolisError, leaves
from metropolis.ctl.command_line import Branch, CommandGroup, Tool
from metropolis.ctl.text_table import visible

DONE: Final = 0
FIX_IT: Final = 1
TRY_AGAIN: Final = 2
INTERRUPTED: Final = 130


def run_tool(tool: Tool, tree: Branch, arguments: Sequence[str] | None, *, bugs_flag: str) -> int:
    """Run one command; return the exit status.

    Args:
        arguments: Of the command line; None: those of this process.
        bugs_flag: With this flag a bug shows its traceback.
    """
    group = CommandGroup(tool.name, tree, tool=tool, is_root=True)
    try:
        result = group.main(
            None if arguments is None else list(arguments),
            prog_name=tool.name,
            standalone_mode=False,
        )
        sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except click.ClickException as error:
        return _report_misuse(tool, error)
    except BrokenPipeError:
        return _stop_writing()
    except BaseExceptionGroup as group_error:
        return _report_group(group_error)
    except MetropolisError as error:
        return report(error)
    except Exception as bug:
        if bugs_flag in (sys.argv if arguments is None else arguments):
            raise
        return report(
            InternalError(
                f"{tool.name} itself failed: {type(bug).__name__}: {bug}",
                remedy=f"Run it again with {bugs_flag}, and report what it prints.",
            )
        )
    return result if isinstance(result, int) else DONE


def report(error: MetropolisError) -> int:
    """Say what is wrong and what to do; return the exit status."""
    _say(str(error), error.remedy or "Correct what the error says, then try again.")
    return TRY_AGAIN if error.retryable else FIX_IT


def _report_group(group: BaseExceptionGroup[BaseException]) -> int:
    inner = list(leaves(group))
    if all(isinstance(each, KeyboardInterrupt) for each in inner):
        return INTERRUPTED
    first = inner[0]
    if not all(isinstance(each, MetropolisError) for each in inner):
        raise group  # a bug, with every traceback
    assert isinstance(first, MetropolisError)
    return report(first)


def _report_misuse(tool: Tool, error: click.ClickException) -> int:
    """Say what is wrong with the command line."""
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    remedy = f"Run `{ctx.command_path if ctx else tool.name} --help` to see what it takes."
    text = error.format_message()
    if isinstance(error, click.NoSuchOption):
        text = f"there is no option {error.option_name}"
        if error.possibilities:
            remedy = f"Did you mean {' or '.join(error.possibilities)}?"
    elif isinstance(error, click.MissingParameter) and error.param is not None:
        text = f"{_spelled(error.param, ctx)} is missing"
    else:
        text = text[:1].lower() + text[1:].rstrip(".")
    _say(text, remedy)
    return FIX_IT


def _spelled(parameter: click.Parameter, ctx: click.Context | None) -> str:
    if isinstance(parameter, click.Option):
        return f"the option {parameter.opts[0]}"
    return parameter.make_metavar(ctx) if ctx else str(parameter.name)


def _say(text: str, remedy: str) -> None:
    print(f"error: {visible(text)}\nremedy: {visible(remedy)}", file=sys.stderr)


def _stop_writing() -> int:
    """Nobody reads our output any more; keep the interpreter from complaining at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return DONE
