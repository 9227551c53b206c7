# SPDX-License-Identifier: Apache-2.0
"""A machine's power button: pressed by a person, or by whoever holds a virtual machine.

The kernel's driver (module `button`) makes an input device of it, which `evdev` lets us read.
Sources: linux/input.h, linux/input-event-codes.h.
"""

import asyncio
import contextlib
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_CLASS: Final = Path("/sys/class/input")
_DEVICES: Final = Path("/dev/input")
_NAME: Final = "Power Button"
_EVENT: Final = struct.Struct("@llHHi")  # seconds, microseconds, type, code, value
_EVENTS_READ: Final = 64
_KEY: Final = 1  # EV_KEY
_POWER: Final = 116  # KEY_POWER
_PRESSED: Final = 1


async def wait_power_button() -> None:
    """Return when the button is pressed; never, on a machine that has none."""
    buttons = find_power_buttons()
    loop = asyncio.get_running_loop()
    pressed: asyncio.Future[None] = loop.create_future()
    opened: list[int] = []

    def look(descriptor: int) -> None:
        with contextlib.suppress(OSError):
            if is_press(os.read(descriptor, _EVENT.size * _EVENTS_READ)) and not pressed.done():
                pressed.set_result(None)

    try:
        for path in buttons:
            with contextlib.suppress(OSError):
                opened.append(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
                loop.add_reader(opened[-1], look, opened[-1])
        await pressed
    finally:
        for descriptor in opened:
            loop.remove_reader(descriptor)
            os.close(descriptor)


def find_power_buttons(class_directory: Path = _CLASS) -> Sequence[Path]:
    """Return the devices of the machine's power buttons; some machines have two."""
    return [
        _DEVICES / name.parent.parent.name
        for name in sorted(class_directory.glob("event*/device/name"))
        if name.read_text(encoding="utf-8", errors="replace").strip() == _NAME
    ]


def is_press(events: bytes) -> bool:
    """Whether among input events is the pressing of a power button."""
    whole = events[: len(events) // _EVENT.size * _EVENT.size]
    return any(
        (kind, code, value) == (_KEY, _POWER, _PRESSED)
        for _, _, kind, code, value in _EVENT.iter_unpack(whole)
    )
