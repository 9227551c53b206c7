# SPDX-License-Identifier: Apache-2.0
"""An image's documents name every byte of it, and nothing else is believed."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.base.errors import DataLossError, InvalidArgumentError, UnimplementedError
from metropolis.formats import oci
from metropolis.formats.oci import ImageConfig, Manifest, PayloadHasher

MIB = 1 << 20
DATA = b"".join(bytes([number]) * MIB for number in range(3)) + b"rest"


def _hashed(data: bytes, step: int = MIB) -> tuple[oci.Payload, oci.Descriptor]:
    hasher = PayloadHasher()
    for offset in range(0, len(data), step):
        hasher.feed(data[offset : offset + step])
    return hasher.finish("system")


PAYLOAD, LAYER = _hashed(DATA)
CONFIG = ImageConfig(product_info={"name": "Metropolis Node"}, payloads=(PAYLOAD,))
CONTENT = oci.encode_config(CONFIG)
MANIFEST = Manifest(config=oci.describe(CONTENT, oci.CONFIG_TYPE), layers=(LAYER,))


def _chunks(data: bytes) -> list[bytes]:
    return [data[offset : offset + MIB] for offset in range(0, len(data), MIB)]


def test_documents_come_back() -> None:
    assert oci.decode_config(CONTENT) == CONFIG
    assert oci.decode_manifest(oci.encode_manifest(MANIFEST)) == MANIFEST
    place = oci.describe(oci.encode_manifest(MANIFEST), oci.MANIFEST_TYPE)
    assert oci.decode_index(oci.encode_index(place)) == place


def test_documents_have_the_form_that_other_readers_of_such_images_know() -> None:
    config = json.loads(CONTENT)
    assert config["format_version"] == "1"
    (payload,) = config["payloads"]
    assert (payload["name"], payload["size"]) == ("system", 3 * MIB + 4)
    assert payload["hash_chunk_size"] == MIB
    # base64 without padding, of zeros
    assert payload["chunk_hashes_sha256"][0] == "MOFJVevxNSJm3C/4Bn5oEEYH51CrudOzZYK4r5Cfy1g"
    manifest = json.loads(oci.encode_manifest(MANIFEST))
    assert manifest["artifactType"] == "application/vnd.monogon.os.image.v1"
    assert manifest["config"]["mediaType"] == "application/vnd.monogon.os.image.config.v1+json"
    assert manifest["layers"][0]["mediaType"] == "application/octet-stream"


@given(step=st.integers(1000, 3 * MIB))
def test_pieces_make_no_difference_to_hashes(step: int) -> None:
    assert _hashed(DATA, step) == (PAYLOAD, LAYER)


def test_chunks_are_compared_before_they_are_handed_out() -> None:
    assert b"".join(PAYLOAD.verified(_chunks(DATA))) == DATA
    damaged = bytearray(DATA)
    damaged[2 * MIB + 5] ^= 1
    stream = PAYLOAD.verified(_chunks(bytes(damaged)))
    assert next(stream) == DATA[:MIB]
    assert next(stream) == DATA[MIB : 2 * MIB]
    with pytest.raises(DataLossError, match=r"'system'.*chunk 3 of 4, from byte 2097152 on"):
        next(stream)


@pytest.mark.parametrize("data", [DATA[:-1], DATA + b"x", DATA[: 2 * MIB], DATA + bytes(MIB), b""])
def test_a_payload_of_another_length_is_refused(data: bytes) -> None:
    with pytest.raises(DataLossError, match=r"is cut or too long|is missing"):
        list(PAYLOAD.verified(_chunks(data)))


def test_documents_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(DataLossError, match="other payloads"):
        oci.match_layers(replace(MANIFEST, layers=()), CONFIG)
    with pytest.raises(DataLossError, match="does not match its digest"):
        oci.check_blob(MANIFEST.config, CONTENT + b" ")


def _changed(change: Callable[[Any], object]) -> bytes:
    document = json.loads(CONTENT)
    change(document)
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("change", "kind", "reason"),
    [
        (lambda d: d.update(format_version="2"), UnimplementedError, "format version '2'"),
        (lambda d: d["payloads"].append(d["payloads"][0]), DataLossError, "one name"),
        (lambda d: d["payloads"][0].update(name="../x y"), DataLossError, "impossible name"),
        (lambda d: d["payloads"][0].update(name="x" * 81), DataLossError, "impossible name"),
        (lambda d: d["payloads"][0].update(size=-1), DataLossError, "size"),
        (lambda d: d["payloads"][0].update(size=1 << 40), DataLossError, "size"),
        (lambda d: d["payloads"][0].update(hash_chunk_size=17 << 20), DataLossError, "chunk_size"),
        (lambda d: d["payloads"][0].update(hash_chunk_size=0), DataLossError, "no hashes"),
        (lambda d: d["payloads"][0]["chunk_hashes_sha256"].pop(), DataLossError, "too few"),
        (lambda d: d["payloads"][0].update(chunk_hashes_sha256=["?"]), DataLossError, "base64"),
        (lambda d: d["payloads"][0].update(chunk_hashes_sha256=["AAA"]), DataLossError, "length"),
        (lambda d: d.update(payloads={}), DataLossError, "payloads"),
        (lambda d: d.update(payloads=[1]), DataLossError, "payloads"),
        (lambda d: d.pop("product_info"), DataLossError, "product_info"),
    ],
)
def test_impossible_configs_are_refused(
    change: Callable[[Any], object], kind: type[Exception], reason: str
) -> None:
    with pytest.raises(kind, match=reason):
        oci.decode_config(_changed(change))


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b"9" * 5000])
def test_what_is_no_json_object_is_refused(content: bytes) -> None:
    for decode in (oci.decode_config, oci.decode_manifest, oci.decode_index):
        with pytest.raises(DataLossError):
            decode(content)


def test_other_artefacts_and_other_ways_to_store_are_named() -> None:
    manifest = oci.encode_manifest(MANIFEST)
    with pytest.raises(InvalidArgumentError, match="no system image"):
        oci.decode_manifest(manifest.replace(b"vnd.monogon.os.image.v1", b"other"))
    with pytest.raises(UnimplementedError, match="stored as application/zstd"):
        oci.decode_manifest(manifest.replace(b"application/octet-stream", b"application/zstd"))
    with pytest.raises(DataLossError, match="impossible digest"):
        oci.decode_manifest(manifest.replace(b"sha256:", b"sha512:"))
    with pytest.raises(InvalidArgumentError, match="holds 0 images"):
        oci.decode_index(b'{"manifests":[]}')
