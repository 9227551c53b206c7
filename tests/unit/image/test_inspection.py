# SPDX-License-Identifier: Apache-2.0
"""Inspection: an image is what it says, or the sentence says what is not."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from kits.portable_executable import stub
from metropolis.base.errors import DataLossError, NotFoundError
from metropolis.formats.verity import BLOCK_BYTES, hash_tree
from metropolis.image.enrolment import enrolment_files
from metropolis.image.inspection import problems, read_description
from metropolis.image.kernel_image import SystemSeal, unified_kernel
from metropolis.image.keys import BuilderKey, open_keys


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, BuilderKey]:
    return open_keys(tmp_path_factory.mktemp("home") / "keys", checkout=Path("/nonexistent"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, keys: Mapping[str, BuilderKey]) -> Path:
    place = tmp_path_factory.mktemp("built") / "image"
    (place / "enrolment").mkdir(parents=True)
    data = bytes(range(256)) * (BLOCK_BYTES // 256) * 3
    salt = hashlib.sha256(data).digest()
    verified = hash_tree([data], salt)
    seal = SystemSeal(root_hash=verified.root_hash.hex(), data_blocks=3, salt=salt.hex())
    kernel = unified_kernel(
        stub=stub(),
        kernel=b"kernel",
        kernel_version="6.12",
        initrd=b"initrd",
        os_release=b"ID=test\n",
        seal=seal,
        keys=keys,
    )
    contents = {"system.img": data + verified.tree, "kernel.efi": kernel.content}
    described = {
        "root_hash": seal.root_hash,
        "data_blocks": seal.data_blocks,
        "salt": seal.salt,
        "pcr11": kernel.pcr11,
        "files": {
            name: {"sha256": hashlib.sha256(content).hexdigest()}
            for name, content in contents.items()
        },
    }
    contents["image.json"] = json.dumps(described).encode()
    contents |= {f"enrolment/{name}": each for name, each in enrolment_files(keys).items()}
    for name, content in contents.items():
        (place / name).write_bytes(content)
    return place


@pytest.fixture
def image(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "image"))


def found(place: Path) -> list[str]:
    return list(problems(place, read_description(place)))


def test_an_image_that_is_whole_has_no_problems(image: Path) -> None:
    assert found(image) == []


@pytest.mark.parametrize("at", [5, 3 * BLOCK_BYTES + 7], ids=["data", "tree"])
def test_a_flipped_byte_of_the_system_is_seen_by_its_digest_and_its_tree(
    image: Path, at: int
) -> None:
    content = bytearray((image / "system.img").read_bytes())
    content[at] ^= 1
    (image / "system.img").write_bytes(content)
    assert [sentence.partition(" ")[0] for sentence in found(image)] == ["system.img"] * 2


def test_a_description_that_was_changed_with_the_file_is_seen_by_the_kernel(image: Path) -> None:
    described = json.loads((image / "image.json").read_text())
    data = bytes(3 * BLOCK_BYTES)
    verified = hash_tree([data], b"\0" * 32)
    (image / "system.img").write_bytes(data + verified.tree)
    described["root_hash"] = verified.root_hash.hex()
    described["salt"] = "00" * 32
    described["files"]["system.img"]["sha256"] = hashlib.sha256(data + verified.tree).hexdigest()
    (image / "image.json").write_text(json.dumps(described))
    assert found(image) == ["kernel.efi trusts another system"]


def test_a_foreign_signature_is_seen(image: Path, tmp_path: Path) -> None:
    others = open_keys(tmp_path / "keys", checkout=Path("/nonexistent"))
    (image / "enrolment/db.crt").write_bytes(enrolment_files(others)["db.crt"])
    assert found(image) == ["kernel.efi is not signed by enrolment/db.crt"]


def test_a_wrong_measurement_is_seen(image: Path) -> None:
    described = json.loads((image / "image.json").read_text())
    described["pcr11"] = "00" * 32
    (image / "image.json").write_text(json.dumps(described))
    assert found(image) == ["PCR 11 is foretold wrongly"]


def test_a_description_that_says_nothing_makes_everything_doubtful(image: Path) -> None:
    (image / "image.json").write_text("{}")
    assert len(found(image)) == 4  # but the signature, which needs none
    (image / "image.json").write_text("[]")
    with pytest.raises(DataLossError, match="damaged"):
        read_description(image)
    (image / "image.json").write_text("{")
    with pytest.raises(DataLossError, match="damaged"):
        read_description(image)


def test_where_no_image_is_the_remedy_is_to_build_one(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        read_description(tmp_path)
    assert "metropolis image build" in (caught.value.remedy or "")
