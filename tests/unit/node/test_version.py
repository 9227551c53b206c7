# SPDX-License-Identifier: Apache-2.0
"""The version that a node reports is that of its image, as people read it in tables."""

import json
from pathlib import Path

import pytest

from metropolis.ctl.tables import version_text
from metropolis.image.product import Revision, product_info, product_info_json
from metropolis.node.product import read_product_info
from metropolis.node.version import product_version

COMMIT = "5e8ec90a" * 5


@pytest.mark.parametrize(
    ("revision", "text"),
    [
        (Revision(commit=COMMIT, number=720), "0.1.0-dev720.g5e8ec90a"),
        (Revision(commit=COMMIT, number=720, is_dirty=True), "0.1.0-dev720.g5e8ec90a.dirty"),
        (Revision(commit=COMMIT, release="2.10.3", number=720), "2.10.3-g5e8ec90a"),
        (Revision(), "0.1.0-nostamp"),
    ],
)
def test_a_node_reports_what_its_image_was_built_of(
    tmp_path: Path, revision: Revision, text: str
) -> None:
    place = tmp_path / "product-info.json"
    place.write_bytes(product_info_json(product_info(revision, components={}, is_debug=False)))
    assert version_text(product_version(read_product_info(place))) == text


def test_without_an_image_nobody_knows_the_commit() -> None:
    assert version_text(product_version(None)) == "0.1.0-nostamp"


def test_an_image_whose_version_nobody_can_read_has_none(tmp_path: Path) -> None:
    place = tmp_path / "product-info.json"
    place.write_text(json.dumps({"version": "yesterday's", "variant": "x"}))
    assert product_version(read_product_info(place)).release.major == 0
