# SPDX-License-Identifier: Apache-2.0
"""What every command can be told, wherever on the line it stands. Light: `--help` imports it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

DEFAULT_TIMEOUT_S: Final = 15.0
FORMATS: Final = ("table", "wide", "json", "yaml")


@dataclass(slots=True)
class Settings:
    """Values of the global flags.

    Attributes:
        endpoints: Replace those of the context when there are any.
        proxy: None: the context's; empty: none at all.
        config: A flat directory with the PEM files.
        context: Name of the context; None: the current one.
        verbose: Whether to tell what happens on the way.
        filter_text: CEL expression over nodes.
        output: One of `FORMATS`.
        output_file: Where data goes instead of stdout.
        columns: Of `node describe` and `node list`, comma-separated.
        timeout_s: Of each call.
        cluster: Domain of the cluster that is to be bootstrapped.
        accept_first_ca: Trust the first CA that a node names, without asking.
    """

    endpoints: list[str] = field(default_factory=list[str])
    proxy: str | None = None
    config: Path | None = None
    context: str | None = None
    verbose: bool = False
    filter_text: str = ""
    output: str = "table"
    output_file: Path | None = None
    columns: str = ""
    timeout_s: float = DEFAULT_TIMEOUT_S
    cluster: str = ""
    accept_first_ca: bool = False
