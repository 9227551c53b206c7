# SPDX-License-Identifier: Apache-2.0
"""What we write for firmware and TPMs is what a real firmware takes, starts and measures."""

import asyncio
import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from e2e.vm.machines import guest_directory
from kits.signer import signer
from metropolis.formats import authenticode, cpio, event_log, fat, gpt, pcr, pe
from metropolis.formats.efi import authentication, signature_database, variables
from metropolis.host.linux.debian.checkout import checkout_fetcher
from metropolis.lab.qemu.arguments import DISK
from metropolis.lab.qemu.guest import Guest

WHEN = datetime(2020, 1, 1, tzinfo=UTC)
STUB = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
ESP_BYTES = 64 << 20
SIGNERS = {"db": "KEK", "KEK": "PK", "PK": "PK"}
NAMES = {"db": variables.ALLOWED, "KEK": variables.KEY_EXCHANGE_KEYS, "PK": variables.PLATFORM_KEY}

# The kernel's first program: enrols the keys in Setup Mode, else says what was measured.
INIT = """\
#!/usr/bin/python3.13 -IS
import sys
sys.path.append("/usr/lib/metropolis")
from metropolis.node.boot.ready_modules import offer
offer("initrd")
from pathlib import Path
from metropolis.formats import module_list
from metropolis.host.linux.kernel_power import power_off, restart
from metropolis.host.linux.mounts import mount_new
from metropolis.node.boot import initrd
initrd._open_console()
modules = module_list.decode(Path("/usr/lib/modules/initrd.json").read_bytes())
initrd._load(modules, ["efivarfs"])
firmware = Path("/sys/firmware/efi/efivars")
mount_new("efivarfs", firmware)
mount_new("securityfs", Path("/sys/kernel/security"))
def flag(name):
    return (firmware / (name + "-8be4df61-93ca-11d2-aa0d-00e098032b8c")).read_bytes()[4]
print("SetupMode", flag("SetupMode"), "SecureBoot", flag("SecureBoot"))
log = Path("/sys/kernel/security/tpm0/binary_bios_measurements").read_bytes().hex()
for start in range(0, len(log), 4000):
    print("log", flag("SecureBoot"), log[start : start + 4000])
if flag("SetupMode"):
    for path in sorted(Path("/enrolment").iterdir()):
        with open(firmware / path.name[2:], "wb", buffering=0) as file:
            file.write(path.read_bytes())
        print("enrolled", path.name)
    restart()
for number in (7, 11):
    value = Path(f"/sys/class/tpm/tpm0/pcr-sha256/{number}").read_text().strip()
    print("register", number, value.lower())
print("all said")
power_off()
"""


def _enrolment() -> list[cpio.CpioEntry]:
    """The files for efivarfs, in the order in which a firmware takes them."""
    entries = [cpio.CpioEntry(path="enrolment", mode=stat.S_IFDIR | 0o755)]
    for number, (name, by) in enumerate(SIGNERS.items()):
        value = signature_database.EfiSignature(
            kind=signature_database.X509, owner=UUID(int=1), data=signer(name).certificate_der
        )
        content = authentication.authenticate(
            NAMES[name],
            signature_database.encode([value]),
            time=WHEN,
            certificate_der=signer(by).certificate_der,
            sign=signer(by).sign,
        )
        file = variables.encode_file(variables.AUTHENTICATED, content)
        path = f"enrolment/{number}-{NAMES[name].file_name}"
        entries.append(cpio.CpioEntry(path=path, mode=stat.S_IFREG | 0o644, data=file))
    return entries


def _kernel(image: Path) -> bytes:
    """The image's kernel and initrd with our first program, signed by the key of these tests."""
    parts = pe.sections((image / "kernel.efi").read_bytes())
    init = cpio.CpioEntry(path="init", mode=stat.S_IFREG | 0o755, data=INIT.encode())
    initrd = parts[".initrd"] + bytes(-len(parts[".initrd"]) % 4)
    stub = checkout_fetcher(os.environ, say=lambda _: None).fetch("systemd-boot-efi") / STUB
    whole = pe.add_sections(
        stub.read_bytes(),
        [
            (".cmdline", b"console=ttyS0,115200 quiet panic=5"),
            (".osrel", parts[".osrel"]),
            (".pcrsig", b"{}"),
            (".initrd", initrd + cpio.build([init, *_enrolment()])),
            (".linux", parts[".linux"]),
        ],
    )
    return authenticode.attach(
        whole,
        certificate_der=signer("db").certificate_der,
        sign=signer("db").sign,
        signing_time=WHEN,
    )


def _write_disk(path: Path, kernel: bytes) -> None:
    sectors = ESP_BYTES // 512
    esp = gpt.DiskPartition(
        type_guid=gpt.ESP_TYPE,
        guid=UUID(int=2),
        name=gpt.ESP_NAME,
        first_lba=2048,
        last_lba=2048 + sectors - 1,
    )
    table = gpt.PartitionTable(
        disk_guid=UUID(int=3), disk_sectors=sectors + 4096, partitions=(esp,)
    )
    encoded = gpt.encode(table)
    with path.open("wb") as disk:
        disk.truncate(table.disk_sectors * 512)
        files = {"EFI/BOOT/BOOTX64.EFI": kernel}
        for offset, chunk in fat.build(files, size_bytes=ESP_BYTES, label="ESP", volume_id=1):
            disk.seek(2048 * 512 + offset)
            disk.write(chunk)
        disk.seek(encoded.backup_lba * 512)
        disk.write(encoded.backup)
        disk.seek(0)
        disk.write(encoded.primary)


@pytest.mark.timeout(400)
def test_a_firmware_takes_our_keys_starts_what_they_signed_and_measures_what_we_foretell(
    image: Path, tmp_path: Path
) -> None:
    directory, hardware = guest_directory(tmp_path / "machine", image, in_setup_mode=True)
    kernel = _kernel(image)
    _write_disk(directory / DISK, kernel)

    async def scenario() -> str:
        async with Guest(directory, hardware) as guest:
            await guest.wait_for("SetupMode 1 SecureBoot 0", timeout_s=150)
            await guest.wait_for("SetupMode 0 SecureBoot 1", timeout_s=150)
            await guest.wait_for("all said", timeout_s=60)
            return guest.text()

    said = asyncio.run(scenario())
    registers = {
        int(words[1]): bytes.fromhex(words[2])
        for words in map(str.split, said.splitlines())
        if words[:1] == ["register"]
    }
    logs = {
        secure_boot: bytes.fromhex(
            "".join(
                line.split()[2]
                for line in said.splitlines()
                if line.startswith(f"log {secure_boot} ")
            )
        )
        for secure_boot in (0, 1)
    }
    if place := os.environ.get("METROPOLIS_KEEP_EVENT_LOG"):
        Path(place).write_bytes(logs[1])
    assert registers[11] == pcr.uki_pcr11(pe.sections(kernel))
    events = event_log.decode(logs[1])
    assert event_log.replay(events, 7) == registers[7]
    assert event_log.replay(events, 11) == registers[11]
    names = [each.name for each in event_log.of_register(events, 7)]
    for name in ("SecureBoot", "PK", "KEK", "db", "dbx"):
        assert f"the variable {name}" in names
    assert "the signer of what was started (CN=Test db)" in names
    without = event_log.of_register(event_log.decode(logs[0]), 7)
    assert event_log.differences(event_log.of_register(events, 7), without) == [
        *(f"the variable {name} was changed" for name in ("SecureBoot", "PK", "KEK", "db")),
        "the signer of what was started (CN=Test db) is gone",
    ]
