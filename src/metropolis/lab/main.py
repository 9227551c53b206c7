# SPDX-License-Identifier: Apache-2.0
"""The program `metropolis`: clusters on this computer. Nothing but click is imported for `--help`.

Exit status: 0 done, 1 fix it, 2 try again, 130 interrupted (every command can be run again).
"""

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Final

import click
from typing_extensions import override

from metropolis.base.errors import InvalidArgumentError, MetropolisError, chain, leaves
from metropolis.ctl.help_settings import HELP_SETTINGS
from metropolis.ctl.suggestions import did_you_mean

DONE: Final = 0
FIX_IT: Final = 1
TRY_AGAIN: Final = 2
INTERRUPTED: Final = 130
PROGRAM: Final = "metropolis"

_AT: Final = "metropolis.lab.commands"
# Name -> where its command is, and what it does.
_COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "launch": (f"{_AT}.launch:launch", "Start a cluster on this computer and take ownership."),
    "rack": (f"{_AT}.rack:rack", "Set up blank virtual machines, to be installed from media."),
    "status": (f"{_AT}.status:status", "Show the machines and nodes of a cluster."),
    "stop": (f"{_AT}.power:stop", "Shut a cluster down; its data is kept."),
    "start": (f"{_AT}.power:start", "Start a stopped cluster again."),
    "power": (f"{_AT}.machine:power", "Press a machine's power switch, or cut its power."),
    "console": (f"{_AT}.machine:console", "Show what a machine prints."),
    "destroy": (f"{_AT}.destroy:destroy", "Stop a cluster and delete its data."),
    "image": (f"{_AT}.image:image", "Build the system image of nodes, and look at it."),
    "release": (f"{_AT}.release:release", "Make what is published, with signed checksums."),
    "sim": (f"{_AT}.sim:sim", "Run simulated worlds from seeds."),
    "metal": (f"{_AT}.metal:metal", "Run the bare-metal control plane."),
}


class LazyGroup(click.Group):
    """Reads its commands from a table and imports only the one that is called."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in _COMMANDS:
            raise InvalidArgumentError(
                f"{PROGRAM} has no command {args[0][:64]!r}",
                remedy=did_you_mean(args[0], _COMMANDS) or f"Run `{PROGRAM} --help`.",
            )
        return super().resolve_command(ctx, args)

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in _COMMANDS.items()])


@click.pass_context
def _print_help(ctx: click.Context) -> None:
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def make_group() -> click.Group:
    """Return the program as a click command."""
    return LazyGroup(
        PROGRAM,
        help="Run Metropolis clusters on this computer.\n\n"
        "Data goes to standard output, everything else to standard error. Exit status: 0 done, "
        "1 fix it, 2 try again. Every command can be interrupted and run again.",
        context_settings=dict(HELP_SETTINGS),
        no_args_is_help=False,
        invoke_without_command=True,
        callback=_print_help,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    given = None if arguments is None else list(arguments)
    try:
        result = make_group().main(given, prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        return _report_misuse(error)
    except BrokenPipeError:  # nobody reads our output any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (KeyboardInterrupt, click.Abort):
        _say_interrupted()
        return INTERRUPTED
    except MetropolisError as error:
        return _report(error)
    except BaseExceptionGroup as group:
        return _report_group(group)
    return result if isinstance(result, int) else DONE


def _report(error: MetropolisError) -> int:
    _say_error(chain(error), error.remedy or "Correct what the error says, then try again.")
    return TRY_AGAIN if error.retryable else FIX_IT


def _report_group(group: BaseExceptionGroup[BaseException]) -> int:
    inner = list(leaves(group))
    if all(isinstance(each, KeyboardInterrupt) for each in inner):
        _say_interrupted()
        return INTERRUPTED
    first = next((each for each in inner if isinstance(each, MetropolisError)), None)
    if first is None:
        raise group
    return _report(first)


def _report_misuse(error: click.ClickException) -> int:
    """Say what is wrong with the command line."""
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    remedy = f"Run `{ctx.command_path if ctx else PROGRAM} --help` to see what it takes."
    text = error.format_message()
    if isinstance(error, click.NoSuchOption):
        text = f"there is no option {error.option_name}"
        if error.possibilities:
            remedy = f"Did you mean {' or '.join(error.possibilities)}?"
    else:
        text = text[:1].lower() + text[1:].rstrip(".")
    _say_error(text, remedy)
    return FIX_IT


def _say_error(text: str, remedy: str) -> None:
    print(f"error: {text}\nremedy: {remedy}", file=sys.stderr)


def _say_interrupted() -> None:
    print("\ninterrupted; run the command again to go on", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
