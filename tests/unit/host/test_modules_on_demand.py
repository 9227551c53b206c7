# SPDX-License-Identifier: Apache-2.0
"""Modules on demand: on an image by its list, elsewhere not at all."""

from pathlib import Path

import pytest

from metropolis.base.errors import FailedPreconditionError
from metropolis.formats import module_list
from metropolis.host.linux.modules import load_on_demand, loaded_modules


def test_elsewhere_the_kernel_finds_modules_by_itself(tmp_path: Path) -> None:
    load_on_demand("bonding", place=tmp_path)


def test_on_an_image_the_files_of_the_list_are_loaded_in_their_order(tmp_path: Path) -> None:
    listed = module_list.ModuleList(
        boot=(), modules={"bonding": module_list.KernelModule(files=["tls.ko", "bonding.ko"])}
    )
    (tmp_path / module_list.FILE).write_bytes(module_list.encode(listed))
    load_on_demand("unknown", place=tmp_path)
    with pytest.raises(FailedPreconditionError, match=r"tls\.ko"):
        load_on_demand("bonding", place=tmp_path)


def test_what_the_kernel_has_is_told_by_name(tmp_path: Path) -> None:
    listing = tmp_path / "modules"
    assert loaded_modules(place=listing) == frozenset()
    listing.write_text(
        "xfs 2584576 1 - Live 0x0000000000000000\n"
        "dm_mod 221184 5 dm_crypt,dm_verity, Live 0x0000000000000000\n"
    )
    assert loaded_modules(place=listing) == {"xfs", "dm_mod"}
