# SPDX-License-Identifier: Apache-2.0
"""Global flags of `metalctl`: accepted before and after the subcommand, by every command alike."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource

from metropolis.base.errors import InvalidArgumentError
from metropolis.ctl.command_line import Tool, ToolCommand
from metropolis.ctl.metal.settings import FORMATS, MetalSettings
from metropolis.ctl.suggestions import did_you_mean

Store = Callable[[MetalSettings, Any], None]
TIMEOUT_MAX_S: Final = 24 * 3600


def settings_of(ctx: click.Context) -> MetalSettings:
    """Return the settings of the run that a click context belongs to."""
    return ctx.find_root().ensure_object(MetalSettings)


@cache
def global_options() -> Sequence[click.Option]:
    """Return the flags that every command accepts."""
    return (*_api_options(), *_output_options())


def _api_options() -> Sequence[click.Option]:
    """Which API, and who calls."""
    return (
        _option(("--api-url",), "api_url", metavar="URL", help="Where the API is."),
        _option(
            ("--api-token",),
            "api_token",
            metavar="TOKEN",
            help="Bearer token; others can read command lines, METALCTL_API_TOKEN they cannot.",
        ),
        _option(
            ("--hmac-file",),
            "hmac_file",
            convert=Path,
            metavar="FILE",
            help="File with the shared key to sign with; the key itself: METALCTL_HMAC.",
        ),
        _option(
            ("--hmac-auth-type",),
            "hmac_type",
            metavar="TYPE",
            help="Whose key that is: Metal-View, Metal-Edit or Metal-Admin (default).",
        ),
        _option(
            ("--context",), "context", metavar="NAME", help="Which API; see `metalctl context`."
        ),
        _option(
            ("-c", "--config"),
            "config",
            convert=Path,
            metavar="FILE",
            help="Contexts; default ~/.metalctl/config.yaml, then /etc/metalctl/config.yaml.",
        ),
        _option(
            ("--kubeconfig",),
            "kubeconfig",
            convert=Path,
            metavar="FILE",
            help="Where `login` keeps its token, instead of beside the configuration.",
        ),
        _option(
            ("--timeout",),
            "timeout_s",
            convert=_timeout,
            metavar="SECONDS",
            help="How long one call may take (default 30).",
        ),
    )


def _output_options() -> Sequence[click.Option]:
    """What is printed."""
    return (
        _option(
            ("-o", "--output-format"),
            "output",
            convert=_format,
            metavar="FORMAT",
            help="|".join(FORMATS),
        ),
        _option(
            ("--template",),
            "template",
            metavar="TEXT",
            help="For -o template, over JSON keys, e.g. '{{ .id }}:{{ .size.id }}'.",
        ),
        _option(
            ("--no-headers",),
            "has_headers",
            convert=lambda given: not given,
            is_flag=True,
            help="Tables without their first line.",
        ),
        _option(
            ("--force-color",),
            "force_color",
            is_flag=True,
            help="Colours and symbols although nobody looks.",
        ),
        _option(
            ("--debug",), "debug", is_flag=True, help="Tell about every call; show where bugs are."
        ),
        _option(
            ("--yes-i-really-mean-it",),
            "is_sure",
            is_flag=True,
            help="Do what cannot be undone without asking.",
        ),
    )


def _option(
    names: Sequence[str],
    attribute: str,
    *,
    convert: Callable[[Any], object] = lambda value: value,
    **attributes: Any,  # noqa: ANN401  # click's own
) -> click.Option:
    def callback(ctx: click.Context, parameter: click.Parameter, value: object) -> None:
        assert parameter.name is not None
        if ctx.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE:
            setattr(settings_of(ctx), attribute, convert(value))

    # Names of our own, because commands have flags of the same names as attributes here.
    return click.Option(
        [*names, f"global_{attribute}"], callback=callback, expose_value=False, **attributes
    )


def _format(value: str) -> str:
    name = value.lower()
    if name not in FORMATS:
        raise InvalidArgumentError(
            f"{value[:64]!r} is not an output format",
            remedy=f"{did_you_mean(name, FORMATS)} The formats are {', '.join(FORMATS)}.".lstrip(),
        )
    return name


def _timeout(value: str) -> float:
    try:
        timeout_s = float(value.removesuffix("s"))
    except ValueError:
        timeout_s = -1.0
    if not 0 < timeout_s <= TIMEOUT_MAX_S:
        raise InvalidArgumentError(
            f"{value[:64]!r} is not a timeout", remedy="Give a number of seconds, e.g. 30."
        )
    return timeout_s


METALCTL: Final = Tool(name="metalctl", options=global_options)


class MetalctlCommand(ToolCommand):
    """A command of `metalctl`."""

    tool = METALCTL


def command(
    name: str,
    **attributes: Any,  # noqa: ANN401  # click's own
) -> Callable[[Callable[..., Any]], click.Command]:
    """Turn a function into a command, as `click.command` does."""
    return click.command(name, cls=MetalctlCommand, **attributes)
