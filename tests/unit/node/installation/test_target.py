# SPDX-License-Identifier: Apache-2.0
"""Which disk gets the system: the rules as tables."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import pytest

from metropolis.base.errors import FailedPreconditionError
from metropolis.node.installation.disk import DISK_BYTES_MIN, DiskGuids
from metropolis.node.installation.target import (
    BootInstalled,
    DiskFacts,
    Holding,
    Install,
    choose_disk,
    describe,
    is_named,
    problem,
)

MEDIUM = UUID(int=7)
OTHER_MEDIUM = UUID(int=8)
GB = 10**9
SSD = DiskFacts(device="/dev/sda", size_bytes=500 * GB, sector_bytes=512, serial="S-1")
SMALL = replace(SSD, device="/dev/sdb", size_bytes=4 * GB, serial="S-2")
HDD = replace(SSD, device="/dev/sdc", size_bytes=4 * GB, is_rotating=True, serial="S-3")


def _with(disk: DiskFacts, holding: Holding, *, medium: UUID = OTHER_MEDIUM) -> DiskFacts:
    return replace(disk, holding=holding, guid=DiskGuids.derived(medium, disk.identity).disk)


@pytest.mark.parametrize(
    ("disks", "chosen", "reason"),
    [
        pytest.param([SSD], "/dev/sda", "it is the first blank disk by the rules", id="only one"),
        pytest.param([SSD, SMALL], "/dev/sdb", "blank", id="the smaller one"),
        pytest.param([HDD, SSD], "/dev/sda", "blank", id="the one that does not turn"),
        pytest.param(
            [_with(SSD, Holding.OTHER), HDD], "/dev/sdc", "blank", id="the one with nothing to lose"
        ),
        pytest.param(
            [_with(SSD, Holding.OTHER), _with(SMALL, Holding.OTHER)],
            "/dev/sdb",
            "none is blank",
            id="nothing blank",
        ),
        pytest.param(
            [SMALL, _with(SSD, Holding.SYSTEM)],
            "/dev/sda",
            "never enrolled",
            id="a system without a node",
        ),
        pytest.param(
            [SMALL, _with(HDD, Holding.UNFINISHED, medium=MEDIUM)],
            "/dev/sdc",
            "interrupted here",
            id="its own unfinished work first",
        ),
        pytest.param(
            [_with(HDD, Holding.UNFINISHED), SMALL],
            "/dev/sdc",
            "unfinished installation of Metropolis",
            id="another's unfinished work before a blank disk",
        ),
    ],
)
def test_a_disk_is_chosen_by_the_first_rule_that_applies(
    disks: Sequence[DiskFacts], chosen: str, reason: str
) -> None:
    for order in (disks, list(reversed(disks))):
        choice = choose_disk(order, install_id=MEDIUM)
        assert isinstance(choice, Install)
        assert choice.disk.device == chosen
        assert reason in choice.reason
        assert choice.guids == DiskGuids.derived(MEDIUM, choice.disk.identity)


def test_an_enrolled_node_is_left_alone_and_started() -> None:
    choice = choose_disk([SMALL, _with(SSD, Holding.NODE)], install_id=MEDIUM)
    assert choice == BootInstalled(
        disk=_with(SSD, Holding.NODE),
        reason="/dev/sda holds a Metropolis node; it is left alone.",
    )


def test_a_medium_made_to_replace_a_node_does_so_once() -> None:
    node = _with(SSD, Holding.NODE)
    choice = choose_disk([SMALL, node], install_id=MEDIUM, may_replace_node=True)
    assert isinstance(choice, Install)
    assert choice.disk == node

    replaced = _with(SSD, Holding.NODE, medium=MEDIUM)
    again = choose_disk([SMALL, replaced], install_id=MEDIUM, may_replace_node=True)
    assert isinstance(again, BootInstalled)
    assert again.reason == "This medium has installed Metropolis on /dev/sda already."


@pytest.mark.parametrize("holding", [Holding.SYSTEM, Holding.NODE])
def test_a_finished_installation_of_this_medium_is_started(holding: Holding) -> None:
    choice = choose_disk([SMALL, _with(SSD, holding, medium=MEDIUM)], install_id=MEDIUM)
    assert isinstance(choice, BootInstalled)
    assert choice.disk.device == "/dev/sda"


@pytest.mark.parametrize(
    ("disk", "reason"),
    [
        (replace(SSD, is_medium=True), "it is the install medium"),
        (replace(SSD, is_read_only=True), "it is read-only"),
        (replace(SSD, is_removable=True), "it is removable"),
        (replace(SSD, sector_bytes=4096), "its sectors have 4096 bytes, not 512"),
        (
            replace(SSD, size_bytes=DISK_BYTES_MIN - 1),
            "it has 2305 MiB, a node needs at least 2306",
        ),
    ],
)
def test_an_unsuitable_disk_is_not_taken_and_the_refusal_says_why(
    disk: DiskFacts, reason: str
) -> None:
    assert problem(disk) == reason
    with pytest.raises(FailedPreconditionError) as caught:
        choose_disk([disk], install_id=MEDIUM)
    assert str(caught.value).startswith("couldn't find a suitable block device: /dev/sda (")
    assert str(caught.value).endswith(reason)
    assert choose_disk([disk, SMALL], install_id=MEDIUM).disk == SMALL


def test_a_machine_without_disks_is_told_so() -> None:
    with pytest.raises(FailedPreconditionError, match="there are no disks") as caught:
        choose_disk([], install_id=MEDIUM)
    assert "Connect a disk of at least 3 GB" in caught.value.remedy


@pytest.mark.parametrize("wanted", ["S-1", "s-1", "/dev/sda", "0x5000c500", "naa.5000C500"])
def test_a_named_disk_is_taken_even_if_others_come_first(wanted: str) -> None:
    named = replace(SSD, wwn="naa.5000c500", is_removable=True)
    assert is_named(named, wanted)
    choice = choose_disk([SMALL, _with(HDD, Holding.NODE), named], install_id=MEDIUM, wanted=wanted)
    assert isinstance(choice, Install)
    assert choice.disk == named


def test_no_other_disk_is_taken_than_the_named_one() -> None:
    with pytest.raises(FailedPreconditionError) as caught:
        choose_disk([SSD, SMALL], install_id=MEDIUM, wanted="S-9")
    assert "/dev/sda (500.0 GB, serial S-1): it is not the disk 'S-9'" in str(caught.value)
    assert caught.value.remedy == "Make a medium that names one of these disks, or none."


def test_what_will_be_erased_is_described() -> None:
    disk = replace(
        SSD, model="QEMU HARDDISK", holding=Holding.OTHER, partitions=("EFI 100 MiB", "C 1 GiB")
    )
    assert describe(disk) == (
        "/dev/sda (500.0 GB, QEMU HARDDISK, serial S-1) holds other data: EFI 100 MiB, C 1 GiB"
    )
    assert describe(SMALL) == "/dev/sdb (4.0 GB, serial S-2) holds nothing"
