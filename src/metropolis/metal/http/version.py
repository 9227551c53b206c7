# SPDX-License-Identifier: Apache-2.0
"""`GET /v1/version`: who serves this; open to everybody, `metalctl` asks it at login."""

from importlib.metadata import version
from typing import Final

import msgspec

from metropolis.metal.http.operation import Call, Nothing, Operation, Role

NAME: Final = "metal-api"
# The interface that is spoken here, as its own clients number it: they refuse to log in when this
# is no semantic version, and warn when it is not theirs.
INTERFACE_VERSION: Final = "v0.45.0"
PROGRAM_VERSION: Final = f"v{version('metropolis')}"


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """What serves the interface.

    Attributes:
        version: Of the interface.
        revision: Of the program that serves it.
        release_version: Of the release that this program belongs to.
    """

    name: str
    version: str
    revision: str
    gitsha1: str
    builddate: str
    min_client_version: str
    release_version: str


async def _info(call: Call[Nothing, Nothing]) -> Version:
    return Version(
        name=NAME,
        version=INTERFACE_VERSION,
        revision=f"metropolis-{PROGRAM_VERSION}",
        gitsha1="",
        builddate="",
        min_client_version=call.site.settings.client_version_min,
        release_version=PROGRAM_VERSION,
    )


OPERATIONS: Final = (
    Operation[Nothing, Nothing](
        id="info",
        method="GET",
        path="/v1/version",
        role=Role.NONE,
        summary="returns the current version information of this module",
        handle=_info,
        answer=Version,
        tag="version",
    ),
)
