# SPDX-License-Identifier: Apache-2.0
"""For which machines a certificate may speak.

    CN=machine                  every machine of the site
    CN=machine, OU=<partition>  those of that partition, and those that are in none yet
    CN=bmc-agent, OU=…          likewise

An OU that is no partition means nothing: authorities write departments there.
"""

from collections.abc import Iterable
from functools import lru_cache

from cryptography import x509
from cryptography.x509.oid import NameOID

from metropolis.base.errors import PermissionDeniedError
from metropolis.metal.model.machine import MACHINES
from metropolis.metal.model.partition import PARTITIONS
from metropolis.metal.rules.entity_ids import LENGTH_MAX
from metropolis.metal.store import Reader
from metropolis.rpc.peer import Peer


async def check_partition(reader: Reader, peer: Peer, partition_id: str) -> None:
    """Refuse who speaks for a partition that its certificate does not name.

    Raises:
        PermissionDeniedError: it names another one.
    """
    named = await _partitions(reader, peer)
    if named and partition_id not in named:
        raise _refusal(f"partition_id: partition {partition_id[:LENGTH_MAX]!r}", named)


async def check_machine(reader: Reader, peer: Peer, machine_id: str) -> None:
    """Refuse who speaks for a machine of a partition that its certificate does not name.

    Raises:
        PermissionDeniedError: it names another one.
    """
    if await foreign_machines(reader, peer, (machine_id,)):
        named = await _partitions(reader, peer)
        raise _refusal(f"machine {machine_id[:LENGTH_MAX]!r}", named)


async def foreign_machines(reader: Reader, peer: Peer, machine_ids: Iterable[str]) -> list[str]:
    """Return those of some machines for which a certificate may not speak."""
    named = await _partitions(reader, peer)
    if not named:
        return []
    found = [await reader.lookup(MACHINES, each) for each in machine_ids]
    allowed = {"", *named}
    return [
        each.id for each in found if each is not None and each.value.partition_id not in allowed
    ]


async def _partitions(reader: Reader, peer: Peer) -> list[str]:
    """Those partitions that a certificate names; none when it is of the whole site."""
    units = _units(peer.certificate) if peer.certificate else ()
    return [unit for unit in units if await reader.lookup(PARTITIONS, unit) is not None]


@lru_cache(maxsize=1024)
def _units(certificate: bytes) -> tuple[str, ...]:
    subject = x509.load_der_x509_certificate(certificate).subject
    units = subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    return tuple(str(unit.value) for unit in units)


def _refusal(what: str, named: list[str]) -> PermissionDeniedError:
    return PermissionDeniedError(
        f"{what} is not of {', '.join(named)}, which the certificate names",
        remedy="Use the certificate of that partition; delete the machine there if it was moved.",
    )
