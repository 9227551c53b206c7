# SPDX-License-Identifier: Apache-2.0
"""Which Debian mirrors this machine is configured for, as apt itself understands its sources."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from metropolis.base.errors import FailedPreconditionError
from metropolis.host.linux.programs import run_program

MIRROR_VARIABLE: Final = "METROPOLIS_DEBIAN_MIRROR"
_TIMEOUT_S: Final = 30.0
_FORMAT: Final = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(SIGNED_BY)"
_SUITE: Final = re.compile(r"stable|oldstable|testing|unstable|sid|bookworm|trixie|forky")


def debian_mirrors(environment: Mapping[str, str]) -> Sequence[str]:
    """Return the mirrors to try, the most likely first, each without a trailing slash.

    apt reads its own sources for us, so one-line and deb822 formats and every option are covered.

    Raises:
        FailedPreconditionError: this machine has no Debian mirror configured.
    """
    if chosen := environment.get(MIRROR_VARIABLE, "").strip():
        return (chosen.rstrip("/"),)
    listing = run_program(
        ["apt-get", "indextargets", "--format", _FORMAT, "Created-By: Packages"],
        timeout_s=_TIMEOUT_S,
    )
    mirrors = parse_index_targets(listing.decode(errors="replace"))
    if not mirrors:
        raise FailedPreconditionError(
            "this machine's apt sources name no Debian mirror",
            remedy=f"Set {MIRROR_VARIABLE} to the address of one.",
        )
    return mirrors


def parse_index_targets(listing: str) -> Sequence[str]:
    """Find Debian's own archive among all sources: many vendors call their suites after Debian's.

    Args:
        listing: Lines of "URI RELEASE COMPONENT [SIGNED-BY]", in the order of apt's sources.
    """
    ranked: dict[str, int] = {}
    for line in listing.splitlines():
        uri, release, component, *signed_by = line.split(" ")
        if component != "main" or _SUITE.fullmatch(release) is None or uri.startswith("cdrom:"):
            continue
        mirror = uri.rstrip("/")
        is_debian_key = "debian-archive" in " ".join(signed_by)
        rank = 2 * (not is_debian_key) + (not mirror.endswith("/debian"))
        ranked[mirror] = min(rank, ranked.get(mirror, rank))
    return sorted(ranked, key=ranked.__getitem__)


def printable(text: str) -> str:
    """Text about mirrors without the passwords that their URIs may carry."""
    return re.sub(r"//[^/@\s]*@", "//", text)
