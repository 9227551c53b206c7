# SPDX-License-Identifier: Apache-2.0
"""Who gets past the policy of upstream's methods; written out, so that a slip shows.

Every method and every kind of caller: tests/unit/cluster/test_permission_matrix.py.
"""

import asyncio

import pytest

from contract.cluster.rack import Rack, run
from metropolis.base.errors import MetropolisError, PermissionDeniedError, UnauthenticatedError
from metropolis.base.ids import node_id_from_public_key
from metropolis.cluster.office import Office
from metropolis.cluster.services.curator_local import CuratorLocal
from metropolis.cluster.services.registry import control_plane
from metropolis.pki.keys import generate_key
from metropolis.rpc.channel import Channel, Registration

ANYBODY, MEMBERS, USERS = "anybody", "nodes and users", "users"

EXPECTED = {
    "AAA/Escrow": ANYBODY,
    "Management/GetRegisterTicket": USERS,
    "Management/GetClusterInfo": MEMBERS,
    "Management/GetNodes": MEMBERS,
    "Management/ApproveNode": USERS,
    "Management/UpdateNodeRoles": USERS,
    "Management/DecommissionNode": USERS,
    "Management/DeleteNode": USERS,
    "Management/UpdateNodeLabels": USERS,
    "Management/ConfigureCluster": USERS,
    "Curator/Watch": MEMBERS,
    "Curator/UpdateNodeStatus": MEMBERS,
    "Curator/Heartbeat": MEMBERS,
    "Curator/RegisterNode": ANYBODY,
    "Curator/CommitNode": ANYBODY,
    "Curator/JoinNode": ANYBODY,
    "Curator/IssueCertificate": MEMBERS,
    "Curator/UpdateNodeClusterNetworking": MEMBERS,
    "Curator/GetConsensusStatus": MEMBERS,
    "CuratorLocal/GetCurrentLeader": ANYBODY,
    "CuratorLocal/GetCACertificate": ANYBODY,
    "Introspection/ExplainNode": MEMBERS,
}

_OFFICE = Office(node_id_from_public_key(bytes(32)))
METHODS = {
    path.rpartition(".")[2]: registration
    for path, registration in control_plane(_OFFICE, CuratorLocal(_OFFICE, b"")).by_path.items()
}

_POLICY_REFUSALS = ("no client certificate", "not signed by cluster CA", "missing PERMISSION_")


def test_every_method_of_upstream_is_in_the_matrix() -> None:
    theirs = {
        name
        for name, registration in METHODS.items()
        if not registration.method.service.startswith("metropolis.ext.")
    }
    assert theirs == {name for name in EXPECTED if not name.startswith("Introspection/")}


async def _passes(channel: Channel, registration: Registration) -> bool:
    """Make a call without content; tell whether the policy let it through."""
    method = registration.method
    try:
        async with asyncio.timeout(3):
            if registration.unary is not None:
                await channel.call(method, method.request_type())
            else:
                async with channel.open(method) as call:
                    await call.send(method.request_type())
                    await call.end()
                    await call.receive()
    except (PermissionDeniedError, UnauthenticatedError) as error:
        return not any(text in str(error) for text in _POLICY_REFUSALS)
    except (MetropolisError, TimeoutError):
        return True
    return True


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_policy_admits_exactly_whom_it_should(name: str) -> None:
    async def scenario(made: Rack) -> None:
        first = made.sites[0]
        second = await made.enrol(first)
        stranger = made.dial_as_stranger(first, generate_key(made.entropy))
        callers = {
            "user": made.dial(first),
            "node": made.dial(first, second.credentials),
            "stranger": stranger,
            "nobody": made.dial_anonymously(first),
        }
        admitted = {
            caller for caller, channel in callers.items() if await _passes(channel, METHODS[name])
        }
        assert (
            admitted
            == {
                ANYBODY: {"user", "node", "stranger", "nobody"},
                MEMBERS: {"user", "node"},
                USERS: {"user"},
            }[EXPECTED[name]]
        )

    run(scenario)
