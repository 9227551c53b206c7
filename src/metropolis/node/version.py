# SPDX-License-Identifier: Apache-2.0
"""The version that this node reports."""

import re
from typing import Final

from metropolis import __version__
from metropolis.api import version_pb2
from metropolis.node.product import ProductInfo

_TEXT: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:-dev(\d+))?(?:[.-].*)?")


def product_version(product: ProductInfo | None) -> version_pb2.Version:
    """Return what the system image is, or without one the release that this code will become."""
    version = version_pb2.Version()
    found = _TEXT.fullmatch(__version__ if product is None else product.version)
    if found is None:  # an image of somebody else
        return version
    release = version.release
    release.major, release.minor, release.patch = (int(found[part]) for part in (1, 2, 3))
    if product is not None and product.commit:
        git = version.git_information
        git.commit_hash = product.commit
        git.commits_since_release = int(found[4] or 0)
        git.build_tree_state = (
            git.BUILD_TREE_STATE_DIRTY if product.is_dirty else git.BUILD_TREE_STATE_CLEAN
        )
    return version
