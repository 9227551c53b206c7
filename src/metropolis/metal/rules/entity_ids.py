# SPDX-License-Identifier: Apache-2.0
"""What ids that people choose may look like: they stand in paths of URLs and names of topics."""

import re

from metropolis.base.errors import InvalidArgumentError

LENGTH_MAX = 128
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+~-]*", re.ASCII)


def check_id(field: str, text: str) -> str:
    """Return an id that may be used.

    Raises:
        InvalidArgumentError: it may not, naming the field.
    """
    if len(text) > LENGTH_MAX or _ID.fullmatch(text) is None:
        raise InvalidArgumentError(
            f"{field}: {text[:LENGTH_MAX]!r} cannot be an id",
            remedy=f"Use 1 to {LENGTH_MAX} letters, digits and any of . _ : @ + ~ -, "
            "beginning with a letter or digit.",
        )
    return text
