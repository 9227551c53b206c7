# SPDX-License-Identifier: Apache-2.0
"""What a TPM will have measured, and the digests of the policies that depend on it.

A platform configuration register (PCR) only ever changes by `extend`. systemd-stub (257) extends
PCR 11 with the sections of the unified kernel image it is in: for each one there is, in the order
of `MEASURED_SECTIONS`, first with its name and a NUL byte, then with its content. Nothing else is
measured into PCR 11 before the kernel runs, so that a builder can sign the value in advance; the
signature's own section (.pcrsig) is left out.

A policy digest is what a TPM computes while commands are given to a policy session that began with
32 zero bytes (TCG TPM 2.0 library, part 3). All digests here are SHA-256.

    uki_pcr11(sections) ─▶ policy_pcr_digest({11: …}) ─▶ signed by the builder (.pcrsig)
    policy_authorize_digest(builder's key) ─▶ policy_pcr_digest({7: …}, start=…) ─▶ sealed
"""

import hashlib
import struct
from collections.abc import Mapping, Sequence
from typing import Final

from metropolis.base.errors import InvalidArgumentError

DIGEST_BYTES: Final = 32
START: Final = bytes(DIGEST_BYTES)  # of a PCR below 16, and of a policy session
KERNEL_PCR: Final = 11
SECURE_BOOT_PCR: Final = 7
PCR_COUNT: Final = 24
OR_BRANCHES_MAX: Final = 8  # TPML_DIGEST of PolicyOR

MEASURED_SECTIONS: Final = (
    ".linux",
    ".osrel",
    ".cmdline",
    ".initrd",
    ".ucode",
    ".splash",
    ".dtb",
    ".uname",
    ".sbat",
    # .pcrsig has its place here, and is not measured.
    ".pcrpkey",
    ".profile",
)
# The stub chooses among several of these by the machine it is on: nobody can foretell that.
_CHOSEN_BY_MACHINE: Final = frozenset({".dtbauto", ".hwids", ".efifw"})

_SHA256: Final = 0x000B
_RSA: Final = 0x0001
_NULL: Final = 0x0010
_POLICY_PCR: Final = 0x17F
_POLICY_AUTHORIZE: Final = 0x16A
_POLICY_OR: Final = 0x171
_USER_WITH_AUTH: Final = 1 << 6
_DECRYPT: Final = 1 << 17
_SIGN: Final = 1 << 18
_DEFAULT_EXPONENT: Final = 65537


def extend(value: bytes, digest: bytes) -> bytes:
    """Return what a register holds after it held `value` and was extended with `digest`."""
    assert len(value) == len(digest) == DIGEST_BYTES
    return hashlib.sha256(value + digest).digest()


def extend_data(value: bytes, data: bytes) -> bytes:
    """Return what a register holds after the SHA-256 of `data` was extended into it."""
    return extend(value, hashlib.sha256(data).digest())


def uki_pcr11(sections: Mapping[str, bytes]) -> bytes:
    """Return PCR 11 as systemd-stub leaves it to the kernel.

    Args:
        sections: Of the image by name, each as long as its VirtualSize (`pe.sections`); those
            that are not measured may be among them.

    Raises:
        InvalidArgumentError: one is measured on some machines only.
    """
    if unforeseeable := sorted(_CHOSEN_BY_MACHINE & sections.keys()):
        raise InvalidArgumentError(
            f"the measurement of an image with section {unforeseeable[0]} cannot be foretold",
            remedy="Build the image without it.",
        )
    value = START
    for name in MEASURED_SECTIONS:
        if name in sections:
            value = extend_data(value, name.encode() + b"\0")
            value = extend_data(value, sections[name])
    return value


def pcr_selection(pcrs: Sequence[int]) -> bytes:
    """Return a TPML_PCR_SELECTION that names registers of the SHA-256 bank."""
    mask = 0
    for pcr in pcrs:
        assert 0 <= pcr < PCR_COUNT
        mask |= 1 << pcr
    return struct.pack(">IHB", 1, _SHA256, 3) + mask.to_bytes(3, "little")


def policy_pcr_digest(values: Mapping[int, bytes], *, start: bytes = START) -> bytes:
    """Return the policy digest after TPM2_PolicyPCR of registers that hold `values`."""
    assert values
    composite = hashlib.sha256(b"".join(values[pcr] for pcr in sorted(values))).digest()
    command = struct.pack(">I", _POLICY_PCR) + pcr_selection(sorted(values))
    return hashlib.sha256(start + command + composite).digest()


def policy_authorize_digest(key_name: bytes, *, reference: bytes = b"") -> bytes:
    """Return the policy digest after TPM2_PolicyAuthorize: what was before it is forgotten.

    Args:
        key_name: `object_name` of the public key whose owner may approve policies.
        reference: policyRef; systemd's format has none.
    """
    command = struct.pack(">I", _POLICY_AUTHORIZE)
    approved = hashlib.sha256(START + command + key_name).digest()
    return hashlib.sha256(approved + reference).digest()


def policy_or_digest(branches: Sequence[bytes]) -> bytes:
    """Return the policy digest after TPM2_PolicyOR of two to eight policy digests."""
    assert 1 < len(branches) <= OR_BRANCHES_MAX
    command = struct.pack(">I", _POLICY_OR)
    return hashlib.sha256(START + command + b"".join(branches)).digest()


def rsa_public_area(modulus: int, exponent: int = _DEFAULT_EXPONENT) -> bytes:
    """Return the TPMT_PUBLIC of an RSA key for TPM2_LoadExternal.

    Its attributes are those that systemd gives, and part of the key's name: decrypt, sign,
    userWithAuth; no scheme, no policy.
    """
    bits = modulus.bit_length()
    assert bits % 1024 == 0
    written_exponent = 0 if exponent == _DEFAULT_EXPONENT else exponent
    head = struct.pack(">HHIH", _RSA, _SHA256, _USER_WITH_AUTH | _DECRYPT | _SIGN, 0)
    parameters = struct.pack(">HHHI", _NULL, _NULL, bits, written_exponent)
    return head + parameters + struct.pack(">H", bits // 8) + modulus.to_bytes(bits // 8, "big")


def object_name(public_area: bytes) -> bytes:
    """Return the name of an object: the algorithm's number and the SHA-256 of its TPMT_PUBLIC."""
    return struct.pack(">H", _SHA256) + hashlib.sha256(public_area).digest()
