# SPDX-License-Identifier: Apache-2.0
import pytest

from metropolis.base.errors import DataLossError
from metropolis.formats.module_list import (
    KernelModule,
    ModuleList,
    buses,
    decode,
    encode,
    files_to_load,
    matching,
)

MODULES = ModuleList(
    boot=("dm_verity",),
    modules={
        "dm_verity": KernelModule(files=("dm-bufio.ko", "dm-mod.ko", "dm-verity.ko")),
        "dm_crypt": KernelModule(files=("dm-mod.ko", "dm-crypt.ko")),
        "virtio_net": KernelModule(
            files=("failover.ko", "virtio_net.ko"), aliases=("virtio:d00000001v*",)
        ),
        "ahci": KernelModule(
            files=("libata.ko", "ahci.ko"),
            aliases=("pci:v00008086d00002652sv*sd*bc*sc*i*", "pci:v*d*sv*sd*bc01sc06i01*"),
        ),
        "odd": KernelModule(files=("odd.ko",), aliases=("usb:v1D6Bp000[12]d*",)),
    },
)


def test_a_list_survives_its_file() -> None:
    assert decode(encode(MODULES)) == MODULES
    assert encode(decode(encode(MODULES))) == encode(MODULES)


def test_files_are_loaded_once_and_dependencies_first() -> None:
    assert files_to_load(MODULES, ["dm_verity", "dm_crypt", "built_in"]) == (
        "dm-bufio.ko",
        "dm-mod.ko",
        "dm-verity.ko",
        "dm-crypt.ko",
    )


@pytest.mark.parametrize(
    ("modaliases", "names"),
    [
        (["virtio:d00000001v00001AF4"], ("virtio_net",)),
        (["virtio:d00000002v00001AF4"], ()),
        (["pci:v0000AAAAd0000BBBBsv0sd0bc01sc06i01"], ("ahci",)),
        (["pci:v0000AAAAd0000BBBBsv0sd0bc01sc06i00"], ()),
        (["usb:v1D6Bp0002d0600", "virtio:d00000001v1"], ("odd", "virtio_net")),
        (["usb:v1D6Bp0003d0600"], ()),
        (["xusb:v1D6Bp0001d0600"], ()),
        ([], ()),
    ],
)
def test_modules_are_chosen_by_what_the_machine_has(
    modaliases: list[str], names: tuple[str, ...]
) -> None:
    assert matching(MODULES, modaliases) == names


def test_only_buses_are_looked_at_whose_devices_can_matter() -> None:
    assert buses(MODULES) == ("pci", "usb", "virtio")


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"boot": [], "modules": {"x": {}}}'])
def test_a_damaged_list_is_called_damaged(data: bytes) -> None:
    with pytest.raises(DataLossError):
        decode(data)
