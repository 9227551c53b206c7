# SPDX-License-Identifier: Apache-2.0
"""bundle.zip: one file with all that an installation needs.

    oci-layout, index.json, blobs/…   the system image, an OCI layout as it is
    bundle.json                       digest of the image, SHA-256 of every file below
    image.json                        root hash, predicted PCR 11, how to compare two builds
    enrolment/{PK,KEK,db}.auth        for firmware in Setup Mode
    enrolment/db.crt, pcr-public.pem  whose images these are
    sbom.spdx.json, licences/…        what is inside

It is a plain zip without compression (the system is compressed inside) and without times: the same
image gives the same bytes. What lies in it is verified when it is read; that it is the right bundle
is what the release's signed SHA256SUMS says.
"""

import hashlib
import hmac
import io
import json
import os
import shutil
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from typing_extensions import Buffer, override

from metropolis.base.errors import (
    DataLossError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
)
from metropolis.formats import authenticode, oci, pe
from metropolis.image.oci import OciImage, describe_layout, open_image

SYSTEM_FILE: Final = "system.img"
KERNEL_FILE: Final = "kernel.efi"
IMAGE_FILE: Final = "image.json"
BUNDLE_FILE: Final = "bundle.json"
CERTIFICATE_FILE: Final = "enrolment/db.crt"
ENROLMENT_NAMES: Final = ("PK", "KEK", "db")
FORMAT: Final = 1

_LOCAL_HEADER: Final = struct.Struct("<26sHH")
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # zip's first moment
_FILE_BYTES_MAX: Final = 32 << 20  # of everything but the payloads
_FILES_MAX: Final = 4096
_ROOT_HASH_DIGITS: Final = 64
_REMEDY: Final = "Download or build the bundle again, and compare it with SHA256SUMS."


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle, open for reading; nothing of it has to be closed.

    Attributes:
        image: The system image; `image.chunks("system")` yields the system partition, verified.
        files: Every other file by its path, verified.
        description: image.json.
    """

    image: OciImage
    files: Mapping[str, bytes]
    description: Mapping[str, object]

    @property
    def product_info(self) -> Mapping[str, object]:
        """Return product-info.json of the image."""
        return self.image.config.product_info

    @property
    def root_hash(self) -> bytes:
        """Return the root hash of the system partition; its first half is the partition's GUID."""
        return bytes.fromhex(str(self.description["root_hash"]))

    @property
    def system_bytes(self) -> int:
        """Return how long the system partition's content is."""
        return self.image.payload(oci.SYSTEM).size_bytes

    def system(self) -> Iterator[bytes]:
        """Yield the content of the system partition in pieces of 1 MiB, each verified.

        Raises:
            DataLossError: it is damaged; says where.
        """
        return self.image.chunks(oci.SYSTEM)

    def kernel(self) -> bytes:
        """Return the unified kernel image: signed by the bundle's db key, and for its system.

        Raises:
            DataLossError: it is damaged, not signed, signed by another, or starts another system.
        """
        kernel = self.image.read(oci.KERNEL)
        try:
            certificate = x509.load_pem_x509_certificate(self.files[CERTIFICATE_FILE])
        except ValueError as cause:
            raise _damaged(f"{CERTIFICATE_FILE} is no certificate") from cause
        authenticode.verify(kernel, certificate.public_bytes(Encoding.DER))
        words = pe.sections(kernel).get(".cmdline", b"").split()
        if f"metropolis.root={self.root_hash.hex()}".encode() not in words:
            raise _damaged("its kernel starts another system")
        return kernel

    @property
    def enrolment(self) -> Mapping[str, bytes]:
        """Return the signed values of PK, KEK and db, by variable."""
        return {name: self.files[f"enrolment/{name}.auth"] for name in ENROLMENT_NAMES}


@dataclass(frozen=True, slots=True, kw_only=True)
class _ZipBlobs:
    """A layout in a zip file.

    Files are read where they lie, past the archive's own checksums: those are compared at a file's
    end, too late to say which part is damaged, and prove nothing.
    """

    path: Path
    entries: Mapping[str, zipfile.ZipInfo]

    def size_bytes(self, path: str) -> int:
        return self._entry(path).file_size

    def open(self, path: str) -> BinaryIO:
        entry = self._entry(path)
        file = self.path.open("rb")
        file.seek(entry.header_offset)
        header = file.read(_LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\3\4":
            file.close()
            raise _damaged(f"{path} is not where it should be")
        _, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
        file.seek(name_bytes + extra_bytes, os.SEEK_CUR)
        return cast("BinaryIO", io.BufferedReader(_Slice(file, entry.file_size)))

    def _entry(self, path: str) -> zipfile.ZipInfo:
        entry = self.entries.get(path)
        if entry is None:
            raise NotFoundError(f"the bundle has no file {path}", remedy=_REMEDY)
        if entry.compress_type != zipfile.ZIP_STORED:
            raise _damaged(f"{path} is compressed")
        return entry


class _Slice(io.RawIOBase):
    """So many bytes of a file, from where it stands; closes it with itself."""

    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        super().__init__()
        self._file = file
        self._left = size_bytes

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        data = self._file.read(min(len(view), self._left))
        view[: len(data)] = data
        self._left -= len(data)
        return len(data)

    @override
    def close(self) -> None:
        self._file.close()
        super().close()


def write_bundle(image_directory: Path, output: Path) -> str:
    """Write the bundle of a built image; return the image's digest.

    The file is there when it is complete. Everything in the directory goes in.

    Raises:
        FailedPreconditionError: the directory holds no built image.
    """
    try:
        description = _read_json(image_directory / IMAGE_FILE)
        product_info = cast("oci.Json", description["product_info"])
        payloads = {
            oci.SYSTEM: image_directory / SYSTEM_FILE,
            oci.KERNEL: image_directory / KERNEL_FILE,
        }
        layout = describe_layout(payloads, product_info)
    except (OSError, ValueError, KeyError, TypeError) as cause:
        raise FailedPreconditionError(
            f"{image_directory} holds no built image", remedy="Run `metropolis image build`."
        ) from cause
    files = {
        path.relative_to(image_directory).as_posix(): path
        for path in image_directory.rglob("*")
        if path.is_file() and path not in payloads.values()
    }
    contents = {name: path.read_bytes() for name, path in sorted(files.items())}
    listed = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    statement = {"format": FORMAT, "image": layout.digest, "files": listed}
    contents[BUNDLE_FILE] = json.dumps(statement, indent=1, sort_keys=True).encode() + b"\n"
    contents |= layout.documents
    temporary = output.with_name(f".{output.name}.new")
    try:
        with zipfile.ZipFile(temporary, "w") as archive:
            for name, content in sorted(contents.items()):
                archive.writestr(_information(name, len(content)), content)
            for name, path in layout.payloads.items():
                information = _information(name, path.stat().st_size)
                with path.open("rb") as source, archive.open(information, "w") as target:
                    shutil.copyfileobj(source, target, oci.CHUNK_BYTES)
        temporary.replace(output)
    finally:
        temporary.unlink(missing_ok=True)
    return layout.digest


def open_bundle(path: Path) -> Bundle:
    """Open a bundle and verify all of it but the payloads, which are verified as they are read.

    Raises:
        NotFoundError: there is no such file, or something is missing in it.
        InvalidArgumentError: it is no bundle.
        DataLossError: it is damaged; says which file.
        UnimplementedError: it is of a version that we do not know.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
    except FileNotFoundError as cause:
        raise NotFoundError(
            f"there is no bundle {path}", remedy="Download bundle.zip, or run `make release`."
        ) from cause
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error) as cause:
        raise InvalidArgumentError(
            f"{path} is no bundle, or cut", remedy="Name a bundle.zip. " + _REMEDY
        ) from cause
    if len(entries) > _FILES_MAX:
        raise _damaged("it has too many files")
    return _opened(_ZipBlobs(path=path, entries=entries))


def _opened(blobs: _ZipBlobs) -> Bundle:
    statement = _json_object(_content(blobs, BUNDLE_FILE), BUNDLE_FILE)
    digest, listed = statement.get("image"), statement.get("files")
    if statement.get("format") != FORMAT or not isinstance(listed, dict):
        raise InvalidArgumentError(
            f"the bundle has format {statement.get('format')}, this program knows {FORMAT}",
            remedy="Use the metroctl of the release that the bundle belongs to, or a newer one.",
        )
    files: dict[str, bytes] = {}
    for name, expected in cast("Mapping[str, object]", listed).items():
        content = _content(blobs, name)
        if not hmac.compare_digest(hashlib.sha256(content).hexdigest(), str(expected)):
            raise _damaged(f"{name} does not match its hash")
        files[name] = content
    for name in (IMAGE_FILE, CERTIFICATE_FILE, *(f"enrolment/{n}.auth" for n in ENROLMENT_NAMES)):
        if name not in files:
            raise NotFoundError(f"the bundle has no file {name}", remedy=_REMEDY)
    description = _json_object(files[IMAGE_FILE], IMAGE_FILE)
    root_hash = str(description.get("root_hash"))
    if len(root_hash) != _ROOT_HASH_DIGITS or set(root_hash) - set("0123456789abcdef"):
        raise _damaged(f"{IMAGE_FILE} has no root hash")
    image = open_image(blobs, digest=str(digest))
    return Bundle(image=image, files=files, description=description)


def _content(blobs: _ZipBlobs, path: str) -> bytes:
    if blobs.size_bytes(path) > _FILE_BYTES_MAX:
        raise _damaged(f"{path} is too large")
    with blobs.open(path) as file:
        return file.read()


def _information(name: str, size: int) -> zipfile.ZipInfo:
    information = zipfile.ZipInfo(name, _EPOCH)
    information.compress_type = zipfile.ZIP_STORED
    information.create_system = 3  # Unix, wherever this runs
    information.external_attr = 0o100644 << 16
    information.file_size = size
    return information


def _read_json(path: Path) -> Mapping[str, object]:
    return cast("Mapping[str, object]", json.loads(path.read_bytes()))


def _json_object(content: bytes, name: str) -> Mapping[str, object]:
    try:
        document: object = json.loads(content)
    except (ValueError, RecursionError) as cause:
        raise _damaged(f"{name} is no JSON") from cause
    if not isinstance(document, dict):
        raise _damaged(f"{name} is no JSON object")
    return cast("Mapping[str, object]", document)


def _damaged(reason: str) -> DataLossError:
    return DataLossError(f"the bundle is damaged: {reason}", remedy=_REMEDY)
