# SPDX-License-Identifier: Apache-2.0
"""How the ticket that machines register with is replaced.

Registering and rotating are ordered by the store: whoever registers writes only while the ticket is
still the one it was judged by. So after the answer to a rotation the old ticket admits nobody, not
even a call that was under way. What it admitted before stays: such machines wait for approval and
commit, which needs no ticket.
"""

from metropolis.api.decommission_pb2 import (
    RotateRegisterTicketRequest,
    RotateRegisterTicketResponse,
)
from metropolis.cluster.leader import Leader
from metropolis.cluster.state import keys
from metropolis.cluster.state.fenced import Change, is_unchanged, retry_conflicts
from metropolis.consensus.store import Get, Put
from metropolis.pki.tickets import RegisterTicket
from metropolis.rpc.peer import Peer


async def rotate_register_ticket(
    leader: Leader, _request: RotateRegisterTicketRequest, _peer: Peer
) -> RotateRegisterTicketResponse:
    """Make a new ticket, whether there was one or not, and return it."""

    async def attempt() -> bytes:
        found = (await leader.store.read(Get(keys.REGISTER_TICKET))).one(0)
        ticket = RegisterTicket.generate(leader.own.entropy).to_wire()
        change = Change(
            compares=(is_unchanged(keys.REGISTER_TICKET, found.mod_revision if found else 0),),
            operations=(Put(keys.REGISTER_TICKET, ticket),),
            sentence="replaced the register ticket",
        )
        await leader.store.write(change)
        return ticket

    ticket = await retry_conflicts(attempt)
    leader.log.info("Replaced the register ticket: the old one admits nobody any more")
    return RotateRegisterTicketResponse(ticket=ticket)
