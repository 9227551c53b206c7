# SPDX-License-Identifier: Apache-2.0
"""The enrolment record on the storage: read, replaced after every step, removed at the end."""

from google.protobuf.message import DecodeError

from metropolis.api.enrolment_pb2 import EnrolmentRecord
from metropolis.base.errors import DataLossError
from metropolis.node.enrolment.lifecycle import FLOWS, Step
from metropolis.node.storage import ENROLMENT_RECORD, NodeStorage


async def read_record(storage: NodeStorage) -> EnrolmentRecord | None:
    """Return the record of an unfinished enrolment, or None.

    Raises:
        DataLossError: it is there and damaged. Never taken for an absence: the node may be known
            to the cluster already.
    """
    data = await storage.read(ENROLMENT_RECORD)
    if data is None:
        return None
    try:
        record = EnrolmentRecord.FromString(data)
        if record.flow not in FLOWS or record.step not in FLOWS[record.flow]:
            raise DecodeError("flow or step is unknown")
    except DecodeError as cause:
        raise DataLossError(
            f"{ENROLMENT_RECORD.path} is damaged",
            remedy="Wipe this machine, delete its node if the cluster has one, install again.",
        ) from cause
    return record


async def write_step(storage: NodeStorage, record: EnrolmentRecord, step: Step) -> None:
    """Say durably that `step` is complete."""
    record.step = step
    await storage.write(ENROLMENT_RECORD, record.SerializeToString(deterministic=True))
