# SPDX-License-Identifier: Apache-2.0
"""Files that hold keys and certificates: never readable by others, not even for a moment."""

import contextlib
import os
import secrets
import stat
from pathlib import Path
from typing import Final

from metropolis.base.errors import FailedPreconditionError, MetropolisError

PRIVATE: Final = 0o600
PUBLIC: Final = 0o644
_DIRECTORY: Final = 0o700
_BYTES_MAX: Final = 1 << 20


def make_directory(path: Path) -> None:
    """Make a directory with mode 0700; missing parents too. What exists is left as it is.

    Raises:
        FailedPreconditionError: it cannot be made.
    """
    try:
        for each in (*reversed(path.parents), path):
            if not each.is_dir():
                each.mkdir(mode=_DIRECTORY, exist_ok=True)
    except OSError as cause:
        raise _cannot("create the directory", path, cause) from cause


def create(path: Path, text: str, *, mode: int = PRIVATE) -> bool:
    """Create a file with its content at once, durably; return False if it exists already.

    Raises:
        FailedPreconditionError: it cannot be written.
    """
    try:
        temporary = _write_beside(path, text, mode)
        try:
            os.link(temporary, path)  # unlike a rename, it never replaces
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        _sync_directory(path.parent)
    except OSError as cause:
        raise _cannot("write", path, cause) from cause
    return True


def replace(path: Path, text: str, *, mode: int = PRIVATE) -> None:
    """Create or replace a file atomically and durably.

    Raises:
        FailedPreconditionError: it cannot be written.
    """
    try:
        temporary = _write_beside(path, text, mode)
        try:
            temporary.replace(path)
        except OSError:
            temporary.unlink()
            raise
        _sync_directory(path.parent)
    except OSError as cause:
        raise _cannot("write", path, cause) from cause


def overwrite(path: Path, text: str, *, mode: int = PUBLIC) -> None:
    """Write what an operator wants to have in a place of theirs: a file, a pipe, a device.

    Args:
        mode: Of a new file; an old one gets it if it is to be private.

    Raises:
        FailedPreconditionError: it cannot be written.
    """
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        descriptor = os.open(path, flags, mode)
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123  # a descriptor
            if mode == PRIVATE and stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.fchmod(descriptor, mode)
            file.write(text)
    except OSError as cause:
        raise _cannot("write", path, cause) from cause


def read(path: Path) -> str | None:
    """Return the content of a text file; None when there is no such file.

    Raises:
        FailedPreconditionError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(_BYTES_MAX).decode("utf-8", "replace")
    except FileNotFoundError:
        return None
    except OSError as cause:
        raise _cannot("read", path, cause) from cause


def remove(path: Path) -> None:
    """Remove a file; not there is fine."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def _write_beside(path: Path, text: str, mode: int) -> Path:
    """Write a new file in the same directory, with its final mode from the start."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(temporary, flags, mode)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123  # a descriptor
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink()
        raise
    return temporary


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _cannot(verb: str, path: Path, cause: OSError) -> MetropolisError:
    return FailedPreconditionError(
        f"cannot {verb} {path}: {cause.strerror or cause}",
        remedy="Correct that path or its permissions, or name another one.",
    )
