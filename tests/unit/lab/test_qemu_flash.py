# SPDX-License-Identifier: Apache-2.0
"""The firmware's variable store, written without the firmware."""

import struct
from uuid import UUID

import pytest

from metropolis.base.errors import DataLossError
from metropolis.formats.efi.variables import (
    ALLOWED,
    AUTHENTICATED,
    GLOBAL,
    KEY_EXCHANGE_KEYS,
    PLATFORM_KEY,
    Attributes,
    VariableName,
)
from metropolis.lab.qemu.flash import Variable, add_variables, read_variables, secure_boot

STORE = UUID("aaf32c78-947b-439a-a180-2e144ec37792")
VOLUME_HEADER_BYTES = 72


def empty_flash(store_bytes: int = 4096) -> bytes:
    """What comes with OVMF: a volume header, a store header, and flash that was never written."""
    volume = struct.pack("<16s16sQ4sIHHHBB", b"", b"", 8192, b"_FVH", 0, 72, 0, 0, 0, 2)
    volume = volume.ljust(VOLUME_HEADER_BYTES, b"\0")
    store = struct.pack("<16sIBBHI", STORE.bytes_le, store_bytes, 0x5A, 0xFE, 0, 0)
    return (volume + store).ljust(8192, b"\xff")


def test_what_was_added_is_read_back_in_order() -> None:
    name = VariableName(name="Käse", vendor=GLOBAL)
    first = Variable(name=name, value=b"odd")
    second = Variable(name=VariableName(name="B", vendor=GLOBAL), value=b"\0" * 17)
    flash = add_variables(add_variables(empty_flash(), [first]), [second])
    assert list(read_variables(flash)) == [first, second]
    assert len(flash) == len(empty_flash())


def test_every_variable_begins_at_a_multiple_of_four() -> None:
    variables = [
        Variable(name=VariableName(name="x" * size, vendor=GLOBAL), value=b"v" * size)
        for size in range(1, 9)
    ]
    flash = add_variables(empty_flash(), variables)
    assert list(read_variables(flash)) == variables
    starts = [at for at in range(len(flash) - 1) if flash[at : at + 4] == b"\xaa\x55\x3f\x00"]
    assert len(starts) == 8
    assert all(at % 4 == 0 for at in starts)


def test_secure_boot_is_on_with_three_authenticated_databases() -> None:
    variables = secure_boot(platform_key=b"p", key_exchange_keys=b"k", allowed=b"d")
    found = {each.name: each for each in read_variables(add_variables(empty_flash(), variables))}
    assert [found[name].value for name in (PLATFORM_KEY, KEY_EXCHANGE_KEYS, ALLOWED)] == [
        b"p",
        b"k",
        b"d",
    ]
    assert found[PLATFORM_KEY].attributes == AUTHENTICATED
    (enable,) = (each for name, each in found.items() if name.name == "SecureBootEnable")
    assert enable.value == b"\1"
    assert Attributes.RUNTIME_ACCESS not in enable.attributes


def test_a_deleted_variable_is_passed_over() -> None:
    kept = Variable(name=VariableName(name="kept", vendor=GLOBAL), value=b"1")
    gone = Variable(name=VariableName(name="gone", vendor=GLOBAL), value=b"2")
    flash = bytearray(add_variables(empty_flash(), [gone, kept]))
    flash[flash.index(b"\xaa\x55") + 2] = 0x3C  # the firmware clears bits
    assert list(read_variables(bytes(flash))) == [kept]


def test_a_full_store_and_a_foreign_file_are_refused() -> None:
    variable = Variable(name=VariableName(name="x", vendor=GLOBAL), value=bytes(4096))
    with pytest.raises(DataLossError, match="full"):
        add_variables(empty_flash(), [variable])
    for foreign in (b"", bytes(8192), empty_flash()[:40] + b"_FVX" + empty_flash()[44:]):
        with pytest.raises(DataLossError, match="no variable store"):
            read_variables(foreign)
