# SPDX-License-Identifier: Apache-2.0
"""Global flags: accepted before and after the subcommand, by every command alike.

They belong to no command's signature: each is stored into the `Settings` of the whole run as soon
as it is read. Endpoints add up, of everything else the last one counts.
"""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from metropolis.base.errors import InvalidArgumentError
from metropolis.ctl.settings import DEFAULT_TIMEOUT_S, FORMATS, Settings
from metropolis.ctl.suggestions import did_you_mean

Store = Callable[[Settings, Any], None]


def settings_of(ctx: click.Context) -> Settings:
    """Return the settings of the run that a click context belongs to."""
    return ctx.find_root().ensure_object(Settings)


@cache
def global_options() -> Sequence[click.Option]:
    """Return the flags that every command accepts."""
    return (*_cluster_options(), *_output_options(), *_other_options())


def _cluster_options() -> Sequence[click.Option]:
    """Which cluster, and how to reach it."""
    return (
        _option(
            ("--endpoints",),
            _store_endpoints,
            multiple=True,
            metavar="HOST",
            help="Address of any node of the cluster, without port. Repeat it or use commas.",
        ),
        _option(
            ("--proxy",), _set("proxy"), metavar="HOST:PORT", help="Dial through a SOCKS5 proxy."
        ),
        _option(
            ("--context",),
            _set("context"),
            metavar="NAME",
            help="Which cluster; see `metroctl context list`.",
        ),
        _option(
            ("--config",),
            _store_config,
            metavar="DIR",
            help="Directory with owner-key.pem, owner.pem and ca.pem, instead of a context.",
        ),
    )


def _output_options() -> Sequence[click.Option]:
    """What is printed, and where."""
    return (
        _option(("-o", "--output"), _store_output, metavar="FORMAT", help=f"{'|'.join(FORMATS)}"),
        _option(
            ("--output-file",),
            _store_output_file,
            metavar="FILE",
            help="Write the data to a file instead of standard output.",
        ),
        _option(
            ("--filter",),
            _set("filter_text"),
            metavar="CEL",
            help="Only nodes for which this holds, e.g. 'node.state == NODE_STATE_UP'.",
        ),
        _option(
            ("--columns",),
            _set("columns"),
            metavar="NAMES",
            help="Columns of a node table, e.g. 'node id,state'.",
        ),
        _option(("--format",), _store_output, hidden=True, metavar="FORMAT"),
    )


def _other_options() -> Sequence[click.Option]:
    return (
        _option(
            ("--timeout",),
            _store_timeout,
            metavar="SECONDS",
            help=f"How long one call may take (default {DEFAULT_TIMEOUT_S:g}).",
        ),
        _option(
            ("--cluster",),
            _set("cluster"),
            metavar="DOMAIN",
            help="Domain of a cluster that is to be bootstrapped.",
        ),
        _option(
            ("--insecure-accept-and-persist-first-encountered-ca",),
            _set("accept_first_ca"),
            is_flag=True,
            help="Trust the CA of the first node that answers, without asking.",
        ),
        _option(("--verbose",), _set("verbose"), is_flag=True, help="Tell what happens meanwhile."),
    )


def _option(names: Sequence[str], store: Store, **attributes: Any) -> click.Option:  # noqa: ANN401  # click's own
    def callback(ctx: click.Context, parameter: click.Parameter, value: object) -> None:
        assert parameter.name is not None
        if ctx.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE:
            store(settings_of(ctx), value)

    return click.Option(list(names), callback=callback, expose_value=False, **attributes)


def _set(attribute: str) -> Store:
    return lambda settings, value: setattr(settings, attribute, value)


def _store_endpoints(settings: Settings, values: Sequence[str]) -> None:
    hosts = [host.strip() for value in values for host in value.split(",")]
    settings.endpoints.extend(host for host in hosts if host and host not in settings.endpoints)


def _store_config(settings: Settings, value: str) -> None:
    settings.config = Path(value)


def _store_output_file(settings: Settings, value: str) -> None:
    settings.output_file = Path(value)


def _store_output(settings: Settings, value: str) -> None:
    name = value.lower()
    name = "table" if name == "plaintext" else name  # what --format defaults to elsewhere
    if name not in FORMATS:
        hint = did_you_mean(name, FORMATS)
        raise InvalidArgumentError(
            f"{value[:64]!r} is not an output format",
            remedy=f"{hint} The formats are {', '.join(FORMATS)}; "
            "to write to a file use --output-file.".lstrip(),
        )
    settings.output = name


def _store_timeout(settings: Settings, value: str) -> None:
    try:
        timeout_s = float(value.removesuffix("s"))
    except ValueError:
        timeout_s = -1.0
    if not 0 < timeout_s <= 24 * 3600:
        raise InvalidArgumentError(
            f"{value[:64]!r} is not a timeout", remedy="Give a number of seconds, e.g. 30."
        )
    settings.timeout_s = timeout_s
