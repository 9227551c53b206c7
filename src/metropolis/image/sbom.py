# SPDX-License-Identifier: Apache-2.0
"""What an image consists of, for programs that look for known defects: SPDX 2.3 as JSON.

    the image ─ CONTAINS ─▶ Debian packages, wheels, our own code
              ─ CONTAINS ─▶ files ─ GENERATED_FROM ─▶ one of those
              ◀─ BUILD_TOOL_OF ─ packages that were only run while building

Every package has a purl and the SHA-256 of what was downloaded. It says what makers declare;
licence texts lie in licences/. All of it follows from the inputs: one image, one document.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, cast
from urllib.parse import quote

from metropolis.image.licences import DIRECTORY, declared_licence, is_inside
from metropolis.image.manifest import PACKED, ImageInputs, PackageInput, WheelInput
from metropolis.image.tree import File

SBOM_FILE: Final = "sbom.spdx.json"
_SUITE: Final = "trixie"
_DOCUMENT: Final = "SPDXRef-DOCUMENT"
_IMAGE: Final = "SPDXRef-image"
_OWN_CODE: Final = "SPDXRef-metropolis"
_UNKNOWN: Final = "NOASSERTION"
_IDENTIFIERS: Final = frozenset(  # of SPDX's licence list, as far as wheels of ours declare them
    ("Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "MIT", "MIT-0", "MPL-2.0", "PSF-2.0")
)

Json = Mapping[str, object]


def sbom_json(inputs: ImageInputs, listed: Json, product_info: Json) -> bytes:
    """Return the document.

    Args:
        listed: The content of manifest.json of the same inputs.
    """
    files = cast("Sequence[Mapping[str, str]]", listed["files"])
    sha1 = {
        f"/{path}": hashlib.sha1(entry.read(), usedforsecurity=False).hexdigest()
        for path, entry in inputs.root.walk()
        if isinstance(entry, File)
    }
    code = hashlib.sha1("".join(sorted(sha1.values())).encode(), usedforsecurity=False)
    body: dict[str, object] = {
        "packages": _packages(inputs, product_info, verification_code=code.hexdigest()),
        "files": [_file(file["path"], sha1[file["path"]], file["sha256"]) for file in files],
        "relationships": _relationships(inputs, files),
    }
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    seconds = product_info["build_time"]
    assert isinstance(seconds, int)
    name = f"metropolis-node-{product_info['version']}"
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": _DOCUMENT,
        "name": name,
        # A name, not a place: unique for every content, as the standard wants it.
        "documentNamespace": f"https://metropolis.invalid/spdx/{name}-{digest}",
        "creationInfo": {
            "created": datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "creators": ["Tool: metropolis-image-build"],
        },
        **body,
    }
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def _packages(inputs: ImageInputs, product_info: Json, *, verification_code: str) -> Sequence[Json]:
    version = str(product_info["version"])
    image = _package(_IMAGE, "metropolis-node", version, "OPERATING-SYSTEM", licence=_UNKNOWN)
    return [
        {
            **image,
            "filesAnalyzed": True,
            "packageVerificationCode": {"packageVerificationCodeValue": verification_code},
        },
        _package(_OWN_CODE, "metropolis", version, "SOURCE", licence="Apache-2.0"),
        *(_debian(each) for each in inputs.packages),
        *(_wheel(each) for each in inputs.wheels),
    ]


def _package(identifier: str, name: str, version: str, purpose: str, *, licence: str) -> Json:
    return {
        "SPDXID": identifier,
        "name": name,
        "versionInfo": version,
        "downloadLocation": _UNKNOWN,
        "filesAnalyzed": False,
        "licenseConcluded": _UNKNOWN,
        "licenseDeclared": licence,
        "copyrightText": _UNKNOWN,
        "primaryPackagePurpose": purpose,
    }


def _debian(each: PackageInput) -> Json:
    package = each.package
    place = f"{DIRECTORY}/debian/{package.name}/copyright"
    purl = f"pkg:deb/debian/{quote(package.name, safe='')}@{quote(package.version, safe='')}"
    return {
        **_package(
            *(_debian_identifier(each), package.name, package.version, "LIBRARY"),
            licence=_UNKNOWN,
        ),
        "supplier": "Organization: Debian",
        "checksums": [_sha256(package.sha256)],
        "externalRefs": [_purl(f"{purl}?arch={package.architecture}&distro={_SUITE}")],
        **({"licenseComments": f"see {place}"} if is_inside(each) else {}),
    }


def _wheel(each: WheelInput) -> Json:
    declared = declared_licence(each)
    licence = declared if declared in _IDENTIFIERS else _UNKNOWN
    comment = f"see {DIRECTORY}/wheels/{each.name}/"
    if declared != licence:
        comment = f"declared as {declared!r}; {comment}"
    digest = hashlib.sha256(each.file.read_bytes()).hexdigest()
    return {
        **_package(*(_wheel_identifier(each), each.name, each.version, "LIBRARY"), licence=licence),
        "packageFileName": each.file.name,
        "checksums": [_sha256(digest)],
        "externalRefs": [_purl(f"pkg:pypi/{each.name}@{quote(each.version, safe='')}")],
        "licenseComments": comment,
    }


def _file(path: str, sha1: str, sha256: str) -> Json:
    return {
        "SPDXID": _file_identifier(path),
        "fileName": f".{path}",
        "checksums": [
            {"algorithm": "SHA1", "checksumValue": sha1},  # the standard asks for it
            _sha256(sha256),
        ],
        "licenseConcluded": _UNKNOWN,
        "copyrightText": _UNKNOWN,
    }


def _relationships(inputs: ImageInputs, files: Sequence[Mapping[str, str]]) -> Sequence[Json]:
    found = [_relationship(_DOCUMENT, "DESCRIBES", _IMAGE)]
    found.append(_relationship(_IMAGE, "CONTAINS", _OWN_CODE))
    origins: dict[str, str] = dict.fromkeys(("metropolis", "declaration", PACKED), _OWN_CODE)
    for package in inputs.packages:
        identifier = _debian_identifier(package)
        origins[f"package {package.package.name}"] = identifier
        if is_inside(package):
            found.append(_relationship(_IMAGE, "CONTAINS", identifier))
        else:
            found.append(_relationship(identifier, "BUILD_TOOL_OF", _IMAGE))
    for wheel in inputs.wheels:
        origins[f"wheel {wheel.name}"] = _wheel_identifier(wheel)
        found.append(_relationship(_IMAGE, "CONTAINS", _wheel_identifier(wheel)))
    for file in files:
        identifier = _file_identifier(file["path"])
        found.append(_relationship(_IMAGE, "CONTAINS", identifier))
        found.append(_relationship(identifier, "GENERATED_FROM", origins[file["origin"]]))
    return found


def _relationship(subject: str, kind: str, thing: str) -> Json:
    return {"spdxElementId": subject, "relationshipType": kind, "relatedSpdxElement": thing}


def _debian_identifier(each: PackageInput) -> str:
    return "SPDXRef-deb-" + re.sub(r"[^A-Za-z0-9.-]", "-", each.package.name)


def _wheel_identifier(each: WheelInput) -> str:
    return f"SPDXRef-wheel-{each.name}"


def _file_identifier(path: str) -> str:
    return "SPDXRef-file-" + hashlib.sha256(path.encode()).hexdigest()[:32]


def _sha256(digest: str) -> Json:
    return {"algorithm": "SHA256", "checksumValue": digest}


def _purl(locator: str) -> Json:
    return {
        "referenceCategory": "PACKAGE-MANAGER",
        "referenceType": "purl",
        "referenceLocator": locator,
    }
