# SPDX-License-Identifier: Apache-2.0
"""What was done to one node while no leader could write it down, until one does.

A node that is told to go on alone has no log to write to before it has obeyed. So it first notes on
its own disk who said so; as soon as it leads, the note enters the audit log, and is forgotten.
"""

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from metropolis.api.audit_pb2 import OUTCOME_FAILED, Actor, Record, Unrecorded
from metropolis.host import Directory


class Notes:
    """Records that are not in the audit log yet.

    Args:
        path: File below `directory` that is the notes' alone.
    """

    def __init__(self, directory: Directory, path: str) -> None:
        self._directory = directory
        self._path = path

    async def add(self, record: Record) -> None:
        """Note a record, durably, behind those of before."""
        more = Unrecorded(records=[record]).SerializeToString(deterministic=True)
        # Encoded messages one behind the other are one message.
        await self._directory.write(self._path, await self._read() + more)

    async def records(self) -> Sequence[Record]:
        """Return what was noted, oldest first. Damaged notes are a record that says so."""
        try:
            return list(Unrecorded.FromString(await self._read()).records)
        except DecodeError:
            return [
                Record(
                    actor=Actor(kind=Actor.KIND_LEADER),
                    method="Audit.Recover",
                    outcome=OUTCOME_FAILED,
                    code="data-loss",
                    sentence="a note of what was done to this node without a leader is damaged",
                )
            ]

    async def forget(self) -> None:
        """Remove all notes: they are in the log."""
        await self._directory.remove(self._path)

    async def _read(self) -> bytes:
        try:
            return await self._directory.read(self._path)
        except FileNotFoundError:
            return b""
