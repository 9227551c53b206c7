# SPDX-License-Identifier: Apache-2.0
"""The record of a wipe: it stays on the disk for as long as the machine is not installed anew."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.message import DecodeError

from metropolis.api.decommission_pb2 import WipeRecord
from metropolis.base.errors import DataLossError
from metropolis.node.storage import FAREWELL, PARAMETERS, NodeStorage


async def read_wipe_record(storage: NodeStorage) -> WipeRecord | None:
    """Read the record; None on a machine that was never told to wipe itself.

    Raises:
        DataLossError: it is damaged. Never taken for an absence: that would stop a wipe halfway.
    """
    data = await storage.read(FAREWELL)
    if data is None:
        return None
    try:
        record = WipeRecord.FromString(data)
    except DecodeError as cause:
        raise _damaged() from cause
    if not record.node_id or not record.step:
        raise _damaged()
    return record


async def write_wipe_record(storage: NodeStorage, record: WipeRecord) -> None:
    """Replace the record."""
    await storage.write(FAREWELL, record.SerializeToString(deterministic=True))


async def read_unfinished(storage: NodeStorage) -> WipeRecord | None:
    """Return the record that decides what this start of the machine does; None when none does.

    A machine that is wiped and has node parameters was installed anew: the record goes.
    """
    record = await read_wipe_record(storage)
    if record is None or record.step == WipeRecord.STEP_PREPARED:
        return None
    if record.step == WipeRecord.STEP_DONE and await storage.read(PARAMETERS) is not None:
        await storage.remove(FAREWELL)
        return None
    return record


def farewell_key(record: WipeRecord) -> Ed25519PrivateKey:
    """Return the key that reports the wipe."""
    return Ed25519PrivateKey.from_private_bytes(record.farewell_private_key)


def _damaged() -> DataLossError:
    return DataLossError(
        f"{FAREWELL.path} is damaged", remedy="Wipe this machine by hand and install it again."
    )
