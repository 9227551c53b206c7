# SPDX-License-Identifier: Apache-2.0
"""Commands and groups of commands: found in a table, imported when called, forgiving typos."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, Final

import click
from typing_extensions import override

from metropolis.base.errors import InvalidArgumentError
from metropolis.ctl.help_settings import HELP_FLAGS, HELP_SETTINGS
from metropolis.ctl.options import global_options
from metropolis.ctl.suggestions import did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A program of commands.

    Attributes:
        name: What people type.
        options: The flags that every command of it accepts.
    """

    name: str
    options: Callable[[], Sequence[click.Option]]


METROCTL: Final = Tool(name="metroctl", options=global_options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A command: where it is, as "module:attribute", and what it does.

    Attributes:
        argument: Not empty: what is there makes the command out of this.
    """

    target: str
    summary: str
    argument: str = ""
    is_hidden: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A group of commands, by name.

    Attributes:
        default: The command that is meant when none is named.
    """

    summary: str
    commands: "Mapping[str, Leaf | Branch]"
    description: str = ""  # for its own help, when the summary says too little
    default: str = ""
    is_hidden: bool = False


class ToolCommand(click.Command):
    """A command that also takes the global flags of its tool, wherever they stand."""

    tool: ClassVar[Tool]

    def __init__(self, *args: Any, **attributes: Any) -> None:  # noqa: ANN401  # click's own
        attributes.setdefault("context_settings", dict(HELP_SETTINGS))
        attributes.setdefault(
            "epilog", f"`{self.tool.name} --help` shows the options of every command."
        )
        super().__init__(*args, **attributes)

    @override
    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *self.tool.options()]

    @override
    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own = {id(option) for option in self.tool.options()}
        records = [
            record
            for parameter in self.get_params(ctx)
            if isinstance(parameter, click.Option)  # what arguments are, the description says
            and id(parameter) not in own
            and (record := parameter.get_help_record(ctx)) is not None
        ]
        with formatter.section("Options"):
            formatter.write_dl(records)


class MetroctlCommand(ToolCommand):
    """A command of `metroctl`."""

    tool = METROCTL


class CommandGroup(click.Group):
    """A group that reads its commands from a table and imports only the one that is called."""

    def __init__(
        self, name: str, branch: Branch, *, tool: Tool = METROCTL, is_root: bool = False
    ) -> None:
        super().__init__(
            name,
            help=branch.description or branch.summary,
            short_help=branch.summary,
            context_settings=dict(HELP_SETTINGS),
            no_args_is_help=False,
            invoke_without_command=True,
            callback=_print_help,
            hidden=branch.is_hidden,
        )
        self._branch = branch
        self._tool = tool
        self._is_root = is_root

    @override
    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *self._tool.options()]

    @override
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        default = self._branch.default
        is_named = bool(args) and (args[0] in self._branch.commands or args[0] in HELP_FLAGS)
        return super().parse_args(ctx, [default, *args] if default and not is_named else args)

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._branch.commands)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = self._branch.commands.get(cmd_name)
        if found is None:
            return None
        if isinstance(found, Branch):
            return CommandGroup(cmd_name, found, tool=self._tool)
        module, _, attribute = found.target.partition(":")
        command = getattr(import_module(module), attribute)
        if found.argument:
            command = command(found.argument)
        assert isinstance(command, click.Command)
        return command

    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        command = self.get_command(ctx, name)
        if command is None and not ctx.resilient_parsing:
            visible = [each for each, what in self._branch.commands.items() if not what.is_hidden]
            raise InvalidArgumentError(
                f"{ctx.command_path} has no command {name[:64]!r}",
                remedy=did_you_mean(name, visible) or f"Run `{ctx.command_path} --help`.",
            )
        return (name if command else None), command, args[1:]

    @override
    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_commands(ctx, formatter)
        if self._is_root:
            records = [
                record
                for parameter in self.get_params(ctx)
                if (record := parameter.get_help_record(ctx)) is not None
            ]
            with formatter.section("Options, before or after the command"):
                formatter.write_dl(records)

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        records = [
            (name, what.summary)
            for name, what in self._branch.commands.items()
            if not what.is_hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(records)

    @override
    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem  # noqa: PLC0415  # seldom needed

        return [
            *(
                CompletionItem(name, help=what.summary)
                for name, what in self._branch.commands.items()
                if not what.is_hidden and name.startswith(incomplete)
            ),
            *click.Command.shell_complete(self, ctx, incomplete),
        ]


def command(
    name: str,
    **attributes: Any,  # noqa: ANN401  # click's own
) -> Callable[[Callable[..., Any]], click.Command]:
    """Turn a function into a command, as `click.command` does."""
    return click.command(name, cls=MetroctlCommand, **attributes)


@click.pass_context
def _print_help(ctx: click.Context) -> None:
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
