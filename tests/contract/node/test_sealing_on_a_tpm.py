# SPDX-License-Identifier: Apache-2.0
"""What a real TPM gives out and what it does not, and what people are told then."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from kits.firmware_log import firmware_log, variable_event
from kits.swtpm import BuilderKeys, SwTpm, clear, digest, order, swtpm
from metropolis.api.enrolment_pb2 import SealedKey
from metropolis.base.errors import DataLossError, FailedPreconditionError, MetropolisError
from metropolis.formats.pcr import KERNEL_PCR, SECURE_BOOT_PCR, extend
from metropolis.host import Tpm
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.host.linux.tpm import EmulatedTpm
from metropolis.node.sealing.builder import Builder
from metropolis.node.sealing.tpm import TpmKeeper
from metropolis.protocols.tpm2 import commands
from metropolis.protocols.tpm2.session import NONCE_BYTES

KEY = bytes(range(100, 132))
OURS, THEIRS = BuilderKeys(), BuilderKeys()
IMAGE = OURS.image("image 1")
SECRET_AT = 10 + 4 + 2  # after the header and two sizes
AGAIN = "`metroctl node delete`, wipe the machine, and install it again."


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[SwTpm]:
    with swtpm(tmp_path / "tpm") as made:
        yield made


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await scenario()

    asyncio.run(bounded())


async def started(
    machine: SwTpm, *, secure_boot: str = "on", image: str = "image 1", builder: Builder = IMAGE
) -> tuple[TpmKeeper, EmulatedTpm]:
    tpm = await machine.boot(secure_boot=secure_boot, image=image)
    return TpmKeeper(tpm, LinuxEntropy(), builder), tpm


async def refused(keeper: TpmKeeper, sealed: SealedKey) -> MetropolisError:
    with pytest.raises(MetropolisError) as caught:
        await keeper.unseal(sealed)
    return caught.value


def test_the_same_machine_in_the_same_state_opens_what_it_sealed(machine: SwTpm) -> None:
    async def scenario() -> None:
        keeper, _ = await started(machine)
        sealed = await keeper.seal(KEY)
        assert await keeper.unseal(sealed) == KEY
        keeper, _ = await started(machine)
        assert await keeper.unseal(sealed) == KEY

    run(scenario)


def test_a_newer_image_of_the_same_builder_opens_what_an_older_one_sealed(machine: SwTpm) -> None:
    async def scenario() -> None:
        keeper, _ = await started(machine)
        sealed = await keeper.seal(KEY)
        newer = OURS.image("image 2")
        keeper, _ = await started(machine, image="image 2", builder=newer)
        assert await keeper.unseal(sealed) == KEY

    run(scenario)


def test_a_change_of_secure_boot_is_named_with_both_values(machine: SwTpm) -> None:
    async def scenario() -> None:
        keeper, _ = await started(machine)
        sealed = await keeper.seal(KEY)
        keeper, _ = await started(machine, secure_boot="off")
        error = await refused(keeper, sealed)
        now, then = (extend(bytes(32), digest(name)).hex()[:16] for name in ("off", "on"))
        assert str(error) == (
            f"PCR 7 (Secure Boot and its keys) is {now}, and was {then} when this node sealed "
            "its keys"
        )
        assert error.remedy == (
            "Set Secure Boot and its keys back in the machine's firmware, and start it again; if "
            f"that is not possible, delete the node with {AGAIN}"
        )
        keeper, _ = await started(machine)
        assert await keeper.unseal(sealed) == KEY

    run(scenario)


def test_what_changed_in_secure_boot_is_named_where_the_firmware_s_log_tells(
    machine: SwTpm,
) -> None:
    def keeper(tpm: Tpm, *, logged: str) -> TpmKeeper:
        log = firmware_log([variable_event("db", digest(logged))])
        return TpmKeeper(tpm, LinuxEntropy(), IMAGE, read_event_log=lambda: log)

    async def scenario() -> None:
        tpm = await machine.boot(secure_boot="on", image="image 1")
        sealed = await keeper(tpm, logged="on").seal(KEY)
        tpm = await machine.boot(secure_boot="other keys", image="image 1")
        told = await refused(keeper(tpm, logged="other keys"), sealed)
        assert str(told).endswith("when this node sealed its keys: the variable db was changed")
        lying = await refused(keeper(tpm, logged="on"), sealed)
        assert str(lying).endswith("when this node sealed its keys")

    run(scenario)


def test_a_change_of_secure_boot_that_was_foreseen_opens_by_its_own_key(machine: SwTpm) -> None:
    async def scenario() -> None:
        keeper, _ = await started(machine)
        foreseen = extend(bytes(32), digest("other keys"))
        sealed = await keeper.seal(KEY, secure_boot_register=foreseen)
        assert "PCR 7" in str(await refused(keeper, sealed))
        keeper, _ = await started(machine, secure_boot="other keys")
        assert await keeper.unseal(sealed) == KEY

    run(scenario)


def test_an_image_that_nobody_signed_opens_nothing(machine: SwTpm) -> None:
    async def scenario() -> None:
        keeper, _ = await started(machine)
        sealed = await keeper.seal(KEY)
        keeper, _ = await started(machine, image="patched")
        measured = extend(bytes(32), digest("patched")).hex()[:16]
        assert str(await refused(keeper, sealed)) == (
            f"PCR 11 (the image that was booted) is {measured}, which the image's builder did not "
            "sign"
        )

    run(scenario)


def test_a_signature_for_another_image_is_not_taken(machine: SwTpm) -> None:
    """Of somebody who boots a patched image and says it were the one that is signed."""

    async def scenario() -> None:
        keeper, _ = await started(machine)
        sealed = await keeper.seal(KEY)
        patched, signed = OURS.image("patched"), OURS.image("image 1")
        (policy,), (signature,) = patched.signatures, signed.signatures.values()
        forged = Builder(
            modulus=signed.modulus, digest=signed.digest, signatures={policy: signature}
        )
        keeper, _ = await started(machine, image="patched", builder=forged)
        with pytest.raises(MetropolisError, match="signature"):
            await keeper.unseal(sealed)

    run(scenario)


def test_an_image_of_another_builder_opens_nothing(machine: SwTpm) -> None:
    async def scenario() -> None:
        keeper, _ = await started(machine)
        sealed = await keeper.seal(KEY)
        foreign = THEIRS.image("image 1")
        keeper, _ = await started(machine, builder=foreign)
        error = await refused(keeper, sealed)
        assert str(error) == (
            "PCR 11 (the image that was booted) is signed by another image builder, "
            f"{foreign.digest.hex()[:16]}, and this node sealed its keys to images of "
            f"{IMAGE.digest.hex()[:16]}"
        )

    run(scenario)


def test_another_tpm_opens_nothing(machine: SwTpm, tmp_path: Path) -> None:
    async def scenario() -> None:
        keeper, _ = await started(machine)
        sealed = await keeper.seal(KEY)
        with swtpm(tmp_path / "other") as other:
            keeper, _ = await started(other)
            error = await refused(keeper, sealed)
        assert isinstance(error, FailedPreconditionError)
        assert str(error) == (
            "this node's keys are sealed by another TPM: its disk was moved or copied from "
            "another machine, or the TPM was replaced"
        )

    run(scenario)


def test_a_cleared_tpm_has_lost_the_keys(machine: SwTpm) -> None:
    async def scenario() -> None:
        keeper, tpm = await started(machine)
        sealed = await keeper.seal(KEY)
        await clear(tpm)
        keeper, _ = await started(machine)
        error = await refused(keeper, sealed)
        assert isinstance(error, DataLossError)
        assert str(error) == ("the TPM was cleared after this node sealed its keys: they are lost")
        assert await keeper.unseal(await keeper.seal(KEY)) == KEY

    run(scenario)


def test_a_damaged_key_is_called_damaged(machine: SwTpm) -> None:
    async def scenario() -> None:
        keeper, _ = await started(machine)
        sealed = await keeper.seal(KEY)
        private = bytearray(sealed.private_area)
        private[-1] ^= 1
        sealed.private_area = bytes(private)
        error = await refused(keeper, sealed)
        assert isinstance(error, DataLossError)
        assert "what the TPM sealed is damaged" in str(error)

    run(scenario)


def test_once_locked_nothing_opens_until_the_next_start(machine: SwTpm) -> None:
    async def scenario() -> None:
        keeper, tpm = await started(machine)
        before = await keeper.seal(KEY)
        await keeper.lock()
        await keeper.lock()
        after = await keeper.seal(KEY)
        somebody_else = TpmKeeper(tpm, LinuxEntropy(), IMAGE)
        for sealed in (before, after):
            assert "PCR 11" in str(await refused(somebody_else, sealed))
        keeper, _ = await started(machine)
        assert await keeper.unseal(before) == await keeper.unseal(after) == KEY

    run(scenario)


def test_nothing_stays_behind_in_the_tpm_whatever_happens(machine: SwTpm) -> None:
    """It holds three keys and three sessions: what is forgotten to be flushed fills it."""

    async def scenario() -> None:
        keeper, tpm = await started(machine)
        sealed = await keeper.seal(KEY)
        await order(tpm, commands.pcr_extend(SECURE_BOOT_PCR, digest("more")))
        for _ in range(8):
            assert "PCR 7" in str(await refused(keeper, sealed))
            assert await keeper.unseal(await keeper.seal(KEY)) == KEY
        await order(tpm, commands.pcr_extend(KERNEL_PCR, digest("more")))
        for _ in range(8):
            assert "PCR 11" in str(await refused(keeper, sealed))

    run(scenario)


class Wires:
    """What somebody on the wires between processor and TPM hears, and may change."""

    def __init__(self, tpm: Tpm) -> None:
        self._tpm = tpm
        self.heard = b""
        self.change: Callable[[bytes], bytes] = bytes

    async def transact(self, command: bytes) -> bytes:
        response = await self._tpm.transact(command)
        self.heard += command + response
        return self.change(response)


def test_a_listener_on_the_wires_does_not_hear_the_key(machine: SwTpm) -> None:
    async def scenario() -> None:
        tpm = await machine.boot(secure_boot="on", image="image 1")
        wires = Wires(tpm)
        keeper = TpmKeeper(wires, LinuxEntropy(), IMAGE)
        assert await keeper.unseal(await keeper.seal(KEY)) == KEY
        assert len(wires.heard) > 1000
        assert KEY not in wires.heard
        assert KEY[:8] not in wires.heard

    run(scenario)


def test_an_answer_that_was_changed_on_its_way_is_noticed(machine: SwTpm) -> None:
    async def scenario() -> None:
        tpm = await machine.boot(secure_boot="on", image="image 1")
        wires = Wires(tpm)
        keeper = TpmKeeper(wires, LinuxEntropy(), IMAGE)
        sealed = await keeper.seal(KEY)

        def change(response: bytes) -> bytes:
            nonce, mac = 2 + NONCE_BYTES, 2 + 32
            if len(response) != SECRET_AT + len(KEY) + nonce + 1 + mac:
                return response  # not the one with the key
            changed = bytearray(response)
            changed[SECRET_AT] ^= 1
            return bytes(changed)

        wires.change = change
        with pytest.raises(DataLossError, match="does not come from the TPM"):
            await keeper.unseal(sealed)
        wires.change = bytes
        assert await keeper.unseal(sealed) == KEY

    run(scenario)
