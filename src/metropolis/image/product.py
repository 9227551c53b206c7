# SPDX-License-Identifier: Apache-2.0
"""What an image says it is: version, commit, and the time that counts as its birth."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from metropolis import __version__
from metropolis.base.errors import UnavailableError
from metropolis.host.linux.programs import run_program

VARIANT: Final = "x86_64"
_TAG: Final = re.compile(r"metropolis-v(\d+\.\d+\.\d+)")
_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """The state of the checkout.

    Attributes:
        commit: Hash, empty outside of a git checkout.
        commit_time_s: Of the commit, Unix time. A clock is never set to before it.
        release: Version of the tag on this commit, empty without one.
        number: How many commits lead here.
        is_dirty: Tracked files differ from the commit.
    """

    commit: str = ""
    commit_time_s: int = 0
    release: str = ""
    number: int = 0
    is_dirty: bool = False


def read_revision(checkout: Path) -> Revision:
    """Ask git; sources without its history have no revision."""
    try:
        commit, time_s = _git(checkout, "log", "-1", "--format=%H %ct").split()
        tags = _git(checkout, "tag", "--points-at", "HEAD").split()
        number = int(_git(checkout, "rev-list", "--count", "HEAD"))
        changes = _git(checkout, "status", "--porcelain", "--untracked-files=no")
    except (UnavailableError, ValueError):
        return Revision()
    releases = [match[1] for tag in tags if (match := _TAG.fullmatch(tag))]
    return Revision(
        commit=commit,
        commit_time_s=int(time_s),
        release=releases[-1] if releases else "",
        number=number,
        is_dirty=bool(changes.strip()),
    )


def version_text(revision: Revision) -> str:
    """For example `0.1.0` on a tag, `0.1.0-dev512.g1a2b3c4d` between two, `.dirty` if changed."""
    if not revision.commit:
        return f"{__version__}-nostamp"
    text = revision.release or f"{__version__}-dev{revision.number}.g{revision.commit[:8]}"
    return f"{text}.dirty" if revision.is_dirty else text


def product_info(
    revision: Revision, *, components: Mapping[str, str], is_debug: bool
) -> Mapping[str, object]:
    """What product-info.json says.

    Args:
        components: Versions by name, for example of the kernel.
    """
    when = datetime.fromtimestamp(revision.commit_time_s, UTC)
    return {
        "id": "metropolis-node",
        "name": "Metropolis Node",
        "version": version_text(revision),
        "variant": f"{VARIANT}-debug" if is_debug else VARIANT,
        "commit_hash": revision.commit,
        "commit_date": when.isoformat().replace("+00:00", "Z"),
        "build_tree_dirty": revision.is_dirty,
        "build_time": revision.commit_time_s,
        "components": [
            {"name": name, "version": version} for name, version in sorted(components.items())
        ],
    }


def product_info_json(info: Mapping[str, object]) -> bytes:
    """As it is written."""
    return json.dumps(info, indent=1, sort_keys=True).encode() + b"\n"


def os_release(info: Mapping[str, object]) -> bytes:
    """os-release(5); the stub shows it, and boot loaders do."""
    lines = {
        "NAME": info["name"],
        "ID": info["id"],
        "VERSION": info["version"],
        "VERSION_ID": info["version"],
        "PRETTY_NAME": f"{info['name']} {info['version']}",
    }
    return "".join(f'{key}="{value}"\n' for key, value in lines.items()).encode()


def _git(checkout: Path, *arguments: str) -> str:
    return run_program(["git", "-C", str(checkout), *arguments], timeout_s=_TIMEOUT_S).decode()
