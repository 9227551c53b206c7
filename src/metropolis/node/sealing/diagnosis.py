# SPDX-License-Identifier: Apache-2.0
"""Why a TPM does not give out a key, as a sentence that names what changed. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from metropolis.api.enrolment_pb2 import SealedKey
from metropolis.base.errors import DataLossError, FailedPreconditionError, MetropolisError
from metropolis.formats.event_log import NamedMeasurement, decode_measurements, differences

_ENROL_AGAIN: Final = (
    "delete the node with `metroctl node delete`, wipe the machine, and install it again."
)
_SHOWN_HEX_DIGITS: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What a machine is now, in the words of `SealedKey`.

    Attributes:
        secure_boot_measurements: What led to the register; nothing where that is not known.
    """

    root_key_name: bytes
    endorsement_key_name: bytes
    secure_boot_register: bytes
    builder_key_digest: bytes
    secure_boot_measurements: Sequence[NamedMeasurement] = ()


def diagnose(sealed: SealedKey, now: Situation) -> MetropolisError:
    """Return the error of a key that was not given out: the first thing that changed."""
    if sealed.endorsement_key_name != now.endorsement_key_name:
        return FailedPreconditionError(
            "this node's keys are sealed by another TPM: its disk was moved or copied from "
            "another machine, or the TPM was replaced",
            remedy="Put disk and TPM back together; if one of them is gone, " + _ENROL_AGAIN,
        )
    if sealed.root_key_name != now.root_key_name:
        return DataLossError(
            "the TPM was cleared after this node sealed its keys: they are lost",
            remedy=_capital(_ENROL_AGAIN),
        )
    if sealed.builder_key_digest != now.builder_key_digest:
        return FailedPreconditionError(
            "PCR 11 (the image that was booted) is signed by another image builder, "
            f"{_short(now.builder_key_digest)}, and this node sealed its keys to images of "
            f"{_short(sealed.builder_key_digest)}",
            remedy="Start an image of the builder that the node was installed with.",
        )
    if sealed.secure_boot_register != now.secure_boot_register:
        return FailedPreconditionError(
            f"PCR 7 (Secure Boot and its keys) is {_short(now.secure_boot_register)}, and was "
            f"{_short(sealed.secure_boot_register)} when this node sealed its keys"
            + _what_changed(sealed, now),
            remedy="Set Secure Boot and its keys back in the machine's firmware, and start it "
            "again; if that is not possible, " + _ENROL_AGAIN,
        )
    return DataLossError(
        "what the TPM sealed is damaged, though neither the TPM nor Secure Boot changed",
        remedy=_capital(_ENROL_AGAIN),
    )


def locked(boot_register: bytes) -> MetropolisError:
    """Return the error of a register that the image's signature is not for."""
    return FailedPreconditionError(
        f"PCR 11 (the image that was booted) is {_short(boot_register)}, which the image's "
        "builder did not sign",
        remedy="Start the machine again; if that does not help, the kernel image on its ESP is not "
        "what was built: install it again.",
    )


def without_tpm(path: str) -> MetropolisError:
    """Return the error of a sealed file on a machine that has no TPM."""
    return FailedPreconditionError(
        f"{path} is sealed by a TPM, and this machine has none",
        remedy="Enable the TPM in the machine's firmware, or put the disk back into the machine "
        "that it comes from.",
    )


def _what_changed(sealed: SealedKey, now: Situation) -> str:
    """The end of the sentence, if the firmware's log of both starts is known."""
    try:
        before = decode_measurements(sealed.secure_boot_measurements)
    except DataLossError:
        return ""
    if not before or not now.secure_boot_measurements:
        return ""
    return ": " + ", ".join(differences(before, now.secure_boot_measurements))


def _short(digest: bytes) -> str:
    return digest.hex()[:_SHOWN_HEX_DIGITS]


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
