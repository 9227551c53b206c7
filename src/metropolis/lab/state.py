# SPDX-License-Identifier: Apache-2.0
"""The directory that holds everything of one cluster on this computer."""

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from metropolis.base.errors import DataLossError, FailedPreconditionError, NotFoundError
from metropolis.lab.model import QEMU_DRIVER, Rack, check_name, rack_from_json, rack_to_json

_RECORD_BYTES_MAX: Final = 1 << 20
_DIRECTORY_MODE: Final = 0o700


class ClusterDirectory:
    """Where one cluster is. Nothing is created until `create`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def record(self) -> Path:
        """What the rack is."""
        return self.path / "cluster.json"

    @property
    def keeper_lock(self) -> Path:
        """Locked while a keeper lives."""
        return self.path / "keeper.lock"

    @property
    def operation_lock(self) -> Path:
        """Locked while a command changes the cluster."""
        return self.path / "operation.lock"

    @property
    def keeper_socket(self) -> Path:
        """Where the keeper listens."""
        return self.path / "keeper.sock"

    @property
    def keeper_log(self) -> Path:
        """What the keeper says."""
        return self.path / "keeper.log"

    def node(self, number: int) -> Path:
        """The directory of one machine."""
        return self.path / "nodes" / str(number)

    @property
    def image(self) -> Path:
        """The system image that the cluster was founded with, of virtual machines."""
        return self.path / "image"

    @property
    def maker(self) -> Path:
        """The certificate authority of whoever makes the TPMs of virtual machines."""
        return self.path / "maker"

    def storage(self, number: int) -> Path:
        """The disk of one machine of the namespace driver."""
        return self.node(number) / "storage"

    def console(self, number: int) -> Path:
        """What one machine printed."""
        return self.node(number) / "console.log"

    @property
    def exists(self) -> bool:
        """Whether there is a cluster, perhaps a half-made one."""
        return self.record.exists()

    def create(self, rack: Rack) -> None:
        """Make the directories and write the record, last."""
        for number in rack.numbers:
            own = self.node(number) if rack.driver == QEMU_DRIVER else self.storage(number)
            for directory in (*reversed(own.parents), own):
                if directory.is_relative_to(self.path):
                    directory.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        self.write(rack)

    def write(self, rack: Rack) -> None:
        """Replace the record, atomically."""
        text = json.dumps(rack_to_json(rack), indent=2) + "\n"
        temporary = self.record.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(self.record)

    def read(self) -> Rack:
        """Read the record.

        Raises:
            NotFoundError: there is no such cluster.
            DataLossError: the record is damaged.
        """
        try:
            data = self.record.read_bytes()[:_RECORD_BYTES_MAX]
        except FileNotFoundError as cause:
            raise NotFoundError(
                f"there is no cluster named {self.path.name!r} on this computer",
                remedy=f"Start one with `metropolis launch --name {self.path.name}`.",
            ) from cause
        try:
            return rack_from_json(json.loads(data))
        except ValueError as cause:
            raise DataLossError(
                f"{self.record} is damaged",
                remedy="Delete the cluster with `metropolis destroy`, then launch a new one.",
            ) from cause

    def remove(self) -> None:
        """Delete everything. The record goes first: what is left over is no cluster."""
        self.record.unlink(missing_ok=True)
        if self.path.exists():
            shutil.rmtree(self.path)


def state_root(environment: Mapping[str, str]) -> Path:
    """Where clusters are kept: `$XDG_STATE_HOME/metropolis/clusters`.

    Raises:
        FailedPreconditionError: neither XDG_STATE_HOME nor HOME is set.
    """
    if base := environment.get("XDG_STATE_HOME"):
        return Path(base).absolute() / "metropolis" / "clusters"
    if home := environment.get("HOME"):
        return Path(home).absolute() / ".local" / "state" / "metropolis" / "clusters"
    raise FailedPreconditionError(
        "neither XDG_STATE_HOME nor HOME is set, so there is no place for clusters",
        remedy="Set HOME to your home directory.",
    )


def cluster_names(root: Path) -> Sequence[str]:
    """Names of the clusters below `root`, sorted."""
    if not root.is_dir():
        return ()
    names = sorted(path.name for path in root.iterdir() if (path / "cluster.json").exists())
    return [name for name in names if re.fullmatch(r"[a-z0-9-]+", name) and check_name(name)]
