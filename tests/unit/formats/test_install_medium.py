# SPDX-License-Identifier: Apache-2.0
"""installer.json survives the way to the medium and back, and damage is named."""

import json
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.base.errors import InvalidArgumentError
from metropolis.formats.install_medium import (
    MediumSettings,
    decode_settings,
    encode_settings,
    system_guid,
)

SETTINGS = MediumSettings(
    install_id=UUID(int=5),
    product="Metropolis Node 0.1.0",
    system_bytes=4096,
    root_hash=bytes(range(32)),
    kernel_sha256=bytes(32),
)


@given(
    st.builds(
        MediumSettings,
        install_id=st.uuids(),
        product=st.text(max_size=50),
        system_bytes=st.integers(min_value=1, max_value=1 << 40),
        root_hash=st.binary(min_size=32, max_size=32),
        kernel_sha256=st.binary(min_size=32, max_size=32),
        disk=st.text(max_size=50),
        may_replace_node=st.booleans(),
        keeps_vendor_keys=st.booleans(),
    )
)
def test_settings_come_back_as_they_were(settings: MediumSettings) -> None:
    assert decode_settings(encode_settings(settings)) == settings


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format_version": 2}, "its format version is not 1"),
        ({"install_id": 5}, "install_id is no text"),
        ({"install_id": "x"}, "badly formed hexadecimal UUID string"),
        ({"root_hash": "00"}, "root_hash is no SHA-256"),
        ({"kernel_sha256": "xy"}, "non-hexadecimal number"),
        ({"system_bytes": True}, "system_bytes is no count"),
        ({"system_bytes": 0}, "system_bytes is no count"),
        ({"may_replace_node": "false"}, "may_replace_node is neither true nor false"),
        ({"disk": None}, "disk is no text"),
    ],
)
def test_damaged_settings_are_refused_by_name(change: dict[str, object], problem: str) -> None:
    document = json.loads(encode_settings(SETTINGS)) | change
    with pytest.raises(InvalidArgumentError, match=problem):
        decode_settings(json.dumps(document).encode())


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"{", b"[" * 60000, b" " * 70000])
def test_what_is_no_document_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidArgumentError):
        decode_settings(data)


def test_a_partition_is_named_by_the_first_half_of_the_root_hash() -> None:
    assert str(system_guid(bytes(range(32)))) == "00010203-0405-0607-0809-0a0b0c0d0e0f"
    assert SETTINGS.system_guid == system_guid(SETTINGS.root_hash)
