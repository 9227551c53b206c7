# SPDX-License-Identifier: Apache-2.0
"""Data on stdout, or in a file: as a table, JSON or YAML. Talk on stderr.

JSON and YAML have the field names of the API's protobuf messages, in snake_case: enums by name,
bytes in base64, durations as "1.5s", times as RFC 3339. Fields are there even when empty; of
messages within messages, those that the cluster did not send are left out.
"""

import json
import os
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any, TextIO

import click

from metropolis.ctl import files
from metropolis.ctl.settings import Settings

Text = str | Callable[[], str]


def emit(settings: Settings, *, data: object, text: Text, mode: int = files.PUBLIC) -> None:
    """Print one answer in the wanted format.

    Args:
        mode: Of the file, if it goes to one.
        data: What JSON and YAML show: dicts, lists and scalars, or a callable that makes them.
        text: What table and wide show, with its final newline; empty prints nothing.
    """
    if settings.output in ("json", "yaml"):
        document = data() if callable(data) else data
        out = json_text(document) if settings.output == "json" else yaml_text(document)
    else:
        out = text() if callable(text) else text
    write(settings, out, mode=mode)


def write(settings: Settings, out: str, *, mode: int = files.PUBLIC) -> None:
    """Print text to stdout, or to the file that was asked for."""
    if settings.output_file is not None:
        files.overwrite(settings.output_file, click.unstyle(out), mode=mode)
        return
    sys.stdout.write(out)
    sys.stdout.flush()


def say(message: str) -> None:
    """Tell people something, on stderr."""
    print(message, file=sys.stderr, flush=True)


@contextmanager
def opened(settings: Settings) -> Generator[TextIO, None, None]:
    """Yield where data goes line by line: stdout, or the file that was asked for."""
    if settings.output_file is None:
        yield sys.stdout
        return
    files.overwrite(settings.output_file, "")
    with settings.output_file.open("a", encoding="utf-8") as file:
        yield file


def quoted(values: Iterable[str]) -> str:
    """Render `"a", "b"`."""
    return ", ".join(f'"{value}"' for value in values)


def painter(settings: Settings) -> Callable[[str], str] | None:
    """Return what colours the cells of a table, or None where colours do not belong."""
    is_wanted = (
        settings.output_file is None
        and sys.stdout.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM", "dumb") != "dumb"
    )
    return _paint if is_wanted else None


_COLORS = {
    "HEALTHY": "green",
    "UP": "green",
    "FULL": "green",
    "NEW": "yellow",
    "STANDBY": "yellow",
    "UNKNOWN": "yellow",
    "LEARNER": "yellow",
    "HEARTBEAT_TIMEOUT": "red",
    "UNREACHABLE": "red",
}


def _paint(cell: str) -> str:
    color = _COLORS.get(cell)
    return click.style(cell, fg=color) if color else cell


def json_text(document: object) -> str:
    """Render JSON for people."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def yaml_text(document: Any) -> str:  # noqa: ANN401  # anything YAML can show
    """Render YAML, keys in their order."""
    import yaml  # noqa: PLC0415  # only for -o yaml

    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    return text
