# SPDX-License-Identifier: Apache-2.0
"""The keeper of a machine: its TPM."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from typing import Final, final

from metropolis.api.enrolment_pb2 import SealedKey
from metropolis.base.errors import FailedPreconditionError, MetropolisError
from metropolis.formats import event_log, pcr
from metropolis.formats.event_log import NamedMeasurement
from metropolis.formats.pcr import KERNEL_PCR, SECURE_BOOT_PCR
from metropolis.host import Entropy, Tpm
from metropolis.node.sealing.builder import Builder
from metropolis.node.sealing.diagnosis import Situation, diagnose, locked
from metropolis.node.sealing.talk import ENDORSEMENT, STORAGE, LoadedKey, Talk
from metropolis.protocols.tpm2 import codes, commands, public
from metropolis.protocols.tpm2.refusal import Refusal, TpmRefusalError
from metropolis.protocols.tpm2.session import Password

# What PCR 11 is extended by when the node has what it needs.
_LOCK_DIGEST: Final = hashlib.sha256(b"metropolis: keys are read").digest()
_CONDITIONS: Final = frozenset(
    {Refusal.POLICY_FAIL, Refusal.PCR_CHANGED, Refusal.VALUE, Refusal.INTEGRITY}
)


@final
class TpmKeeper:
    """Has a TPM keep keys. One per start of the machine.

    Args:
        builder: Of the image that was booted.
        read_event_log: Returns the firmware's log of measurements, to say what changed.
    """

    def __init__(
        self,
        tpm: Tpm,
        entropy: Entropy,
        builder: Builder,
        *,
        read_event_log: Callable[[], bytes] = bytes,
    ) -> None:
        self._tpm = tpm
        self._talk = Talk(tpm, entropy)
        self._builder = builder
        self._read_event_log = read_event_log
        self._lock = asyncio.Lock()  # one conversation at a time: a TPM holds three keys
        self._is_locked = False

    async def seal(self, key: bytes, *, secure_boot_register: bytes | None = None) -> SealedKey:
        """Return what the TPM gives the key out for.

        Args:
            secure_boot_register: PCR 7 to which it opens; None: what it is now.
        """
        async with self._lock:
            talk = self._talk
            register = secure_boot_register or await talk.value(SECURE_BOOT_PCR)
            template = public.sealed_object(self._policy(register))
            async with talk.primary(*STORAGE) as root:
                kind, attributes = codes.SE_HMAC, codes.SESSION_DECRYPT
                async with talk.session(kind, root, attributes) as session:
                    command = commands.create(root.handle, root.name, template, key)
                    private, area = commands.created(await talk.ask(command, session))
            return SealedKey(
                private_area=private,
                public_area=area,
                root_key_name=root.name,
                endorsement_key_name=await self._endorsement_key_name(),
                secure_boot_register=register,
                builder_key_digest=self._builder.digest,
                secure_boot_measurements=event_log.encode_measurements(
                    self._measurements(register)
                ),
            )

    async def unseal(self, sealed: SealedKey) -> bytes:
        """Return the key.

        Raises:
            FailedPreconditionError: another TPM, another builder's image, another Secure Boot.
            DataLossError: the TPM was cleared, or the key is damaged.
        """
        async with self._lock:
            async with self._talk.primary(*STORAGE) as root:
                try:
                    return await self._unseal(root, sealed)
                except TpmRefusalError as refused:
                    if refused.kind is Refusal.LOCKOUT:
                        raise _locked_out() from refused
                    if refused.kind not in _CONDITIONS:
                        raise
            # Said without the TPM's own words: they are the same for many causes.
            register = await self._talk.value(SECURE_BOOT_PCR)
            situation = Situation(
                root_key_name=root.name,
                endorsement_key_name=await self._endorsement_key_name(),
                secure_boot_register=register,
                builder_key_digest=self._builder.digest,
                secure_boot_measurements=self._measurements(register),
            )
            raise diagnose(sealed, situation)

    async def lock(self) -> None:
        """Extend PCR 11, once: nothing that was sealed opens until the machine starts again."""
        async with self._lock:
            if not self._is_locked:
                await self._talk.ask(commands.pcr_extend(KERNEL_PCR, _LOCK_DIGEST), Password())
                self._is_locked = True

    async def _unseal(self, root: LoadedKey, sealed: SealedKey) -> bytes:
        talk = self._talk
        async with talk.load(root, sealed.private_area, sealed.public_area) as item:
            kind, attributes = codes.SE_POLICY, codes.SESSION_ENCRYPT
            async with talk.session(kind, root, attributes) as session:
                await self._meet_policy(session.handle)
                answer = await talk.ask(commands.unseal(item.handle, item.name), session)
                return commands.unsealed(answer, session)

    async def _meet_policy(self, session: int) -> None:
        """Show the TPM that the image is signed, and that Secure Boot is what it is."""
        talk = self._talk
        measured = await talk.value(KERNEL_PCR)
        approved = pcr.policy_pcr_digest({KERNEL_PCR: measured})
        signature = self._builder.signatures.get(approved)
        if signature is None:
            raise locked(measured)
        await talk.ask(commands.policy_pcr(session, KERNEL_PCR))
        digest = hashlib.sha256(approved).digest()
        area = pcr.rsa_public_area(self._builder.modulus)
        async with talk.load_external(area) as key:
            check = commands.verify_signature(key.handle, digest, signature)
            verified = commands.ticket(await talk.ask(check))
            await talk.ask(
                commands.policy_authorize(
                    session, approved=approved, key_name=key.name, verified=verified
                )
            )
        await talk.ask(commands.policy_pcr(session, SECURE_BOOT_PCR))

    def _policy(self, secure_boot_register: bytes) -> bytes:
        """What `_meet_policy` comes to. The floor of images will be a third step in both."""
        builder = pcr.object_name(pcr.rsa_public_area(self._builder.modulus))
        signed = pcr.policy_authorize_digest(builder)
        return pcr.policy_pcr_digest({SECURE_BOOT_PCR: secure_boot_register}, start=signed)

    def _measurements(self, register: bytes) -> Sequence[NamedMeasurement]:
        """What was measured into PCR 7, if the firmware's log says so and leads to its value."""
        try:
            events = event_log.decode(self._read_event_log())
        except MetropolisError:
            return ()
        if event_log.replay(events, SECURE_BOOT_PCR) != register:
            return ()
        return event_log.of_register(events, SECURE_BOOT_PCR)

    async def _endorsement_key_name(self) -> bytes:
        async with self._talk.primary(*ENDORSEMENT) as key:
            return key.name


def _locked_out() -> FailedPreconditionError:
    return FailedPreconditionError(
        "the TPM is locked out after too many wrong passwords",
        remedy="Leave the machine switched on for two hours, and start it again.",
    )
