# SPDX-License-Identifier: Apache-2.0
"""How every program of ours prints its help.

A group that tests or tools may also call by itself names these settings, too: click builds a
command's help option once, by the settings of whoever called the command first.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

HELP_FLAGS: Final[Sequence[str]] = ("-h", "--help")
HELP_SETTINGS: Final[Mapping[str, Any]] = {
    "help_option_names": [*HELP_FLAGS],
    "max_content_width": 100,
}
