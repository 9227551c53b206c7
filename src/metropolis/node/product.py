# SPDX-License-Identifier: Apache-2.0
"""What the system image says it is. Without an image, as in the namespace driver, nobody says it.

A debug image says so in its variant, and only there is what debugs. No flag can turn a release
image into one: its verified file system says what it is, and the debug service's code is not in it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from metropolis.host import KernelTracer

PRODUCT_INFO: Final = Path("/etc/metropolis/product-info.json")
_DEBUG: Final = "-debug"
_NAME: Final = "Metropolis Node"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductInfo:
    """The name and number of a system image.

    Attributes:
        build_time_s: Seconds since 1970 of the newest source; a clock that says less is wrong.
        commit: Of the sources, in hexadecimal; empty if nobody knows.
        is_dirty: The sources were others than those of the commit.
    """

    version: str
    variant: str
    name: str = _NAME
    build_time_s: int = 0
    commit: str = ""
    is_dirty: bool = False

    @property
    def is_debug(self) -> bool:
        """Whether this is an image for whoever develops the system, and never for others."""
        return self.variant.endswith(_DEBUG)


@dataclass(frozen=True, slots=True, kw_only=True)
class DebugEdges:
    """What only a debug image has. Its presence among a node's edges opens port 7837."""

    tracer: KernelTracer


def read_product_info(path: Path = PRODUCT_INFO) -> ProductInfo | None:
    """Read what the image says; None where there is no image, or it says nothing sensible."""
    try:
        said: Any = json.loads(path.read_text(encoding="utf-8"))
        return ProductInfo(
            version=str(said["version"]),
            variant=str(said["variant"]),
            name=str(said.get("name", _NAME)),
            build_time_s=int(said.get("build_time", 0)),
            commit=str(said.get("commit_hash", "")),
            is_dirty=bool(said.get("build_tree_dirty", True)),
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None


def debug_edges(product: ProductInfo | None) -> DebugEdges | None:
    """Return the edges of a debug image; None on any other."""
    if product is None or not product.is_debug:
        return None
    from metropolis.host.linux.ftrace import LinuxFtrace  # noqa: PLC0415  # debug images only

    return DebugEdges(tracer=LinuxFtrace())
