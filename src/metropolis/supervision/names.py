# SPDX-License-Identifier: Apache-2.0
"""Distinguished names: `root.role.heartbeat` names a runnable and its logs.

A DN is a list of components joined by dots; the empty DN is the whole tree. Comparisons go by
component: `foo.bar` is no ancestor of `foo.barr`.
"""

import re

NAME_LENGTH_MAX = 64
DN_LENGTH_MAX = 1024  # deeper trees than 15 full-length names do not exist
_NAME = re.compile(rf"[a-z0-9_]{{1,{NAME_LENGTH_MAX}}}")


def is_name(text: str) -> bool:
    """Tell whether a runnable or a sub-logger may be called this."""
    return _NAME.fullmatch(text) is not None


def is_dn(text: str) -> bool:
    """Tell whether this names a place in the log tree; the empty DN is its root."""
    return text == "" or (len(text) <= DN_LENGTH_MAX and all(text.split(".")))


def is_within(dn: str, ancestor: str) -> bool:
    """Tell whether `dn` is `ancestor` or lies below it, component by component."""
    return not ancestor or dn == ancestor or dn.startswith(f"{ancestor}.")
