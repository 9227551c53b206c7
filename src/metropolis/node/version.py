# SPDX-License-Identifier: Apache-2.0
"""The version that this node reports."""

from metropolis import __version__
from metropolis.api import version_pb2


def product_version() -> version_pb2.Version:
    """Release number of this build. Git information is absent: the code was not stamped."""
    major, minor, patch = (int(part) for part in __version__.split(".")[:3])
    return version_pb2.Version(
        release=version_pb2.Version.Release(major=major, minor=minor, patch=patch)
    )
