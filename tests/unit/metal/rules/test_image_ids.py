# SPDX-License-Identifier: Apache-2.0
"""Ids of images and what they stand for; what sizes allow of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError
from metropolis.metal.rules.image_ids import matching, parse_image_id
from metropolis.metal.rules.semver import Version
from metropolis.metal.rules.size_image_constraints import check_image, validate_images


def found(wanted: str, ids: list[str]) -> list[str]:
    pairs = [(parse_image_id(each), each) for each in ids]
    return [each for _, each in matching(parse_image_id(wanted), pairs)]


def test_the_operating_system_is_everything_before_the_last_dash() -> None:
    image = parse_image_id("firewall-ubuntu-3.0.20240101")
    assert image.os == "firewall-ubuntu"
    assert image.version == Version(3, 0, 20240101)
    assert image.is_exact


def test_the_first_patch_names_one_image() -> None:
    assert parse_image_id("os-1.2.1").is_exact
    assert not parse_image_id("os-1.2.0").is_exact


@pytest.mark.parametrize("text", ["", "ubuntu", "-24.04", "ubuntu-", "ubuntu-latest", "a-1.2.3.4"])
def test_what_is_no_image_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        parse_image_id(text)


def test_an_id_without_patch_stands_for_all_patches_newest_first() -> None:
    ids = [
        "ubuntu-24.04.20250101",
        "ubuntu-24.04.20250301",
        "ubuntu-24.10.20250401",
        "debian-24.04.20250501",
    ]
    assert found("ubuntu-24.04", ids) == ["ubuntu-24.04.20250301", "ubuntu-24.04.20250101"]


def test_an_id_without_minor_stands_for_minor_zero() -> None:
    assert found("debian-12", ["debian-12.0.20250101", "debian-12.1.20250101"]) == [
        "debian-12.0.20250101"
    ]


def test_an_id_with_patch_stands_for_that_one_however_it_is_padded() -> None:
    assert found("ubuntu-24.4.20250101", ["ubuntu-24.04.20250101", "ubuntu-24.04.20250102"]) == [
        "ubuntu-24.04.20250101"
    ]


@given(st.lists(st.integers(min_value=0, max_value=9), unique=True, min_size=1))
def test_the_newest_is_first_in_whatever_order_images_come(patches: list[int]) -> None:
    ids = [f"os-1.2.{patch}" for patch in patches]
    assert found("os-1.2", ids) == [f"os-1.2.{patch}" for patch in sorted(patches, reverse=True)]


def test_an_image_that_a_size_does_not_constrain_is_allowed() -> None:
    check_image("c1", {"debian": ">= 12"}, "ubuntu-24.04")


def test_an_image_that_satisfies_the_constraint_is_allowed() -> None:
    check_image("c1", {"ubuntu": ">= 24.04.20250101"}, "ubuntu-24.04.20250101")


def test_an_image_that_is_too_old_for_the_size_is_refused() -> None:
    with pytest.raises(FailedPreconditionError, match=r"not allowed on size c1"):
        check_image("c1", {"ubuntu": ">= 24.04.20250102"}, "ubuntu-24.04.20250101")


def test_an_image_without_patch_is_refused_where_a_size_constrains_it() -> None:
    with pytest.raises(FailedPreconditionError, match="no patch"):
        check_image("c1", {"ubuntu": "*"}, "ubuntu-24.04")


@pytest.mark.parametrize("images", [{"*": "*"}, {"": "*"}, {"ubuntu": "newer than 20"}])
def test_a_constraint_for_no_operating_system_or_version_is_refused(images: dict[str, str]) -> None:
    with pytest.raises(InvalidArgumentError):
        validate_images(images)
