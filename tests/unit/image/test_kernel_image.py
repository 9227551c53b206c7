# SPDX-License-Identifier: Apache-2.0
"""The kernel image and what it says of itself: the same every time, and what people can compare."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from kits.portable_executable import stub
from metropolis.formats import authenticode, pe
from metropolis.formats.pcr import KERNEL_PCR, policy_pcr_digest, uki_pcr11
from metropolis.host.linux.debian.checkout import project_root
from metropolis.image.kernel_image import KernelImage, SystemSeal, unified_kernel
from metropolis.image.keys import BuilderKey, open_keys
from metropolis.image.product import (
    Revision,
    os_release,
    product_info,
    product_info_json,
    read_revision,
    version_text,
)
from metropolis.node.boot.command_line import describe_root, parse_command_line

SEAL = SystemSeal(root_hash="ab" * 32, data_blocks=1234, salt="cd" * 32)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, BuilderKey]:
    return open_keys(tmp_path_factory.mktemp("home") / "keys", checkout=Path("/nonexistent"))


def make(keys: Mapping[str, BuilderKey], *, initrd: bytes = b"initrd") -> KernelImage:
    return unified_kernel(
        stub=stub(),
        kernel=b"kernel" * 1000,
        kernel_version="6.12",
        initrd=initrd,
        os_release=b"ID=test\n",
        seal=SEAL,
        keys=keys,
    )


def test_it_is_the_same_every_time_and_signed(keys: Mapping[str, BuilderKey]) -> None:
    image = make(keys)
    assert image == make(keys)
    authenticode.verify(image.content, keys["db"].certificate_der)


def test_its_measurement_is_foretold_and_approved(keys: Mapping[str, BuilderKey]) -> None:
    image = make(keys)
    sections = pe.sections(image.content)
    pcr11 = uki_pcr11(sections)
    assert pcr11.hex() == image.pcr11
    (approval,) = json.loads(sections[".pcrsig"])["sha256"]
    policy = policy_pcr_digest({KERNEL_PCR: pcr11})
    assert approval["pol"] == policy.hex()
    keys["pcr"].private.public_key().verify(
        base64.b64decode(approval["sig"]), policy, padding.PKCS1v15(), hashes.SHA256()
    )
    assert image.pcr11 != make(keys, initrd=b"other").pcr11


def test_what_is_compared_without_keys_has_nothing_of_them(
    keys: Mapping[str, BuilderKey], tmp_path: Path
) -> None:
    others = open_keys(tmp_path / "keys", checkout=Path("/nonexistent"))
    assert make(keys).unsigned == make(others).unsigned
    assert make(keys).content != make(others).content
    assert {".pcrsig", ".pcrpkey"}.isdisjoint(pe.sections(make(keys).unsigned))


def test_the_first_program_understands_the_command_line() -> None:
    described = describe_root(parse_command_line(SEAL.command_line))
    assert (described.root_hash, described.data_blocks, described.salt) == (
        SEAL.root_hash,
        SEAL.data_blocks,
        SEAL.salt,
    )


COMMIT = "0123456789abcdef" * 2 + "01234567"


@pytest.mark.parametrize(
    ("revision", "text"),
    [
        (Revision(), "0.1.0-nostamp"),
        (Revision(commit=COMMIT, number=12), "0.1.0-dev12.g01234567"),
        (Revision(commit=COMMIT, number=12, is_dirty=True), "0.1.0-dev12.g01234567.dirty"),
        (Revision(commit=COMMIT, release="2.3.4"), "2.3.4"),
    ],
)
def test_a_version_tells_where_it_is_from(revision: Revision, text: str) -> None:
    assert version_text(revision) == text


def test_product_info_holds_the_references_fields_and_the_build_time() -> None:
    revision = Revision(commit=COMMIT, commit_time_s=1_700_000_000)
    info = product_info(revision, components={"linux": "6.12"}, is_debug=True)
    assert info["variant"] == "x86_64-debug"
    assert info["commit_date"] == "2023-11-14T22:13:20Z"
    assert info["build_time"] == 1_700_000_000
    assert json.loads(product_info_json(info)) == dict(info)
    assert b'ID="metropolis-node"\n' in os_release(info)


def test_a_checkout_knows_its_commit_and_a_bare_directory_none(tmp_path: Path) -> None:
    assert read_revision(tmp_path) == Revision()
    here = read_revision(project_root())
    assert (here.commit == "") == (here.number == 0)
