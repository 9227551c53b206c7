# SPDX-License-Identifier: Apache-2.0
"""A machine's disk, from outside, while the machine is off."""

import os
from pathlib import Path

from metropolis.formats import fat, gpt


class RawDisk:
    """Reads and damages an installed disk.

    Attributes:
        begins: Where each partition begins, in bytes, by name.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        table = gpt.decode(self.read, disk_bytes=self._path.stat().st_size)
        self.begins = {each.name: each.first_lba * table.sector_bytes for each in table.partitions}

    def read(self, offset: int, size: int) -> bytes:
        with self._path.open("rb") as file:
            return os.pread(file.fileno(), size, offset)

    def write(self, offset: int, data: bytes) -> None:
        with self._path.open("r+b") as file:
            os.pwrite(file.fileno(), data, offset)

    def flip(self, offset: int) -> None:
        """Damage one byte."""
        self.write(offset, bytes([self.read(offset, 1)[0] ^ 0xFF]))

    def flip_in_file(self, path: str) -> None:
        """Damage a file of the ESP in the middle."""
        content = self.files()[path]
        begin = self.begins[gpt.ESP_NAME]
        volume = self.read(begin, self.begins[gpt.SYSTEM_A_NAME] - begin)
        self.flip(begin + volume.index(content) + len(content) // 2)

    def files(self) -> dict[str, bytes]:
        """What the ESP holds."""
        begin = self.begins[gpt.ESP_NAME]
        return dict(fat.decode(lambda offset, size: self.read(begin + offset, size)))

    @property
    def data(self) -> int:
        """Where the data partition begins."""
        return self.begins[gpt.DATA_NAME]
