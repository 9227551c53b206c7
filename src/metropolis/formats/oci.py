# SPDX-License-Identifier: Apache-2.0
"""A system image as an OCI artefact: what its three JSON documents say, and how data is verified.

    index.json ─▶ manifest ─▶ config: product, payloads with the SHA-256 of every chunk
                          └─▶ one layer per payload, in the same order

Whoever knows the digest of the manifest can trust every byte: it names the config, whose hashes
cover each chunk before that chunk is used. Payloads are stored as they are: the system is packed
inside, and only plain data can be verified from any place on.
"""

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from metropolis.base.errors import DataLossError, InvalidArgumentError, UnimplementedError

LAYOUT_FILE: Final = "oci-layout"
LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'
INDEX_FILE: Final = "index.json"
ARTEFACT_TYPE: Final = "application/vnd.monogon.os.image.v1"
CONFIG_TYPE: Final = "application/vnd.monogon.os.image.config.v1+json"
MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
PLAIN_TYPE: Final = "application/octet-stream"
SYSTEM: Final = "system"
KERNEL: Final = "kernel.efi"

CHUNK_BYTES: Final = 1 << 20
CHUNK_BYTES_MAX: Final = 16 << 20
MANIFEST_BYTES_MAX: Final = 1 << 20
CONFIG_BYTES_MAX: Final = 16 << 20
PAYLOAD_BYTES_MAX: Final = 64 << 30
PAYLOADS_MAX: Final = 64

_FORMAT_VERSION: Final = "1"
_NAME: Final = re.compile(r"(?=.{1,80}\Z)[0-9A-Za-z._-]+(/[0-9A-Za-z._-]+)*")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_DIGEST_BYTES: Final = 32
_REMEDY: Final = "Fetch or build the image again."

Json = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """Refers to a blob by its content: `digest` is "sha256:" and 64 hexadecimal digits."""

    media_type: str
    digest: str
    size_bytes: int

    @property
    def path(self) -> str:
        """Where the blob is in a layout."""
        return "blobs/" + self.digest.replace(":", "/")

    def to_json(self) -> Json:
        """Return it as it stands in a document."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size_bytes}


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """One file of an image.

    Attributes:
        chunk_bytes: Size of all chunks but the last.
        chunk_hashes: SHA-256 of each.
    """

    name: str
    size_bytes: int
    chunk_bytes: int
    chunk_hashes: Sequence[bytes]

    def check(self, index: int, chunk: bytes) -> None:
        """Compare a chunk with its hash.

        Raises:
            DataLossError: it differs.
        """
        digest = hashlib.sha256(chunk).digest()
        if not hmac.compare_digest(digest, self.chunk_hashes[index]):
            raise self._damaged(index, "does not match its hash")

    def verified(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield chunks, each after it was compared with its hash.

        Args:
            chunks: From the first on, each as long as it has to be.

        Raises:
            DataLossError: one differs, is missing or is too many.
        """
        left = self.size_bytes
        index = 0
        for chunk in chunks:
            if not left or len(chunk) != min(self.chunk_bytes, left):
                raise self._damaged(index, "is cut or too long")
            self.check(index, chunk)
            left -= len(chunk)
            index += 1
            yield chunk
        if left:
            raise self._damaged(index, "is missing")

    def _damaged(self, index: int, reason: str) -> DataLossError:
        start = index * self.chunk_bytes
        return DataLossError(
            f"payload {self.name!r} of a system image is damaged: chunk {index + 1} of "
            f"{len(self.chunk_hashes)}, from byte {start} on, {reason}",
            remedy=_REMEDY,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """What an image is and holds; `product_info` is its product-info.json."""

    product_info: Json
    payloads: Sequence[Payload]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Where config and payloads are, the latter in the config's order."""

    config: Descriptor
    layers: Sequence[Descriptor]


class PayloadHasher:
    """Hashes a payload while it is read, in pieces of any length."""

    def __init__(self) -> None:
        self._whole = hashlib.sha256()
        self._chunk = hashlib.sha256()
        self._chunk_size = 0
        self._size = 0
        self._hashes: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Take the next piece."""
        self._whole.update(data)
        self._size += len(data)
        view = memoryview(data)
        while view:
            part = view[: CHUNK_BYTES - self._chunk_size]
            self._chunk.update(part)
            self._chunk_size += len(part)
            view = view[len(part) :]
            if self._chunk_size == CHUNK_BYTES:
                self._end_chunk()

    def finish(self, name: str) -> tuple[Payload, Descriptor]:
        """Return what config and manifest say of the payload."""
        assert _NAME.fullmatch(name)
        if self._chunk_size:
            self._end_chunk()
        payload = Payload(
            name=name,
            size_bytes=self._size,
            chunk_bytes=CHUNK_BYTES,
            chunk_hashes=tuple(self._hashes),
        )
        digest = "sha256:" + self._whole.hexdigest()
        return payload, Descriptor(media_type=PLAIN_TYPE, digest=digest, size_bytes=self._size)

    def _end_chunk(self) -> None:
        self._hashes.append(self._chunk.digest())
        self._chunk = hashlib.sha256()
        self._chunk_size = 0


def describe(content: bytes, media_type: str) -> Descriptor:
    """Return the descriptor of a document."""
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    return Descriptor(media_type=media_type, digest=digest, size_bytes=len(content))


def encode_config(config: ImageConfig) -> bytes:
    """Return the config as JSON."""
    payloads = [
        {
            "name": payload.name,
            "size": payload.size_bytes,
            "hash_chunk_size": payload.chunk_bytes,
            "chunk_hashes_sha256": [_unpadded(each) for each in payload.chunk_hashes],
        }
        for payload in config.payloads
    ]
    return _encode(
        {
            "format_version": _FORMAT_VERSION,
            "product_info": config.product_info,
            "payloads": payloads,
        }
    )


def decode_config(content: bytes) -> ImageConfig:
    """Read a config.

    Raises:
        DataLossError: it is damaged.
        UnimplementedError: it has a version that we do not know.
    """
    document = _decode(content, "config", CONFIG_BYTES_MAX)
    version = document.get("format_version")
    if version != _FORMAT_VERSION:
        raise UnimplementedError(
            f"a system image has format version {version!r}, this program knows {_FORMAT_VERSION}",
            remedy="Use the program of the release that the image belongs to, or a newer one.",
        )
    payloads = tuple(_payload(each) for each in _objects(document, "payloads"))
    if len({payload.name for payload in payloads}) < len(payloads):
        raise _damaged("two payloads have one name")
    return ImageConfig(product_info=_object(document, "product_info"), payloads=payloads)


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the manifest as JSON; the digest of these bytes is the image's name."""
    return _encode(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": ARTEFACT_TYPE,
            "config": manifest.config.to_json(),
            "layers": [layer.to_json() for layer in manifest.layers],
        }
    )


def decode_manifest(content: bytes) -> Manifest:
    """Read a manifest.

    Raises:
        InvalidArgumentError: it is one of something else than a system image.
        DataLossError: it is damaged.
        UnimplementedError: a payload is stored in a way that we do not know.
    """
    document = _decode(content, "manifest", MANIFEST_BYTES_MAX)
    config = _descriptor(_object(document, "config"))
    if document.get("artifactType") != ARTEFACT_TYPE or config.media_type != CONFIG_TYPE:
        raise InvalidArgumentError(
            "this OCI artefact is no system image of Metropolis",
            remedy="Name a bundle.zip, or an image that `metropolis image build` has written.",
        )
    layers = tuple(_descriptor(each) for each in _objects(document, "layers"))
    for layer in layers:
        if layer.media_type != PLAIN_TYPE:
            raise UnimplementedError(
                f"a payload of a system image is stored as {layer.media_type}",
                remedy=f"Use an image whose layers are {PLAIN_TYPE}.",
            )
    return Manifest(config=config, layers=layers)


def encode_index(manifest: Descriptor) -> bytes:
    """Return the index.json of a layout that holds one image."""
    entry = {**manifest.to_json(), "artifactType": ARTEFACT_TYPE}
    return _encode({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry]})


def decode_index(content: bytes) -> Descriptor:
    """Return the one manifest that an index.json names.

    Raises:
        InvalidArgumentError: it names none or several.
        DataLossError: it is damaged.
    """
    document = _decode(content, "index", MANIFEST_BYTES_MAX)
    manifests = _objects(document, "manifests")
    if len(manifests) != 1:
        raise InvalidArgumentError(
            f"this OCI layout holds {len(manifests)} images, not one",
            remedy="Name a layout that `metropolis image build` has written.",
        )
    return _descriptor(manifests[0])


def check_blob(descriptor: Descriptor, content: bytes) -> None:
    """Compare a document with the descriptor that led to it.

    Raises:
        DataLossError: it differs.
    """
    if describe(content, descriptor.media_type) != descriptor:
        raise _damaged(f"the blob {descriptor.digest} does not match its digest")


def match_layers(manifest: Manifest, config: ImageConfig) -> Mapping[str, Descriptor]:
    """Return where each payload is.

    Raises:
        DataLossError: manifest and config do not belong together.
    """
    sizes = [payload.size_bytes for payload in config.payloads]
    if sizes != [layer.size_bytes for layer in manifest.layers]:
        raise _damaged("manifest and config name other payloads")
    names = [payload.name for payload in config.payloads]
    return dict(zip(names, manifest.layers, strict=True))


def _payload(document: Json) -> Payload:
    name = document.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _damaged("a payload has an impossible name")
    size = _number(document, "size", PAYLOAD_BYTES_MAX)
    chunk_bytes = _number(document, "hash_chunk_size", CHUNK_BYTES_MAX)
    encoded = document.get("chunk_hashes_sha256")
    if not isinstance(encoded, list) or chunk_bytes == 0:
        raise _damaged(f"payload {name!r} has no hashes")
    hashes = tuple(_digest(each) for each in cast("list[object]", encoded))
    if len(hashes) != -(-size // chunk_bytes):
        raise _damaged(f"payload {name!r} has too few or too many hashes")
    return Payload(name=name, size_bytes=size, chunk_bytes=chunk_bytes, chunk_hashes=hashes)


def _digest(encoded: object) -> bytes:
    try:
        digest = base64.b64decode(f"{encoded}=", validate=True)
    except (binascii.Error, ValueError) as cause:
        raise _damaged("a hash is no base64") from cause
    if len(digest) != _DIGEST_BYTES:
        raise _damaged("a hash has a wrong length")
    return digest


def _descriptor(document: Json) -> Descriptor:
    media_type, digest = document.get("mediaType"), document.get("digest")
    if not isinstance(media_type, str) or not isinstance(digest, str):
        raise _damaged("a reference has no type or no digest")
    if not _DIGEST.fullmatch(digest):
        raise _damaged("a reference has an impossible digest")
    size = _number(document, "size", PAYLOAD_BYTES_MAX)
    return Descriptor(media_type=media_type, digest=digest, size_bytes=size)


def _unpadded(digest: bytes) -> str:
    return base64.b64encode(digest).decode("ascii").rstrip("=")


def _encode(document: Json) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode("ascii")


def _decode(content: bytes, name: str, limit: int) -> Json:
    if len(content) > limit:
        raise _damaged(f"its {name} is larger than {limit} bytes")
    try:
        document: object = json.loads(content)
    except (ValueError, RecursionError) as cause:
        raise _damaged(f"its {name} is no JSON") from cause
    return _as_object(document, name)


def _object(document: Json, key: str) -> Json:
    return _as_object(document.get(key), key)


def _objects(document: Json, key: str) -> Sequence[Json]:
    found = document.get(key)
    if not isinstance(found, list):
        raise _damaged(f"{key} is missing")
    items = cast("list[object]", found)
    if len(items) > PAYLOADS_MAX:
        raise _damaged(f"{key} has too many entries")
    return [_as_object(item, key) for item in items]


def _as_object(found: object, name: str) -> Json:
    if not isinstance(found, dict):
        raise _damaged(f"{name} is missing or no object")
    return cast("Json", found)


def _number(document: Json, key: str, maximum: int) -> int:
    found = document.get(key)
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found <= maximum:
        raise _damaged(f"{key} is missing or impossible")
    return found


def _damaged(reason: str) -> DataLossError:
    return DataLossError(f"a system image is damaged: {reason}", remedy=_REMEDY)
