# SPDX-License-Identifier: Apache-2.0
"""Every method, called by every kind of caller, on a server: exactly as docs/reference says.

The page is generated from the tables of roles; here certificates, accounts and the authenticator
decide, and each cell has to come out the same.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from metropolis.api.accounts_pb2 import StoredUser
from metropolis.api.methods import Method
from metropolis.api.services import SERVICES
from metropolis.api.users_pb2 import Certificate, Grants
from metropolis.base.errors import (
    MetropolisError,
    OutOfRangeError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from metropolis.cluster.access import Access, fingerprint
from metropolis.cluster.planner.authorization import NOT_GRANTABLE, PERMISSIONS, ROLES, needed
from metropolis.cluster.state import accounts
from metropolis.consensus.store import KeyValue
from metropolis.host.sim.clock import EPOCH, SimClock
from metropolis.host.sim.entropy import SimEntropy
from metropolis.pki import certificates
from metropolis.pki.credentials import Credentials
from metropolis.pki.keys import generate_key, raw_public_key
from metropolis.rpc.authentication import PolicyAuthenticator
from metropolis.rpc.channel import Channel, Services
from metropolis.rpc.memory.network import MemoryNetwork
from metropolis.rpc.memory.transport import MemoryTransport
from metropolis.rpc.transport import Endpoint
from metropolis.sim import simulate

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "permissions.md"
AT = Endpoint("10.0.0.1", 7835)
ENTROPY = SimEntropy(7)
CA = certificates.issue_cluster_ca(generate_key(ENTROPY), serial=1)
METHODS = {
    f"{method.service.rpartition('.')[2]}.{method.name}": method
    for service in SERVICES
    for method in service.ALL
    if method.needs is not None
}


def table_of_the_page() -> tuple[list[str], dict[str, list[str]]]:
    """Return the columns after the second of the second table, and each row's cells."""
    lines = PAGE.read_text().partition("## Methods and callers")[2].splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line[:1] == "|"]
    headers, _rule, *body = rows
    return headers[2:-1], {row[0].strip("`"): row[2:-1] for row in body}


COLUMNS, CELLS = table_of_the_page()


@dataclass(frozen=True)
class Caller:
    credentials: Credentials | None
    record: StoredUser | None = None


def key() -> Ed25519PrivateKey:
    return generate_key(ENTROPY)


def user(
    name: str, grants: Grants, *, age: timedelta = timedelta(), admitted: bool = True
) -> Caller:
    own = key()
    certificate = certificates.issue_user(
        CA,
        raw_public_key(own),
        identity=name,
        serial=certificates.new_serial(ENTROPY),
        validity=certificates.user_validity(EPOCH - age),
    )
    record = StoredUser(name=name, grants=grants)
    if admitted:
        record.certificates.append(Certificate(fingerprint=fingerprint(certificate)))
    return Caller(Credentials(certificate=certificate, key=own), record)


def made(column: str, method: Method[Any, Any]) -> Caller:
    """Make the caller of a column, for a method."""
    operator = Grants(roles=["operator"])
    own = key()
    match column:
        case "anonymous":
            return Caller(None)
        case "ephemeral":
            return Caller(Credentials(certificate=certificates.issue_ephemeral(own), key=own))
        case "node":
            certificate = certificates.issue_node(CA, raw_public_key(own), serial=9)
            return Caller(Credentials(certificate=certificate, key=own))
        case "owner":
            certificate = certificates.issue_user(
                CA, raw_public_key(own), identity="owner", serial=8
            )
            return Caller(Credentials(certificate=certificate, key=own))
        case "granted":
            return user("granted", Grants(permissions=needed(method)))
        case "expired":
            return user("expired", operator, age=timedelta(days=31))
        case "revoked":
            return user("revoked", operator, admitted=False)
        case _:
            assert column in ROLES, f"the page has a column {column}, which nobody here is"
            return user(column, Grants(roles=[column]))


def access_of(caller: Caller) -> Access:
    """Take a user's record the way a leader does: from what lies in the store."""
    items = []
    if caller.record is not None:
        items.append(
            KeyValue(
                key=accounts.user_key(caller.record.name),
                value=caller.record.SerializeToString(),
                create_revision=1,
                mod_revision=1,
            )
        )
    return Access(accounts.table_of(accounts.decode(items)))


def services() -> Services:
    """Serve every method; whoever gets through hears so."""

    async def unary(_request: object, _peer: object) -> Any:
        raise OutOfRangeError("admitted")

    async def stream(_stream: object) -> None:
        raise OutOfRangeError("admitted")

    served = Services()
    for method in METHODS.values():
        is_stream = method.cardinality.client_streaming or method.cardinality.server_streaming
        if is_stream:
            served.stream(method, stream)
        else:
            served.unary(method, unary)
    return served


@asynccontextmanager
async def serving(caller: Caller) -> AsyncIterator[Channel]:
    access = access_of(caller)
    authenticator = PolicyAuthenticator(
        ca_certificate=lambda: CA.certificate,
        clock=SimClock(),
        revoked=access.why_refused,
        grants=access.grants,
    )
    network = MemoryNetwork(rng=Random(1))
    own = key()
    presented = Credentials(
        certificate=certificates.issue_node(CA, raw_public_key(own), serial=3), key=own
    )
    async with MemoryTransport(network, AT.host).serve(
        AT, credentials=presented, services=services(), authenticator=authenticator
    ):
        channel = MemoryTransport(network, "10.0.0.2").dial(
            AT, credentials=caller.credentials, verify=lambda _certificate: None
        )
        try:
            yield channel
        finally:
            await channel.close()


async def call(channel: Channel, method: Method[Any, Any]) -> None:
    if not (method.cardinality.client_streaming or method.cardinality.server_streaming):
        await channel.call(method, method.request_type())
        return
    async with channel.open(method) as opened:
        await opened.send(method.request_type())
        await opened.receive()


async def is_admitted(channel: Channel, method: Method[Any, Any]) -> bool:
    try:
        async with asyncio.timeout(5):
            await call(channel, method)
    except (PermissionDeniedError, UnauthenticatedError):
        return False
    except OutOfRangeError:
        return True
    except MetropolisError as error:
        pytest.fail(f"{method.path}: {error}")
    raise AssertionError("nobody answers")


def test_the_page_has_every_method_and_every_kind_of_caller() -> None:
    assert set(CELLS) == set(METHODS)
    assert {"anonymous", "ephemeral", "node", "owner", "granted", "expired", "revoked"} | set(
        ROLES
    ) == set(COLUMNS)


@pytest.mark.parametrize("column", COLUMNS)
def test_every_method_admits_whom_the_page_says(column: str) -> None:
    async def scenario() -> None:
        wrong = []
        index = COLUMNS.index(column)
        for name, method in METHODS.items():
            async with serving(made(column, method)) as channel:
                said = "yes" if await is_admitted(channel, method) else "·"
            if said != CELLS[name][index]:
                wrong.append(f"{name}: the page says {CELLS[name][index]}, the server {said}")
        assert not wrong

    simulate(scenario, seed=1)


def test_every_permission_that_a_method_takes_is_known() -> None:
    for name, method in METHODS.items():
        assert set(needed(method)) <= set(PERMISSIONS), name


def test_no_role_gives_what_cannot_be_granted_and_larger_roles_give_more() -> None:
    assert not NOT_GRANTABLE & frozenset().union(*ROLES.values())
    assert ROLES["viewer"] < ROLES["node-admin"] < ROLES["operator"]
    assert "users.write" not in ROLES["operator"]
