# SPDX-License-Identifier: Apache-2.0
"""A bundle is the same every time, and every damage of it is found and named."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kits.signer import signer
from kits.system_image import small_image
from metropolis.base.errors import (
    DataLossError,
    FailedPreconditionError,
    InvalidArgumentError,
    MetropolisError,
    NotFoundError,
)
from metropolis.formats import authenticode
from metropolis.image.bundle import open_bundle, write_bundle
from metropolis.image.oci import DirectoryBlobs, describe_layout, open_image, write_layout


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return small_image(tmp_path / "image")


@pytest.fixture
def bundle(image: Path, tmp_path: Path) -> Path:
    write_bundle(image, tmp_path / "bundle.zip")
    return tmp_path / "bundle.zip"


def _read_all(path: Path) -> None:
    bundle = open_bundle(path)
    bundle.kernel()
    for _ in bundle.system():
        pass


def test_a_bundle_gives_back_the_image_that_went_in(image: Path, bundle: Path) -> None:
    opened = open_bundle(bundle)
    assert b"".join(opened.system()) == (image / "system.img").read_bytes()
    assert opened.system_bytes == (image / "system.img").stat().st_size
    assert opened.kernel() == (image / "kernel.efi").read_bytes()
    assert opened.product_info["version"] == "1.2.3"
    assert opened.root_hash.hex() == json.loads((image / "image.json").read_text())["root_hash"]
    assert opened.enrolment == {
        name: (image / f"enrolment/{name}.auth").read_bytes() for name in ("PK", "KEK", "db")
    }
    assert opened.files["pcr-public.pem"] == (image / "pcr-public.pem").read_bytes()


def test_the_same_image_gives_the_same_bundle(image: Path, bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(image, copy, copy_function=shutil.copyfile)  # other times, other order
    write_bundle(copy, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == bundle.read_bytes()


def test_unpacked_it_is_an_oci_layout(bundle: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path / "layout")
    image = open_image(DirectoryBlobs(directory=tmp_path / "layout"))
    assert image.digest == open_bundle(bundle).image.digest


def test_a_flipped_byte_in_any_file_is_found_and_named(bundle: Path) -> None:
    original = bundle.read_bytes()
    with zipfile.ZipFile(bundle) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
    (config,) = (name for name, e in entries.items() if b"format_version" in _content(original, e))
    del entries["oci-layout"]  # says nothing that we rely on
    expected = {
        "index.json": "impossible digest|holds the image",
        config: "blob sha256:",
        "bundle.json": "bundle",
    }
    for name, entry in entries.items():
        data = bytearray(original)
        start = entry.header_offset + 30 + len(name)
        data[start + entry.file_size // 2] ^= 1
        bundle.write_bytes(data)
        if entry.file_size > 2_000_000:
            reason = "payload 'system' of a system image is damaged: chunk 2 of 3"
        elif entry.file_size > 1_000_000:
            reason = "payload 'kernel.efi' of a system image is damaged: chunk 1 of 2"
        else:
            reason = expected.get(name, f"{name} does not match its hash|blob sha256:")
        with pytest.raises(MetropolisError, match=reason) as refused:
            _read_all(bundle)
        assert refused.value.remedy


def _content(data: bytes, entry: zipfile.ZipInfo) -> bytes:
    start = entry.header_offset + 30 + len(entry.filename)
    return data[start : start + min(entry.file_size, 5000)]


def _rewritten(image: Path, change: Callable[[Path], object]) -> Path:
    change(image)
    write_bundle(image, image.parent / "changed.zip")
    return image.parent / "changed.zip"


def test_a_kernel_of_another_signer_or_of_another_system_is_refused(image: Path) -> None:
    kernel = image / "kernel.efi"

    def sign_by(name: str) -> None:
        signed = authenticode.attach(
            kernel.read_bytes(),
            certificate_der=signer(name).certificate_der,
            sign=signer(name).sign,
            signing_time=signer(name).certificate.not_valid_before_utc,
        )
        kernel.write_bytes(signed)

    changed = _rewritten(image, lambda _: sign_by("foreign"))
    with pytest.raises(DataLossError, match="not the one of this certificate"):
        open_bundle(changed).kernel()
    sign_by("db")
    description = json.loads((image / "image.json").read_text())
    other = json.dumps({**description, "root_hash": "ab" * 32})
    changed = _rewritten(image, lambda _: (image / "image.json").write_text(other))
    with pytest.raises(DataLossError, match="starts another system"):
        open_bundle(changed).kernel()


def test_a_bundle_that_lacks_what_an_installation_needs_is_refused(image: Path) -> None:
    changed = _rewritten(image, lambda _: (image / "enrolment/KEK.auth").unlink())
    with pytest.raises(NotFoundError, match=r"no file enrolment/KEK\.auth"):
        open_bundle(changed)


def test_what_is_no_bundle_is_refused_with_the_next_step(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no bundle"):
        open_bundle(tmp_path / "nothing.zip")
    cut = tmp_path / "cut.zip"
    cut.write_bytes(bundle.read_bytes()[:-100])
    with pytest.raises(InvalidArgumentError, match="is no bundle, or cut"):
        open_bundle(cut)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme", "hello")
    with pytest.raises(NotFoundError, match=r"no file bundle\.json"):
        open_bundle(tmp_path / "other.zip")
    with pytest.raises(FailedPreconditionError, match="no built image"):
        write_bundle(tmp_path, tmp_path / "x.zip")
    assert not list(tmp_path.glob(".*.new"))


def test_an_image_is_known_by_its_digest(image: Path, tmp_path: Path) -> None:
    layout = describe_layout({"system": image / "system.img"}, {"name": "x"})
    write_layout(layout, tmp_path / "layout")
    blobs = DirectoryBlobs(directory=tmp_path / "layout")
    found = open_image(blobs, digest=layout.digest)
    assert found.read("system") == (image / "system.img").read_bytes()
    with pytest.raises(DataLossError, match="holds the image"):
        open_image(blobs, digest="sha256:" + "0" * 64)
    with pytest.raises(NotFoundError, match="no payload"):
        found.read("other")
