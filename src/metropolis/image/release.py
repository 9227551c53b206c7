# SPDX-License-Identifier: Apache-2.0
"""What is published: files, their SHA-256, and the builder's signature of those.

    metroctl        one file, see `single_file`
    bundle.zip      an installation's everything, see `bundle`
    builder.crt     certificate of the key that signs boot images, and this
    SHA256SUMS      of the files above, as `sha256sum --check` reads it
    SHA256SUMS.sig  RSASSA-PKCS1-v1_5 over SHA-256, by the key of builder.crt

The same sources and keys give the same bytes.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

from cryptography.hazmat.primitives.serialization import Encoding

from metropolis.base.errors import FailedPreconditionError
from metropolis.image.bundle import CERTIFICATE_FILE, IMAGE_FILE, write_bundle
from metropolis.image.keys import BuilderKey
from metropolis.image.single_file import PROGRAM

BUNDLE: Final = "bundle.zip"
CERTIFICATE: Final = "builder.crt"
CHECKSUMS: Final = "SHA256SUMS"
SIGNATURE: Final = "SHA256SUMS.sig"


def write_release(*, image: Path, metroctl: Path, key: BuilderKey, output: Path) -> None:
    """Write a release into a directory, which is replaced as a whole.

    Args:
        image: Directory of a built image.
        metroctl: The one file.
        key: The builder's db key.

    Raises:
        FailedPreconditionError: there is no built image, it was signed by another key, or it is
            one with the debug service.
    """
    _check(image, key)
    output.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}-"))
    try:
        write_bundle(image, scratch / BUNDLE)
        shutil.copyfile(metroctl, scratch / PROGRAM)
        (scratch / PROGRAM).chmod(0o755)
        (scratch / CERTIFICATE).write_bytes(key.certificate.public_bytes(Encoding.PEM))
        sums = "".join(
            f"{_sha256(scratch / name)}  {name}\n" for name in (CERTIFICATE, BUNDLE, PROGRAM)
        ).encode("ascii")
        (scratch / CHECKSUMS).write_bytes(sums)
        (scratch / SIGNATURE).write_bytes(key.sign(sums))
        scratch.chmod(0o755)
        _replace(scratch, output)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _check(image: Path, key: BuilderKey) -> None:
    try:
        description = cast("Mapping[str, object]", json.loads((image / IMAGE_FILE).read_bytes()))
        info = cast("Mapping[str, object]", description["product_info"])
        variant = str(info.get("variant"))
        certificate = (image / CERTIFICATE_FILE).read_bytes()
    except (OSError, ValueError, KeyError, TypeError) as cause:
        raise FailedPreconditionError(
            f"{image} holds no built image", remedy="Run `metropolis image build`."
        ) from cause
    if variant.endswith("-debug"):
        raise FailedPreconditionError(
            "an image with the debug service is not released",
            remedy="Run `metropolis image build` without --debug.",
        )
    if certificate != key.certificate.public_bytes(Encoding.PEM):
        raise FailedPreconditionError(
            f"the image in {image} was signed by another builder's key",
            remedy="Build it again, or name the directory of the keys it was signed with.",
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _replace(scratch: Path, output: Path) -> None:
    old = scratch.with_name(f"{scratch.name}.old")
    if output.exists():
        output.rename(old)
    scratch.rename(output)
    shutil.rmtree(old, ignore_errors=True)
