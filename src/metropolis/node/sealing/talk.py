# SPDX-License-Identifier: Apache-2.0
"""One conversation with a TPM: commands in turn, and nothing of ours left behind in it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, final

from metropolis.formats.pcr import object_name
from metropolis.host import Entropy, Tpm
from metropolis.protocols.tpm2 import codes, commands, public
from metropolis.protocols.tpm2.commands import Command, Response
from metropolis.protocols.tpm2.refusal import PASSING, TpmRefusalError
from metropolis.protocols.tpm2.session import (
    EPHEMERAL_SECRET_BYTES,
    NONCE_BYTES,
    Authorization,
    Password,
    Salt,
    Session,
)

RETRY_S: Final = 0.1
TRIES_MAX: Final = 50  # a TPM that tests itself, or writes to its slow memory, takes seconds


@dataclass(frozen=True, slots=True)
class LoadedKey:
    """A key inside the TPM."""

    handle: int
    public: bytes

    @property
    def name(self) -> bytes:
        """As authorizations call it."""
        return object_name(self.public)


@final
class Talk:
    """Speaks to a TPM. What it loads, it flushes."""

    def __init__(self, tpm: Tpm, entropy: Entropy) -> None:
        self._tpm = tpm
        self._entropy = entropy

    async def ask(self, command: Command, authorization: Authorization | None = None) -> Response:
        """Give a command, again for as long as the TPM is busy.

        Raises:
            TpmRefusalError: the TPM does not do it.
            UnavailableError: it does not answer.
        """
        tries = 0
        while True:
            tries += 1
            if isinstance(authorization, Session):
                authorization.renew(self._entropy.token_bytes(NONCE_BYTES))
            answer = await self._tpm.transact(commands.request(command, authorization))
            try:
                return commands.open_response(answer, command, authorization)
            except TpmRefusalError as refused:
                if refused.kind not in PASSING or tries == TRIES_MAX:
                    raise
            await asyncio.sleep(RETRY_S)

    async def value(self, register: int) -> bytes:
        """Read a register of the SHA-256 bank."""
        return commands.pcr_value(await self.ask(commands.pcr_read(register)))

    @asynccontextmanager
    async def primary(self, hierarchy: int, template: bytes) -> AsyncGenerator[LoadedKey, None]:
        """Have the TPM make the key that it makes of this template every time."""
        answer = await self.ask(commands.create_primary(hierarchy, template), Password())
        async with self._forgetting(answer.handle):
            yield LoadedKey(answer.handle, commands.primary_public(answer))

    @asynccontextmanager
    async def load(
        self, parent: LoadedKey, private: bytes, area: bytes
    ) -> AsyncGenerator[LoadedKey, None]:
        """Give the TPM back what it made under this parent."""
        command = commands.load(parent.handle, parent.name, private, area)
        answer = await self.ask(command, Password())
        async with self._forgetting(answer.handle):
            yield LoadedKey(answer.handle, area)

    @asynccontextmanager
    async def load_external(self, area: bytes) -> AsyncGenerator[LoadedKey, None]:
        """Have the TPM know a public key."""
        answer = await self.ask(commands.load_external(area))
        async with self._forgetting(answer.handle):
            yield LoadedKey(answer.handle, area)

    @asynccontextmanager
    async def session(
        self, kind: int, root: LoadedKey, attributes: int
    ) -> AsyncGenerator[Session, None]:
        """Begin a session that only the owner of the root key understands."""
        secret = self._entropy.token_bytes(EPHEMERAL_SECRET_BYTES)
        salt = Salt.to(public.point_of(root.public), secret)
        nonce = self._entropy.token_bytes(NONCE_BYTES)
        command = commands.start_session(kind, root.handle, salt.encrypted, nonce)
        answer = await self.ask(command)
        async with self._forgetting(answer.handle):
            yield Session(
                answer.handle,
                salt=salt,
                nonce_caller=nonce,
                nonce_tpm=commands.session_nonce(answer),
                attributes=attributes,
            )

    @asynccontextmanager
    async def _forgetting(self, handle: int) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.ask(commands.flush(handle))


STORAGE: Final = (codes.RH_OWNER, public.STORAGE_ROOT_KEY)
ENDORSEMENT: Final = (codes.RH_ENDORSEMENT, public.ENDORSEMENT_KEY)
