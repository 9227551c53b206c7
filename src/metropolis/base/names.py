# SPDX-License-Identifier: Apache-2.0
"""Rules for the names people choose: node labels and cluster domains.

They are the original's rules, which are Kubernetes' own without upper-case domains.
"""

import re
from typing import Final

LABELS_PER_NODE_MAX: Final = 128
LABEL_PART_CHARS_MAX: Final = 63
DOMAIN_CHARS_MAX: Final = 253
CLUSTER_DOMAIN_CHARS_MAX: Final = 80
DEFAULT_CLUSTER_DOMAIN: Final = "cluster.internal"

_LABEL_PART: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_DOMAIN_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")


def domain_name_problem(name: str, *, chars_max: int = DOMAIN_CHARS_MAX) -> str | None:
    """Say what is wrong with a lower-case DNS name, or None when nothing is."""
    if not name:
        return "must not be empty"
    if len(name) > chars_max:
        return f"must not be longer than {chars_max} characters"
    parts = name.split(".")
    for part in parts:
        if _DOMAIN_LABEL.fullmatch(part) is None:
            return (
                "must be a DNS name: lower-case letters, digits and dashes, "
                "at most 63 between two dots, none starting or ending with a dash"
            )
    if _NUMBER.fullmatch(parts[-1]) is not None:
        return "must not end in a number, which would read as an address"
    return None


def cluster_domain_problem(name: str) -> str | None:
    """Say what is wrong with a cluster domain, or None when nothing is."""
    return domain_name_problem(name, chars_max=CLUSTER_DOMAIN_CHARS_MAX)


def label_key_problem(key: str) -> str | None:
    """Say what is wrong with a label key (`[prefix/]name`), or None when nothing is."""
    prefix, slash, name = key.rpartition("/")
    if slash and (problem := domain_name_problem(prefix)) is not None:
        return f"the part before the slash {problem}"
    if not name:
        return "must not be empty"
    if len(name) > LABEL_PART_CHARS_MAX:
        return f"must not be longer than {LABEL_PART_CHARS_MAX} characters"
    if _LABEL_PART.fullmatch(name) is None:
        return "must be letters, digits, '.', '_' and '-', starting and ending alphanumeric"
    return None


def label_value_problem(value: str) -> str | None:
    """Say what is wrong with a label value, or None when nothing is. Empty values are fine."""
    if len(value) > LABEL_PART_CHARS_MAX:
        return f"must not be longer than {LABEL_PART_CHARS_MAX} characters"
    if value and _LABEL_PART.fullmatch(value) is None:
        return "must be letters, digits, '.', '_' and '-', starting and ending alphanumeric"
    return None
