# SPDX-License-Identifier: Apache-2.0
"""Writes the two rows of a call, and the signature that must not count twice, in few commits."""

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from metropolis.base.errors import MetropolisError, chain
from metropolis.metal.access.caller import Caller
from metropolis.metal.access.hmac import Proof
from metropolis.metal.access.salts import remember
from metropolis.metal.audit.redaction import redacted
from metropolis.metal.audit.trace import Trace, write
from metropolis.metal.ids import new_uuid7
from metropolis.metal.site import Site
from metropolis.metal.store import Transaction

LOG: Final = logging.getLogger("metropolis.metal.audit")
_RANDOM_BYTES: Final = 10
_TEXT_MAX: Final = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """A call, as the audit tells of it."""

    request_id: str
    caller: Caller
    detail: str
    path: str
    type: str = "http"
    remote_addr: str = ""
    forwarded_for: str = ""


class Journal:
    """The audit of one replica."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def begin(
        self, deed: Deed, *, body: bytes, project: str, proof: Proof | None, audited: bool
    ) -> None:
        """Write what is about to be done; durable when this returns.

        Raises:
            UnauthenticatedError: the signature was used before; nothing is written.
            UnavailableError: it cannot be written, so it must not be done.
        """
        if proof is None and not audited:
            return
        trace = self._trace(deed, phase="request", project=project, body=redacted(body))

        async def change(tx: Transaction) -> None:
            if proof is not None:
                await remember(tx, proof)
            if audited:
                await write(tx, trace)

        await self._site.store.write(change, serial=False)

    async def end(
        self, deed: Deed, *, body: bytes, project: str, status: int, error: str = ""
    ) -> None:
        """Write what came of it. It is done by now: a failure to write is logged, not told."""
        trace = self._trace(
            deed,
            phase="response",
            project=project,
            body=redacted(body) if not error else "",
            status_code=status,
            error=error[:_TEXT_MAX],
        )
        await self._write_last(deed, trace)

    async def refused(self, deed: Deed, status: int, error: str) -> None:
        """Write that somebody tried what is not theirs to do: one row, nothing was begun."""
        trace = self._trace(
            deed, phase="error", project="", body="", status_code=status, error=error[:_TEXT_MAX]
        )
        await self._write_last(deed, trace)

    async def _write_last(self, deed: Deed, trace: Trace) -> None:
        try:
            await self._site.store.write(lambda tx: write(tx, trace), serial=False)
        except MetropolisError as cause:
            LOG.error(  # noqa: TRY400  # the chain of causes says what a traceback would
                "request %s: its end (%d) is not in the audit: %s",
                deed.request_id,
                trace.status_code,
                chain(cause),
            )

    @asynccontextmanager
    async def recorded(self, deed: Deed, *, body: bytes) -> AsyncGenerator[None]:
        """Write both rows around what is done inside; for calls that are not REST.

        Raises:
            UnavailableError: the first cannot be written, so it must not be done.
        """
        await self.begin(deed, body=body, project="", proof=None, audited=True)
        try:
            yield
        except MetropolisError as error:
            status = error.grpc_status
            await self.end(deed, body=b"", project="", status=status, error=chain(error))
            raise
        await self.end(deed, body=b"", project="", status=0)

    def new_request_id(self) -> str:
        """Name a call that came without a name."""
        random = self._site.entropy.token_bytes(_RANDOM_BYTES)
        return new_uuid7(self._site.clock.wall(), random)

    def _trace(
        self,
        deed: Deed,
        *,
        phase: str,
        project: str,
        body: str,
        status_code: int = 0,
        error: str = "",
    ) -> Trace:
        now = self._site.clock.wall()
        unique = new_uuid7(now, self._site.entropy.token_bytes(_RANDOM_BYTES))
        return Trace(
            timestamp=now,
            # Of rows of the same microsecond the request comes first.
            id=f"{int(phase == 'response')}-{unique}",
            rqid=deed.request_id,
            type=deed.type,
            email=deed.caller.email,
            tenant=deed.caller.tenant,
            project=project,
            detail=deed.detail,
            phase=phase,
            path=deed.path[:_TEXT_MAX],
            forwarded_for=deed.forwarded_for[:_TEXT_MAX],
            remote_addr=deed.remote_addr,
            status_code=status_code,
            body=body,
            error=error,
        )
