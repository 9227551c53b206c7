# SPDX-License-Identifier: Apache-2.0
"""A cache of build steps by the content of what they read: what did not change is not done again.

One directory per step and key, complete or absent (renamed into place). The newest few of each
step stay, so that going back and forth between two branches stays warm.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_KEPT_PER_STEP: Final = 6

Say = Callable[[str], None]


def digest_of(*parts: str | bytes) -> str:
    """Hexadecimal SHA-256 over parts, each with its length, so that no two lists collide."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()


def digest_of_files(paths: Iterable[Path]) -> str:
    """Hexadecimal SHA-256 over the contents of files, in this order."""
    return digest_of(*(path.read_bytes() for path in paths))


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """The cache.

    Attributes:
        directory: Where it is kept.
        say: Told one line per step that has to be done.
    """

    directory: Path
    say: Say

    def done(self, name: str, key: str, make: Callable[[Path], None], *, title: str) -> Path:
        """Return the directory of a step's output; `make` fills a new one if there is none.

        Args:
            key: Digest of everything that the output depends on.
            title: What to say while it is done, for example "compressing the system".
        """
        place = self.directory / name / key[:32]
        if place.is_dir():
            os.utime(place)
            return place
        self.say(title)
        place.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=place.parent, prefix=".new-"))
        try:
            make(scratch)
            scratch.chmod(0o755)
            try:
                scratch.rename(place)
            except OSError:  # another build was faster, and made the same
                if not place.is_dir():
                    raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        self._forget_old(place.parent)
        return place

    def _forget_old(self, step: Path) -> None:
        places = [each for each in step.iterdir() if not each.name.startswith(".")]
        for old in sorted(places, key=lambda each: -each.stat().st_mtime)[_KEPT_PER_STEP:]:
            shutil.rmtree(old, ignore_errors=True)
