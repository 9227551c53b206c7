# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

from metropolis.node.boot.crash_record import LINES_MAX, take_records


def test_records_are_told_once_and_erased(tmp_path: Path) -> None:
    (tmp_path / "dmesg-efi-1").write_text("\n".join(map(str, range(100))))
    (tmp_path / "console-efi-0").write_text("noise")
    ((name, lines),) = take_records(tmp_path)
    assert name == "dmesg-efi-1"
    assert (len(lines), lines[-1]) == (LINES_MAX, "99")
    assert list(tmp_path.iterdir()) == []
    assert take_records(tmp_path) == []
    assert take_records(tmp_path / "none") == []
