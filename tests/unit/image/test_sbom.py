# SPDX-License-Identifier: Apache-2.0
"""Everything in an image is named once, with its origin and its licence."""

import hashlib
import json
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from metropolis.base.errors import NotFoundError
from metropolis.host.linux.debian.lock import Package
from metropolis.image.declaration import parse_declaration
from metropolis.image.licences import licence_files
from metropolis.image.manifest import ImageInputs, PackageInput, WheelInput, manifest
from metropolis.image.sbom import sbom_json
from metropolis.image.tree import File, Tree

ROOT = Path(__file__).parents[3]
INFO = {"version": "1.2.3", "build_time": 1577836800}
SITE = "usr/lib/metropolis"


def _package(place: Path, name: str, *, use: str = "image", shares: str = "") -> PackageInput:
    """A package with one program, and its licence or a link to another package's."""
    tree = place / name
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/bin" / name).write_bytes(name.encode())
    documents = tree / "usr/share/doc"
    documents.mkdir(parents=True)
    if shares:
        (documents / name).symlink_to(shares)
    else:
        (documents / name).mkdir()
        (documents / name / "copyright").write_bytes(b"licence of " + name.encode())
    digest = hashlib.sha256(name.encode()).hexdigest()
    package = Package(name=name, version="2:1.0+x-1", architecture="amd64", sha256=digest)
    return PackageInput(package=package, tree=tree, use=use)


def _wheel(place: Path, name: str, metadata: str, **files: str) -> WheelInput:
    path = place / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/__init__.py", "")
        archive.writestr(
            f"{name}-1.0.dist-info/METADATA", f"Name: {name}\n{metadata}\n\nLicense: no"
        )
        for file, content in files.items():
            archive.writestr(f"{name}-1.0.dist-info/{file.replace('__', '/')}", content)
    return WheelInput(name=name, version="1.0", file=path)


@pytest.fixture
def inputs(tmp_path: Path) -> ImageInputs:
    root = Tree()
    root.add("usr/bin/etcd", File(content=b"etcd", is_program=True))
    root.add("etc/hostname", File(content=b"node"))
    root.add(f"{SITE}/metropolis/base/errors.pyc", File(content=b"ours"))
    root.add(f"{SITE}/good/__init__.pyc", File(content=b"theirs"))
    declaration = parse_declaration((ROOT / "images/node.toml").read_text(encoding="utf-8"))
    assert declaration.site == SITE
    return ImageInputs(
        packages=[
            _package(tmp_path, "etcd"),
            _package(tmp_path, "libgcc", shares="gcc-base"),
            _package(tmp_path, "gcc-base"),
            _package(tmp_path, "mkfs", use="tool"),
        ],
        wheels=[
            _wheel(tmp_path, "good", "License-Expression: MIT", licenses__LICENSE="MIT text"),
            _wheel(tmp_path, "old", "License: some BSD"),
        ],
        root=root,
        initrd=[],
        declaration=declaration,
    )


def _document(inputs: ImageInputs) -> Any:
    return json.loads(sbom_json(inputs, manifest(inputs), INFO))


def test_every_reference_leads_somewhere_and_every_name_is_one_thing(inputs: ImageInputs) -> None:
    document = _document(inputs)
    names = Counter(each["SPDXID"] for each in (*document["packages"], *document["files"]))
    names[document["SPDXID"]] += 1
    assert set(names.values()) == {1}
    for each in document["relationships"]:
        assert each["spdxElementId"] in names
        assert each["relatedSpdxElement"] in names


def test_every_file_is_in_the_image_and_says_what_it_came_from(inputs: ImageInputs) -> None:
    document = _document(inputs)
    paths = {each["SPDXID"]: each["fileName"] for each in document["files"]}
    names = {each["SPDXID"]: each["name"] for each in document["packages"]}
    origins = {
        paths[each["spdxElementId"]]: names[each["relatedSpdxElement"]]
        for each in document["relationships"]
        if each["relationshipType"] == "GENERATED_FROM"
    }
    assert origins == {
        "./usr/bin/etcd": "etcd",
        "./etc/hostname": "metropolis",
        f"./{SITE}/metropolis/base/errors.pyc": "metropolis",
        f"./{SITE}/good/__init__.pyc": "good",
    }
    contained = [
        paths[each["relatedSpdxElement"]]
        for each in document["relationships"]
        if each["spdxElementId"] == "SPDXRef-image" and each["relatedSpdxElement"] in paths
    ]
    assert sorted(contained) == sorted(origins)


def test_the_code_of_all_files_is_the_standard_s(inputs: ImageInputs) -> None:
    image = next(e for e in _document(inputs)["packages"] if e["SPDXID"] == "SPDXRef-image")
    contents = (b"etcd", b"node", b"ours", b"theirs")
    each = sorted(hashlib.sha1(content).hexdigest() for content in contents)
    expected = hashlib.sha1("".join(each).encode()).hexdigest()
    assert image["packageVerificationCode"] == {"packageVerificationCodeValue": expected}


def test_packages_are_named_as_programs_that_look_for_defects_name_them(
    inputs: ImageInputs,
) -> None:
    packages = {each["name"]: each for each in _document(inputs)["packages"]}
    assert packages["etcd"]["externalRefs"][0]["referenceLocator"] == (
        "pkg:deb/debian/etcd@2%3A1.0%2Bx-1?arch=amd64&distro=trixie"
    )
    assert packages["good"]["externalRefs"][0]["referenceLocator"] == "pkg:pypi/good@1.0"
    assert packages["good"]["licenseDeclared"] == "MIT"
    assert packages["old"]["licenseDeclared"] == "NOASSERTION"
    assert packages["old"]["licenseComments"].startswith("declared as 'some BSD'")
    digest = hashlib.sha256(b"etcd").hexdigest()
    assert packages["etcd"]["checksums"] == [{"algorithm": "SHA256", "checksumValue": digest}]


def test_tools_of_the_build_are_told_apart_from_contents(inputs: ImageInputs) -> None:
    kinds = {
        (each["spdxElementId"], each["relationshipType"])
        for each in _document(inputs)["relationships"]
    }
    assert ("SPDXRef-deb-mkfs", "BUILD_TOOL_OF") in kinds
    assert "licences/debian/mkfs/copyright" not in licence_files(inputs, checkout=ROOT)


def test_the_same_inputs_give_the_same_document(inputs: ImageInputs) -> None:
    listed = manifest(inputs)
    document = sbom_json(inputs, listed, INFO)
    assert document == sbom_json(inputs, listed, INFO)
    other = json.loads(sbom_json(inputs, listed, {**INFO, "version": "1.2.4"}))
    assert other["documentNamespace"] != json.loads(document)["documentNamespace"]
    assert json.loads(document)["creationInfo"]["created"] == "2020-01-01T00:00:00Z"


def test_every_licence_is_beside_the_image(inputs: ImageInputs) -> None:
    files = licence_files(inputs, checkout=ROOT)
    assert files["licences/debian/etcd/copyright"] == b"licence of etcd"
    assert files["licences/debian/libgcc/copyright"] == b"licence of gcc-base"
    assert files["licences/wheels/good/LICENSE"] == b"MIT text"
    assert b"some BSD" in files["licences/wheels/old/METADATA"]
    assert b"Apache License" in files["licences/metropolis/LICENSE"]


def test_a_package_without_its_licence_is_refused(inputs: ImageInputs) -> None:
    lacking = replace(inputs, packages=inputs.packages[:2])
    with pytest.raises(NotFoundError, match="libgcc comes without its licence") as refused:
        licence_files(lacking, checkout=ROOT)
    assert "Add gcc-base" in refused.value.remedy
