# SPDX-License-Identifier: Apache-2.0
"""Boot entries of ours come back, those of others are kept, damaged ones refused."""

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.base.errors import DataLossError, InvalidArgumentError
from metropolis.formats.efi import load_option
from metropolis.formats.efi.load_option import FileOnPartition, LoadOption

OPTION = LoadOption(
    description="Metropolis A",
    target=FileOnPartition(
        partition_number=1,
        first_lba=2048,
        sectors=524288,
        partition_guid=UUID("00112233-4455-6677-8899-aabbccddeeff"),
        path="\\EFI\\metropolis\\boot-a.efi",
    ),
)


def test_an_entry_has_the_form_of_the_specification() -> None:
    assert load_option.encode(OPTION).hex() == (
        "01000000"  # active
        "6800"  # bytes of device path
        "4d006500740072006f0070006f006c0069007300200041000000"
        "04012a00"  # hard drive
        "01000000"
        "0008000000000000"
        "0000080000000000"
        "33221100554477668899aabbccddeeff"
        "0202"
        "04043a00"  # file
        "5c004500460049005c006d006500740072006f0070006f006c00690073005c0062006f006f0074002d"
        "0061002e006500660069000000"
        "7fff0400"
    )


def test_an_entry_comes_back() -> None:
    for option in (OPTION, replace(OPTION, attributes=0, data=b"more")):
        assert load_option.decode(load_option.encode(option)) == option
    assert OPTION.is_active
    assert not replace(OPTION, attributes=0).is_active


def test_a_full_device_path_is_understood_and_a_strange_one_kept_apart() -> None:
    value = load_option.encode(OPTION)
    pci = bytes.fromhex("02010c00d041030a00000000010106000001")
    at = value.index(b"\x04\x01\x2a\x00")
    longer = (
        value[:4] + (value[4] + len(pci)).to_bytes(2, "little") + value[6:at] + pci + value[at:]
    )
    assert load_option.decode(longer) == OPTION
    only_pci = value[:4] + (len(pci) + 4).to_bytes(2, "little") + value[6:at] + pci + value[-4:]
    assert load_option.decode(only_pci).target is None


def test_numbers_are_those_of_names() -> None:
    assert load_option.boot_variable(26).file_name == (
        "Boot001A-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    )
    assert load_option.boot_number("Boot001A") == 26
    for name in ("BootOrder", "BootNext", "Boot001a", "Boot1", "001A", "Boot"):
        assert load_option.boot_number(name) is None


@given(st.lists(st.integers(0, 0xFFFF), max_size=20))
def test_an_order_comes_back(numbers: list[int]) -> None:
    assert list(load_option.decode_order(load_option.encode_order(numbers))) == numbers


def test_a_cut_order_is_refused() -> None:
    with pytest.raises(DataLossError, match="cut"):
        load_option.decode_order(b"\1")


def test_a_path_with_slashes_is_refused() -> None:
    assert OPTION.target is not None
    for path in ("EFI\\x", "/EFI/x", "\\EFI/x"):
        with pytest.raises(InvalidArgumentError, match="cannot start"):
            load_option.encode(replace(OPTION, target=replace(OPTION.target, path=path)))


@given(at=st.integers(0, 160), value=st.binary(min_size=1, max_size=8))
def test_damage_never_breaks_the_reader(at: int, value: bytes) -> None:
    content = bytearray(load_option.encode(OPTION))
    content[at : at + len(value)] = value
    for damaged in (bytes(content), bytes(content[:at])):
        try:
            load_option.decode(damaged)
        except DataLossError as refused:
            assert "boot entry" in str(refused)  # noqa: PT017
