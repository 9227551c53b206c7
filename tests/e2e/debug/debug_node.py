# SPDX-License-Identifier: Apache-2.0
"""A node that believes to be of a debug image: `debug_node.py PRODUCT_INFO ARGUMENTS…`."""

import sys
from pathlib import Path

from metropolis.node.__main__ import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[2:], product_info=Path(sys.argv[1])))
