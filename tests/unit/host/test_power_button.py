# SPDX-License-Identifier: Apache-2.0
"""A machine's power button, as the kernel shows it."""

import struct
from pathlib import Path

from metropolis.host.linux.power_button import find_power_buttons, is_press


def event(kind: int, code: int, value: int) -> bytes:
    return struct.pack("@llHHi", 1, 2, kind, code, value)


def test_pressing_counts_and_letting_go_does_not() -> None:
    release, sync, other = event(1, 116, 0), event(0, 0, 0), event(1, 30, 1)
    assert is_press(sync + event(1, 116, 1) + sync)
    assert not is_press(release + sync + other)
    assert not is_press(event(1, 116, 1)[:-1])
    assert not is_press(b"")


def test_only_power_buttons_are_listened_to(tmp_path: Path) -> None:
    for number, name in enumerate(("Power Button", "AT Keyboard", "Power Button")):
        (tmp_path / f"event{number}" / "device").mkdir(parents=True)
        (tmp_path / f"event{number}" / "device" / "name").write_text(f"{name}\n")
    found = find_power_buttons(tmp_path)
    assert found == [Path("/dev/input/event0"), Path("/dev/input/event2")]
