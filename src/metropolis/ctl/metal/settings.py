# SPDX-License-Identifier: Apache-2.0
"""What every command can be told, wherever on the line it stands. Light: `--help` imports it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

FORMATS: Final = ("table", "wide", "markdown", "json", "yaml", "template")
PREFIX: Final = "METALCTL_"  # of environment variables


@dataclass(slots=True)
class MetalSettings:
    """Values of the global flags; None where only the environment or the context has a say.

    Attributes:
        config: Of contexts; None: the first that there is of the usual places.
        kubeconfig: Where the token of a login is instead of beside the configuration.
        output: One of `FORMATS`.
        template: What `template` fills in, for every entity.
        is_sure: Do what cannot be undone without asking.
    """

    api_url: str | None = None
    api_token: str | None = None
    hmac_file: Path | None = None
    hmac_type: str | None = None
    context: str | None = None
    config: Path | None = None
    kubeconfig: Path | None = None
    timeout_s: float | None = None
    output: str = "table"
    template: str = ""
    has_headers: bool = True
    force_color: bool = False
    debug: bool = False
    is_sure: bool = False
