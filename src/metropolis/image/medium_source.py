# SPDX-License-Identifier: Apache-2.0
"""What a medium is made of: bundle.zip, or the directory that an image was built into."""

import hashlib
import hmac
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from metropolis.base.errors import DataLossError, InvalidArgumentError, MetropolisError
from metropolis.formats.install_medium import ENROLMENT_NAMES, ROOT_HASH_BYTES
from metropolis.image.bundle import IMAGE_FILE, KERNEL_FILE, SYSTEM_FILE, open_bundle

_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class MediumSource:
    """An image, with what firmware must believe to start it.

    Attributes:
        product: Name and version, for people.
        system: Yields the system image; raises DataLossError where it is damaged.
        enrolment: Signed values of PK, KEK and db, by variable.
    """

    product: str
    root_hash: bytes
    kernel: bytes
    system_bytes: int
    system: Callable[[], Iterable[bytes]]
    enrolment: Mapping[str, bytes]


def open_source(path: Path) -> MediumSource:
    """Open a bundle, or the directory of a built image.

    Raises:
        NotFoundError: there is none, or something is missing in it.
        InvalidArgumentError: it is neither.
        DataLossError: it is damaged.
    """
    if path.is_dir():
        return _of_directory(path)
    bundle = open_bundle(path)
    return MediumSource(
        product=_product(bundle.product_info),
        root_hash=bundle.root_hash,
        kernel=bundle.kernel(),
        system_bytes=bundle.system_bytes,
        system=bundle.system,
        enrolment=bundle.enrolment,
    )


def _of_directory(directory: Path) -> MediumSource:
    try:
        record = cast("dict[str, Any]", json.loads((directory / IMAGE_FILE).read_bytes()))
        root_hash = bytes.fromhex(record["root_hash"])
        product = _product(record["product_info"])
        digests = {
            name: bytes.fromhex(record["files"][name]["sha256"])
            for name in (SYSTEM_FILE, KERNEL_FILE)
        }
        kernel = (directory / KERNEL_FILE).read_bytes()
        enrolment = {
            name: (directory / "enrolment" / f"{name}.auth").read_bytes()
            for name in ENROLMENT_NAMES
        }
        system_bytes = (directory / SYSTEM_FILE).stat().st_size
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as cause:
        raise InvalidArgumentError(
            f"{directory} holds no built image",
            remedy="Name a bundle.zip, or the directory of `metropolis image build`.",
        ) from cause
    if len(root_hash) != ROOT_HASH_BYTES:
        raise _damaged(directory / IMAGE_FILE)
    if not hmac.compare_digest(hashlib.sha256(kernel).digest(), digests[KERNEL_FILE]):
        raise _damaged(directory / KERNEL_FILE)
    return MediumSource(
        product=product,
        root_hash=root_hash,
        kernel=kernel,
        system_bytes=system_bytes,
        system=lambda: _checked(directory / SYSTEM_FILE, digests[SYSTEM_FILE]),
        enrolment=enrolment,
    )


def _checked(path: Path, digest: bytes) -> Iterator[bytes]:
    """Yield a file; the last piece comes only if all of it is what was built."""
    hasher = hashlib.sha256()
    held = b""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            hasher.update(chunk)
            if held:
                yield held
            held = chunk
    if not hmac.compare_digest(hasher.digest(), digest):
        raise _damaged(path)
    yield held


def _product(info: Mapping[str, object]) -> str:
    return f"{info['name']} {info['version']}"


def _damaged(path: Path) -> MetropolisError:
    return DataLossError(
        f"{path} is not what was built", remedy="Run `metropolis image build` again."
    )
