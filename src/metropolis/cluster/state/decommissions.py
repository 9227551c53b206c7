# SPDX-License-Identifier: Apache-2.0
"""Records of decommissions: how they are read, written, and what they mean to others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from metropolis.api.decommission_pb2 import DecommissionRecord
from metropolis.base.errors import DataLossError, InvalidArgumentError
from metropolis.base.ids import NodeId, parse_node_id
from metropolis.cluster.planner.decommission import Step
from metropolis.cluster.state import keys
from metropolis.cluster.state.fenced import Change, is_unchanged
from metropolis.consensus.store import Delete, KeyValue, Put

_STEPS: Final = frozenset(int(step) for step in Step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decommission:
    """One record as stored. Never changed in place.

    Attributes:
        mod_revision: Of the key it was read from; 0 when it is not stored yet.
    """

    node_id: NodeId
    message: DecommissionRecord
    mod_revision: int = 0

    @property
    def step(self) -> Step:
        """The step that is being done."""
        return Step(self.message.step)

    def changed(
        self,
        *,
        step: Step | None = None,
        is_forced: bool | None = None,
        farewell_public_key: bytes | None = None,
        is_wiped: bool | None = None,
        scrub_order: int | None = None,
    ) -> "Decommission":
        """Return the record with other contents; None keeps what it says."""
        message = DecommissionRecord()
        message.CopyFrom(self.message)
        if step is not None:
            message.step = step.value  # type: ignore[assignment]  # the numbers are the same
        if is_forced is not None:
            message.forced = is_forced
        if farewell_public_key is not None:
            message.farewell_public_key = farewell_public_key
        if is_wiped is not None:
            message.wiped = is_wiped
        if scrub_order is not None:
            message.scrub_order = scrub_order
        return Decommission(node_id=self.node_id, message=message, mod_revision=self.mod_revision)


def begin(node_id: NodeId, *, is_forced: bool, step: Step = Step.DRAIN_KUBERNETES) -> Decommission:
    """Return a record that is not stored yet."""
    blank = Decommission(node_id=node_id, message=DecommissionRecord(node_id=node_id))
    return blank.changed(step=step, is_forced=is_forced)


def to_change(record: Decommission, sentence: str = "") -> Change:
    """Return the change that stores a record, unless it has changed since it was read.

    Args:
        sentence: For the audit log.
    """
    key = keys.decommission(record.node_id)
    value = record.message.SerializeToString(deterministic=True)
    return Change(
        compares=(is_unchanged(key, record.mod_revision),),
        operations=(Put(key, value),),
        sentence=sentence or f"went on with its decommission: {record.step.name}",
        object=record.node_id,
    )


def removal(node_id: NodeId) -> Change:
    """Return the change that forgets a record; it is fine when there is none."""
    return Change(operations=(Delete(keys.decommission(node_id)),))


def decode(stored: KeyValue) -> Decommission:
    """Read a record.

    Raises:
        DataLossError: it is damaged.
    """
    name = stored.key.removeprefix(keys.DECOMMISSIONS).decode("ascii", errors="replace")
    try:
        node_id = parse_node_id(name)
        message = DecommissionRecord.FromString(stored.value)
    except (DecodeError, InvalidArgumentError) as cause:
        raise _damaged(name) from cause
    if message.node_id != node_id or int(message.step) not in _STEPS:
        raise _damaged(name)
    return Decommission(node_id=node_id, message=message, mod_revision=stored.mod_revision)


def decode_all(stored: Sequence[KeyValue]) -> Sequence[Decommission]:
    """Read every record that can be read; the others stay where they are."""
    found: list[Decommission] = []
    for item in stored:
        try:
            found.append(decode(item))
        except DataLossError:
            continue
    return found


def _damaged(name: str) -> DataLossError:
    return DataLossError(
        f"the record of the decommission of {name} is damaged",
        remedy="Delete the node with `metroctl node delete --bypass-has-roles "
        "--bypass-not-decommissioned`.",
    )
