# SPDX-License-Identifier: Apache-2.0
"""A system image as an OCI layout: made from files, read from wherever a layout lies.

describe_layout(payloads, product_info) ─▶ OciLayout: small documents, and which file is which blob
open_image(blobs) ─▶ OciImage: payloads as chunks that were verified before they are handed out
"""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from metropolis.base.errors import DataLossError, FailedPreconditionError, NotFoundError
from metropolis.formats import oci
from metropolis.formats.oci import Descriptor, ImageConfig, Manifest, Payload, PayloadHasher

READ_BYTES_MAX: Final = 50 << 20  # of a payload that is wanted in one piece


class Blobs(Protocol):
    """Where the files of a layout are, by their path in it."""

    def size_bytes(self, path: str) -> int:
        """Return how long a file is.

        Raises:
            NotFoundError: there is none.
        """
        ...

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading.

        Raises:
            NotFoundError: there is none.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OciLayout:
    """What a layout consists of.

    Attributes:
        digest: Of the manifest: the image's name.
        documents: Content by path: oci-layout, index.json, manifest and config.
        payloads: The files to be copied, by path in the layout.
    """

    digest: str
    documents: Mapping[str, bytes]
    payloads: Mapping[str, Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryBlobs:
    """A layout in a directory."""

    directory: Path

    def size_bytes(self, path: str) -> int:
        """Return how long a file is; see `Blobs`."""
        with self.open(path) as file:
            return os.fstat(file.fileno()).st_size

    def open(self, path: str) -> BinaryIO:
        """Open a file; see `Blobs`."""
        try:
            return (self.directory / path).open("rb")
        except OSError as cause:
            raise NotFoundError(
                f"{self.directory} is no complete OCI layout: {path} cannot be read",
                remedy="Name a bundle.zip, or an image that `metropolis image build` has written.",
            ) from cause


@dataclass(frozen=True, slots=True, kw_only=True)
class OciImage:
    """A system image whose documents are verified; payloads are while they are read.

    Attributes:
        digest: Of the manifest.
    """

    digest: str
    config: ImageConfig
    _blobs: Blobs
    _layers: Mapping[str, Descriptor]

    def payload(self, name: str) -> Payload:
        """Return what the image says of a payload.

        Raises:
            NotFoundError: it has none of that name.
        """
        for payload in self.config.payloads:
            if payload.name == name:
                return payload
        raise NotFoundError(
            f"the system image has no payload {name!r}", remedy="Use an image of this product."
        )

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield a payload in pieces, each after its hash was compared.

        Raises:
            NotFoundError: there is no such payload.
            DataLossError: it is damaged; says where.
        """
        payload = self.payload(name)
        with self._blobs.open(self._layers[name].path) as file:
            yield from payload.verified(_pieces(file, payload.chunk_bytes))

    def read(self, name: str) -> bytes:
        """Return a payload of at most 50 MiB, verified.

        Raises:
            NotFoundError: there is no such payload.
            DataLossError: it is damaged; says where.
            FailedPreconditionError: it is too large.
        """
        if self.payload(name).size_bytes > READ_BYTES_MAX:
            raise FailedPreconditionError(f"the payload {name!r} of the image is too large")
        return b"".join(self.chunks(name))


def describe_layout(payloads: Mapping[str, Path], product_info: oci.Json) -> OciLayout:
    """Hash payloads and write the documents that name them, in the order given."""
    described: list[Payload] = []
    layers: list[Descriptor] = []
    for name, path in payloads.items():
        hasher = PayloadHasher()
        with path.open("rb") as file:
            for piece in _pieces(file, oci.CHUNK_BYTES):
                hasher.feed(piece)
        payload, layer = hasher.finish(name)
        described.append(payload)
        layers.append(layer)
    config = oci.encode_config(ImageConfig(product_info=product_info, payloads=described))
    config_place = oci.describe(config, oci.CONFIG_TYPE)
    manifest = oci.encode_manifest(Manifest(config=config_place, layers=layers))
    manifest_place = oci.describe(manifest, oci.MANIFEST_TYPE)
    return OciLayout(
        digest=manifest_place.digest,
        documents={
            oci.LAYOUT_FILE: oci.LAYOUT,
            oci.INDEX_FILE: oci.encode_index(manifest_place),
            manifest_place.path: manifest,
            config_place.path: config,
        },
        payloads={layer.path: path for layer, path in zip(layers, payloads.values(), strict=True)},
    )


def write_layout(layout: OciLayout, directory: Path) -> None:
    """Write a layout into a directory that does not exist yet; payloads are linked or copied."""
    for name, content in layout.documents.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    for name, path in layout.payloads.items():
        try:
            (directory / name).hardlink_to(path)
        except OSError:
            shutil.copyfile(path, directory / name)


def open_image(blobs: Blobs, *, digest: str | None = None) -> OciImage:
    """Read the documents of a layout that holds one image.

    Args:
        digest: Of the manifest, if it is known: then nothing of the layout has to be trusted.

    Raises:
        NotFoundError: a document is missing.
        InvalidArgumentError: it is no system image.
        DataLossError: a document is damaged, or the manifest is not the one with this digest.
        UnimplementedError: it is of a version that we do not know.
    """
    place = oci.decode_index(_document(blobs, oci.INDEX_FILE, oci.MANIFEST_BYTES_MAX))
    if digest not in {None, place.digest}:
        raise DataLossError(
            f"the layout holds the image {place.digest}, not {digest}",
            remedy="Fetch the image again, or correct the digest.",
        )
    manifest_document = _document(blobs, place.path, oci.MANIFEST_BYTES_MAX)
    oci.check_blob(place, manifest_document)
    manifest = oci.decode_manifest(manifest_document)
    config_document = _document(blobs, manifest.config.path, oci.CONFIG_BYTES_MAX)
    oci.check_blob(manifest.config, config_document)
    config = oci.decode_config(config_document)
    return OciImage(
        digest=place.digest,
        config=config,
        _blobs=blobs,
        _layers=oci.match_layers(manifest, config),
    )


def _document(blobs: Blobs, path: str, limit: int) -> bytes:
    if blobs.size_bytes(path) > limit:
        raise DataLossError(f"{path} of a system image is larger than {limit} bytes")
    with blobs.open(path) as file:
        return file.read(limit + 1)


def _pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    with contextlib.closing(file):
        while piece := file.read(size):
            yield piece
