# SPDX-License-Identifier: Apache-2.0
"""Whole starts of an install medium on a simulated machine."""

import hashlib

import pytest

from kits.portable_executable import stub
from metropolis.base.errors import (
    DataLossError,
    FailedPreconditionError,
    InvalidArgumentError,
    MetropolisError,
)
from metropolis.formats import fat, gpt, install_medium, pe
from metropolis.formats.efi import load_option
from metropolis.formats.efi.variables import GLOBAL
from metropolis.host.disk_writing import write_sparse, write_table
from metropolis.node.installation.disk import DiskGuids
from metropolis.node.installation.run import Done, run_installer
from metropolis.node.slots import model
from unit.node.installation.machine import (
    SimulatedMachine,
    kernel_image,
    parameters,
    settings,
    system_image,
)
from unit.node.installation.simulated_disk import PowerCutError, SimulatedDisk

DISK = "/dev/vda (2.5 GB, serial of /dev/vda)"


def _ready() -> SimulatedMachine:
    """A machine whose firmware has our keys."""
    machine = SimulatedMachine()
    machine.add_disk()
    assert machine.start() is Done.ENROLLED
    machine.said.clear()
    return machine


def _table(disk: SimulatedDisk) -> gpt.PartitionTable:
    return gpt.decode(lambda at, size: disk.pread(size, at), disk_bytes=disk.size_bytes)


def _esp(disk: SimulatedDisk) -> dict[str, bytes]:
    offset = _table(disk).partitions[0].first_lba * 512
    return dict(fat.decode(lambda at, size: disk.pread(size, offset + at)))


def _assert_installed(machine: SimulatedMachine, device: str = "/dev/vda") -> None:
    disk = machine.targets[device][1]
    table = _table(disk)
    assert disk.pread(8, 512) == b"EFI PART"  # the primary table, not the backup alone
    image, _ = system_image()
    slot_a = table.partitions[1]
    assert slot_a.guid == settings().system_guid
    assert disk.pread(len(image), slot_a.first_lba * 512) == image
    assert _esp(disk) == {
        "EFI/metropolis/boot-a.efi": kernel_image(),
        "EFI/BOOT/BOOTX64.EFI": kernel_image(),
        "metropolis/parameters.pb": parameters(),
    }
    assert machine.variables is not None
    order = load_option.decode_order(machine.variables.read("BootOrder") or b"")
    option = load_option.decode(machine.variables.read(f"Boot{order[0]:04X}") or b"")
    assert option.description == "Metropolis A"
    assert option.target is not None
    assert option.target.partition_guid == table.partitions[0].guid
    assert machine.variables.read("BootNext") == load_option.encode_order(order[:1])


def _enrol_node(disk: SimulatedDisk) -> None:
    """What the first boot does: the ESP gets a sealed configuration."""
    table = _table(disk)
    esp = table.partitions[0]
    files = _esp(disk) | {"metropolis/sealed_configuration.pb": b"sealed"}
    chunks = fat.build(files, size_bytes=esp.sectors * 512, label="METRO_ESP", volume_id=1)
    write_sparse(disk, chunks, offset_bytes=esp.first_lba * 512, size_bytes=esp.sectors * 512)
    disk.flush()


def test_a_fresh_machine_gets_keys_then_the_system_and_says_what_it_does() -> None:
    machine = SimulatedMachine()
    machine.add_disk()
    assert machine.start() is Done.ENROLLED
    assert machine.start() is Done.INSTALLED
    _assert_installed(machine)
    assert machine.said == [
        "Installer of Metropolis Node 0.1.0",
        "The firmware is in Setup Mode: enrolling the Secure Boot keys of this medium.",
        "Secure Boot keys enrolled. Rebooting to install with Secure Boot on.",
        "Installer of Metropolis Node 0.1.0",
        "Secure Boot is on, with the keys of this medium.",
        "Verifying the system image on the medium.",
        f"{DISK} holds nothing; it is erased, since it is the first blank disk by the rules.",
        "Installing to /dev/vda...",
        "20 % of 3 MiB",
        "60 % of 3 MiB",
        "80 % of 3 MiB",
        "100 % of 3 MiB",
        "Installation completed. Rebooting.",
    ]


def test_the_medium_in_a_machine_that_it_has_installed_starts_the_disk() -> None:
    machine = _ready()
    assert machine.start() is Done.INSTALLED
    before = list(machine.targets["/dev/vda"][1].durable)
    machine.said.clear()
    assert machine.start() is Done.FOUND
    assert machine.targets["/dev/vda"][1].durable == before
    assert machine.said[1:] == [
        "This medium has installed Metropolis on /dev/vda already.",
        "Remove the medium. Rebooting from /dev/vda.",
    ]
    _assert_installed(machine)


def test_what_the_boots_of_an_earlier_system_came_to_is_forgotten() -> None:
    machine = _ready()
    assert machine.variables is not None
    machine.variables.write("MetropolisBoot", b"1 confirmed=B", model.VENDOR)
    machine.start()
    assert machine.variables.read("MetropolisBoot", model.VENDOR) is None


def test_an_enrolled_node_is_neither_overwritten_nor_given_new_keys() -> None:
    machine = _ready()
    machine.start()
    _enrol_node(machine.targets["/dev/vda"][1])
    machine.files[install_medium.SETTINGS] = install_medium.encode_settings(
        settings(install_id=DiskGuids.derived(settings().install_id, "another").disk)
    )
    before = list(machine.targets["/dev/vda"][1].durable)
    assert machine.variables is not None
    machine.variables.values["SetupMode", str(GLOBAL)] = b"\1"
    machine.variables.written.clear()
    machine.said.clear()
    assert machine.start() is Done.FOUND
    assert machine.targets["/dev/vda"][1].durable == before
    assert machine.variables.written == ["BootNext"]
    assert machine.said[1:] == [
        "/dev/vda holds a Metropolis node; it is left alone.",
        "Remove the medium. Rebooting from /dev/vda.",
    ]


def test_a_medium_made_for_it_replaces_a_node_once() -> None:
    machine = _ready()
    machine.start()
    disk = machine.targets["/dev/vda"][1]
    _enrol_node(disk)
    machine.files[install_medium.SETTINGS] = install_medium.encode_settings(
        settings(
            may_replace_node=True,
            install_id=DiskGuids.derived(settings().install_id, "another").disk,
        )
    )
    assert machine.start() is Done.INSTALLED
    _assert_installed(machine)
    _enrol_node(disk)
    assert machine.start() is Done.FOUND


@pytest.mark.parametrize("seed", range(2))
def test_a_power_cut_at_any_operation_of_the_disk_is_made_good_by_the_next_start(
    seed: int,
) -> None:
    machine = _ready()
    disk = machine.targets["/dev/vda"][1]
    blank = list(disk.durable)
    assert machine.start() is Done.INSTALLED
    count = disk.operations
    for operation in range(count):
        disk.durable = list(blank)
        disk.restart()
        disk.cut_power_at(operation, seed=seed)
        with pytest.raises(PowerCutError):
            machine.start()
        assert machine.start() in {Done.INSTALLED, Done.FOUND}
        _assert_installed(machine)


@pytest.mark.parametrize("write", range(7))
def test_a_power_cut_before_any_write_of_the_firmware_is_made_good_by_the_next_start(
    write: int,
) -> None:
    machine = SimulatedMachine()
    machine.add_disk()
    assert machine.variables is not None
    machine.variables.values["BootCurrent", str(GLOBAL)] = b"\5\0"
    machine.variables.cut_at_write = write
    cuts = 0
    done: list[Done] = []
    while Done.FOUND not in done:
        try:
            done.append(machine.start())
        except PowerCutError:
            cuts += 1
    assert cuts == 1
    assert len(done) <= 4
    _assert_installed(machine)


@pytest.mark.parametrize(
    ("path", "content", "problem"),
    [
        (install_medium.SETTINGS, None, "installer.json is missing"),
        (install_medium.SETTINGS, b"{}", "its format version is not 1"),
        (install_medium.KERNEL, b"MZ", "BOOTX64.EFI is not the file that was written"),
        (install_medium.PARAMETERS, b"", "neither cluster_bootstrap nor cluster_register is set"),
        (install_medium.RECOVERY_KEY, b"short", "recovery.pub is no X25519 key"),
        (f"{install_medium.ENROLMENT}/KEK.auth", None, "KEK.auth is missing"),
    ],
)
def test_a_damaged_medium_is_refused_before_anything_is_changed(
    path: str, content: bytes | None, problem: str
) -> None:
    machine = _ready()
    if content is None:
        del machine.files[path]
    else:
        machine.files[path] = content
    _assert_refused(machine, (DataLossError, InvalidArgumentError), problem)


def test_a_worn_out_system_image_is_noticed_before_anything_is_erased() -> None:
    machine = _ready()
    stick = machine.targets["/dev/sdz"][1]
    offset = _table(stick).partitions[1].first_lba * 512
    stick.pwrite(b"\xff", offset + 2_000_000)
    stick.flush()
    _assert_refused(machine, DataLossError, "its system image is worn out")


def test_a_kernel_image_of_another_system_is_refused() -> None:
    machine = _ready()
    other = pe.add_sections(stub(), [(".cmdline", b"metropolis.root=" + b"0" * 64)])
    machine.files[install_medium.KERNEL] = other
    machine.files[install_medium.SETTINGS] = install_medium.encode_settings(
        settings(kernel_sha256=hashlib.sha256(other).digest())
    )
    _assert_refused(machine, DataLossError, "boots another system than the running one")


def test_a_machine_without_a_suitable_disk_keeps_its_firmware_as_it_was() -> None:
    machine = SimulatedMachine()
    machine.add_disk(size_mib=1024)
    _assert_refused(machine, FailedPreconditionError, "it has 1024 MiB, a node needs at least 2306")


def test_a_machine_that_was_not_started_by_uefi_is_told_so() -> None:
    machine = SimulatedMachine()
    machine.add_disk()
    machine.variables = None
    with pytest.raises(FailedPreconditionError) as caught:
        run_installer(machine, system_image()[1], say=machine.say)
    assert str(caught.value) == (
        "Metropolis can only be installed on EFI-booted machines, this one is not"
    )


def test_a_firmware_that_takes_no_boot_entry_does_not_spoil_the_installation() -> None:
    machine = _ready()
    assert machine.variables is not None
    machine.variables.refuses = {"Boot0000"}
    assert machine.start() is Done.INSTALLED
    assert _esp(machine.targets["/dev/vda"][1])["EFI/BOOT/BOOTX64.EFI"] == kernel_image()
    assert any(line.startswith("The firmware has no boot entry") for line in machine.said)


def test_a_foreign_disk_is_erased_only_after_it_was_described() -> None:
    machine = _ready()
    disk = machine.targets["/dev/vda"][1]
    write_table(
        disk,
        gpt.PartitionTable(
            disk_guid=DiskGuids.derived(settings().install_id, "foreign").disk,
            disk_sectors=disk.size_bytes // 512,
            partitions=(
                gpt.DiskPartition(
                    type_guid=gpt.ESP_TYPE,
                    guid=DiskGuids.derived(settings().install_id, "foreign").esp,
                    name="EFI system",
                    first_lba=2048,
                    last_lba=206847,
                ),
            ),
        ),
    )
    assert machine.start() is Done.INSTALLED
    said = "\n".join(machine.said)
    described = said.index("holds other data: EFI system 100 MiB; it is erased, since")
    assert described < said.index("Installing to /dev/vda...")


def _assert_refused(
    machine: SimulatedMachine,
    kind: type[MetropolisError] | tuple[type[MetropolisError], ...],
    problem: str,
) -> None:
    assert machine.variables is not None
    machine.variables.written.clear()
    before = list(machine.targets["/dev/vda"][1].durable)
    with pytest.raises(kind) as caught:
        machine.start()
    assert problem in str(caught.value)
    assert caught.value.remedy
    assert machine.targets["/dev/vda"][1].durable == before
    assert machine.variables.written == []
