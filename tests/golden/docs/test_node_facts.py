# SPDX-License-Identifier: Apache-2.0
"""Numbers and messages of the system that the chapters on it repeat from the code."""

import pytest

from golden.docs.pages import HANDBOOK, read
from metropolis.api.enrolment_pb2 import SealedKey
from metropolis.cluster import access
from metropolis.ctl.support import cluster as support
from metropolis.image.kernel_image import SystemSeal
from metropolis.node.boot import confirmation, ending, initrd, last_words
from metropolis.node.installation import disk
from metropolis.node.sealing import diagnosis
from metropolis.node.sealing.diagnosis import Situation
from metropolis.node.slots import lifecycle
from metropolis.node.slots.model import Slot

NUMBERS = {3: "three", 600: "ten minutes"}
FACTS = (
    ("node", f"is armed by the initrd with {initrd.WATCHDOG_S} seconds"),
    (
        "node",
        f"A slot that was started {NUMBERS[lifecycle.ATTEMPTS_MAX]} times and never confirmed",
    ),
    ("node", f"has {NUMBERS[int(confirmation.TRY_S)]} to be confirmed"),
    ("node", f"…, after {initrd.DISK_WAIT_S:.0f} s"),
    ("node", f"This machine starts again in {last_words.READING_S:.0f} s."),
    ("node", f"A disk that does not answer is given {ending.PATIENCE_S:.0f} seconds"),
    *(
        ("node", f"`METROPOLIS-SYSTEM-{slot.value}` | `EFI/metropolis/{slot.file_name}`")
        for slot in Slot
    ),
    ("node-storage", f"FAT32, {disk.ESP_BYTES >> 20} MiB"),
    ("hardware-requirements", f"{disk.ESP_BYTES >> 20} MiB are for the firmware"),
    ("hardware-requirements", f"twice {disk.SLOT_BYTES >> 20} MiB for two systems"),
    ("metrics-and-monitoring", f"it has not heard the leader for {access.DEAF_S:.0f} seconds"),
    ("metrics-and-monitoring", f"its last {support.AUDIT_RECORDS} records"),
)


@pytest.mark.parametrize(("page", "phrase"), FACTS, ids=[phrase[:60] for _, phrase in FACTS])
def test_a_page_repeats_the_code(page: str, phrase: str) -> None:
    assert phrase in " ".join(read(HANDBOOK / f"{page}.md").split())


def test_the_smallest_disk_is_one_of_4_gb() -> None:
    assert 3 * 10**9 // 2 < disk.DISK_BYTES_MIN <= 4 * 10**9


def test_the_command_line_of_the_kernel_is_the_one_that_is_shown() -> None:
    shown = SystemSeal(root_hash="ROOT_HASH", data_blocks=0, salt="SALT").command_line
    assert shown.replace("blocks=0", "blocks=COUNT") in read(HANDBOOK / "node.md")


@pytest.mark.parametrize(
    "changed",
    ["endorsement_key_name", "root_key_name", "builder_key_digest", "secure_boot_register"],
)
def test_the_message_of_a_tpm_that_refuses_begins_as_the_table_says(changed: str) -> None:
    sealed = SealedKey(
        endorsement_key_name=b"e",
        root_key_name=b"r",
        builder_key_digest=b"b",
        secure_boot_register=b"s",
    )
    now = {
        name: getattr(sealed, name)
        for name in (
            "root_key_name",
            "endorsement_key_name",
            "secure_boot_register",
            "builder_key_digest",
        )
    }
    error = str(diagnosis.diagnose(sealed, Situation(**{**now, changed: b"another"})))
    rows = read(HANDBOOK / "node-storage.md").partition("| message begins |")[2].splitlines()
    begins = [
        row.split("|")[1].strip() for row in rows if row.startswith("| ") and "---" not in row
    ]
    assert any(
        all(part in error for part in begin.split("…")) and error.startswith(begin.split("…")[0])
        for begin in begins
        if begin.split("…")[0]
    ), error
