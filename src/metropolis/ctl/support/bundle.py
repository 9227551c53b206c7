# SPDX-License-Identifier: Apache-2.0
"""The files of a bundle, and the archive that they become."""

import gzip
import io
import json
import os
import tarfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from metropolis.base.errors import FailedPreconditionError
from metropolis.supervision.redaction import Redaction

FILE_BYTES_MAX: Final = 64 << 20
CUT: Final = b"\n(cut here: the file is larger)\n"
README: Final = """\
A support bundle of a Metropolis cluster, made by `metroctl support`.

manifest.json            what was asked, and what could not be had, with the reason
metroctl.json            the operator's program and its way to the cluster; no keys
cluster/                 what the leader said: nodes, configuration, consensus, audit log
nodes/ID/                what a node said of itself:
    supervision.json     every runnable: state, reason, restarts
    explain.json         why it is not ready, if it is not
    consensus.json       its consensus member
    log.txt              its log, the newest entries
    metrics-*.txt        its figures, as Prometheus reads them

Keys, tickets and passwords are not asked for. The log was redacted by the node that wrote it, and
everything here once more. It does hold names, addresses, labels and what people did: look through
it before you hand it to strangers.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Something that was asked for and not had."""

    path: str
    reason: str
    remedy: str


class Bundle:
    """Collects files. Text is redacted when it comes in.

    Args:
        secrets: What must not be in it although nobody asks for it.
    """

    def __init__(self, *, name: str, secrets: Sequence[bytes] = ()) -> None:
        self.name = name
        self.missing: list[Missing] = []
        self._files: dict[str, bytes] = {}
        self._redaction = Redaction()
        for secret in secrets:
            self._redaction.conceal(secret)

    @property
    def paths(self) -> Sequence[str]:
        """The files there are, sorted."""
        return sorted(self._files)

    def add(self, path: str, data: bytes) -> None:
        """Add a file; what is too large is cut."""
        clean = self._redaction.data(data)
        if len(clean) > FILE_BYTES_MAX:
            clean = clean[:FILE_BYTES_MAX] + CUT
        self._files[path] = clean

    def add_document(self, path: str, document: object) -> None:
        """Add a JSON file."""
        self.add(path, json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n")

    def miss(self, path: str, reason: str, remedy: str = "") -> None:
        """Note what could not be had."""
        said = self._redaction.text(reason), self._redaction.text(remedy)
        self.missing.append(Missing(path=path, reason=said[0], remedy=said[1]))

    def archive(self, *, made: datetime, manifest: dict[str, object]) -> bytes:
        """Return the .tar.gz, with a README and a manifest."""
        self.add("README.txt", README.encode())
        self.add_document(
            "manifest.json",
            {
                **manifest,
                "made": made.isoformat(),
                "files": self.paths,
                "missing": [asdict(each) for each in self.missing],
            },
        )
        out = io.BytesIO()
        stamp = int(made.timestamp())
        with (
            gzip.GzipFile(fileobj=out, mode="wb", mtime=stamp) as zipped,
            tarfile.open(fileobj=zipped, mode="w") as tar,
        ):
            for path in self.paths:
                entry = tarfile.TarInfo(f"{self.name}/{path}")
                entry.size = len(self._files[path])
                entry.mode = 0o600
                entry.mtime = stamp
                tar.addfile(entry, io.BytesIO(self._files[path]))
        return out.getvalue()


def write(path: Path, data: bytes) -> None:
    """Write the archive, readable by its owner alone from the first moment on.

    Raises:
        FailedPreconditionError: it exists already, or cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except FileExistsError as cause:
        raise FailedPreconditionError(
            f"{path} exists already", remedy="Name another file with --output-file."
        ) from cause
    except OSError as cause:
        raise FailedPreconditionError(
            f"cannot write {path}: {cause.strerror}", remedy="Name another file with --output-file."
        ) from cause
