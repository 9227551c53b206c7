# SPDX-License-Identifier: Apache-2.0
"""What the firmware measured, event by event: the TCG event log ("crypto agile" form).

A PCR is one hash; the log says of what. It is not trusted: `replay` tells whether it leads to the
value that the TPM has. With the log of an earlier start, `differences` names what changed, which is
what people need when a TPM no longer releases a key.

    decode(log) ─▶ events ─▶ replay(events, 7) == PCR 7 ?
                        └──▶ of_register(events, 7) ─▶ differences(before, now) ─▶ "db was changed"

Layout: TCG PC Client Platform Firmware Profile 1.05, chapter 10. Linux shows the log as
/sys/kernel/security/tpm0/binary_bios_measurements.
"""

import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final
from uuid import UUID

from cryptography import x509

from metropolis.base.errors import DataLossError
from metropolis.formats import pcr
from metropolis.formats.efi import variables

SHA256: Final = 0x000B
LOG_BYTES_MAX: Final = 16 << 20
EVENT_BYTES_MAX: Final = 4 << 20

_HEAD: Final = struct.Struct("<II")
_SPECIFICATION: Final = b"Spec ID Event03\0"
_LOCALITY: Final = b"StartupLocality\0"
_SHA1_BYTES: Final = 20
_ALGORITHMS_MAX: Final = 16
_VARIABLE: Final = struct.Struct("<16sQQ")
_OWNER_BYTES: Final = 16


class EventKind(IntEnum):
    """The kinds that matter here."""

    NO_ACTION = 0x3
    SEPARATOR = 0x4
    ACTION = 0x5
    IPL = 0xD
    VARIABLE_DRIVER_CONFIG = 0x80000001
    VARIABLE_BOOT = 0x80000002
    BOOT_SERVICES_APPLICATION = 0x80000003
    EFI_ACTION = 0x80000007
    VARIABLE_BOOT2 = 0x8000000C
    VARIABLE_AUTHORITY = 0x800000E0


_VARIABLE_KINDS: Final = {
    EventKind.VARIABLE_DRIVER_CONFIG,
    EventKind.VARIABLE_BOOT,
    EventKind.VARIABLE_BOOT2,
    EventKind.VARIABLE_AUTHORITY,
}
_TEXT_KINDS: Final = {EventKind.ACTION, EventKind.EFI_ACTION}


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredEvent:
    """One extension of a register.

    Attributes:
        kind: `EventKind`, or another number of the specification.
        digests: What was extended, by the algorithm's TPM number.
        data: What was measured, or says what was.
    """

    register: int
    kind: int
    digests: Mapping[int, bytes]
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedMeasurement:
    """An event as people compare it.

    Attributes:
        name: What was measured, the same in every start: "the variable db".
        digest: SHA-256.
    """

    name: str
    digest: bytes


def decode(log: bytes) -> Sequence[MeasuredEvent]:
    """Read a log.

    Raises:
        DataLossError: it is cut, damaged, or of the old form with SHA-1 only.
    """
    if len(log) > LOG_BYTES_MAX:
        raise _damaged("it is larger than 16 MiB")
    try:
        offset, sizes = _header(log)
        return tuple(_events(log, offset, sizes))
    except struct.error as cause:
        raise _damaged("it is cut") from cause


def of_register(events: Sequence[MeasuredEvent], register: int) -> Sequence[NamedMeasurement]:
    """Return the measurements of one register in their order, each with a name."""
    return tuple(
        NamedMeasurement(name=describe(event), digest=event.digests.get(SHA256, b""))
        for event in events
        if event.register == register and event.kind != EventKind.NO_ACTION
    )


def replay(events: Sequence[MeasuredEvent], register: int) -> bytes:
    """Return what a register holds after these events (SHA-256 bank)."""
    value = pcr.START
    for event in events:
        if event.register != register:
            continue
        if event.kind == EventKind.NO_ACTION:
            if register == 0 and event.data[:16] == _LOCALITY and len(event.data) > len(_LOCALITY):
                value = bytes(pcr.DIGEST_BYTES - 1) + event.data[16:17]
            continue
        value = pcr.extend(value, event.digests.get(SHA256, bytes(pcr.DIGEST_BYTES)))
    return value


def describe(event: MeasuredEvent) -> str:
    """Say what was measured."""
    if event.kind in _VARIABLE_KINDS:
        return _describe_variable(event)
    if event.kind == EventKind.SEPARATOR:
        return "the end of the firmware's own part"
    if event.kind in _TEXT_KINDS:
        return f"the firmware's message {_text(event.data)!r}"
    if event.kind == EventKind.IPL:
        return f"the boot program's {_ipl_text(event.data)!r}"
    if event.kind == EventKind.BOOT_SERVICES_APPLICATION:
        return "a program that the firmware started"
    return f"an event of kind {event.kind:#x}"


def differences(
    before: Sequence[NamedMeasurement], now: Sequence[NamedMeasurement]
) -> Sequence[str]:
    """Say in sentences what changed between two starts, in the order of the later one.

    Returns:
        Nothing if nothing did.
    """
    old, new = _numbered(before), _numbered(now)
    sentences: list[str] = []
    for name, digest in new.items():
        if name not in old:
            sentences.append(f"{name} is new")
        elif old[name] != digest:
            sentences.append(f"{name} was changed")
    sentences += [f"{name} is gone" for name in old if name not in new]
    if not sentences and list(old) != list(new):
        sentences.append("the same things were measured in another order")
    return sentences


def encode_measurements(measurements: Sequence[NamedMeasurement]) -> str:
    """Return lines of text, to keep with what was sealed: digest, space, name."""
    return "".join(
        f"{each.digest.hex()} {each.name.replace(chr(10), ' ')}\n" for each in measurements
    )


def decode_measurements(text: str) -> Sequence[NamedMeasurement]:
    """Read those lines.

    Raises:
        DataLossError: they are damaged.
    """
    found: list[NamedMeasurement] = []
    for line in text.split("\n")[:-1] if text else ():
        digest, _, name = line.partition(" ")
        try:
            found.append(NamedMeasurement(name=name, digest=bytes.fromhex(digest)))
        except ValueError as cause:
            raise DataLossError("what a node noted of its firmware is damaged") from cause
    return tuple(found)


def _header(log: bytes) -> tuple[int, Mapping[int, int]]:
    """Read the first event, which has the old form and says which algorithms follow."""
    register, kind = _HEAD.unpack_from(log)
    (size,) = struct.unpack_from("<I", log, _HEAD.size + _SHA1_BYTES)
    start = _HEAD.size + _SHA1_BYTES + 4
    data = log[start : start + size]
    if register or kind != EventKind.NO_ACTION or data[:16] != _SPECIFICATION:
        raise _damaged("it does not begin as one")
    (count,) = struct.unpack_from("<I", data, 24)
    if not 0 < count <= _ALGORITHMS_MAX:
        raise _damaged("it has an impossible number of algorithms")
    sizes: dict[int, int] = {}
    for number in range(count):
        algorithm, digest_bytes = struct.unpack_from("<HH", data, 28 + 4 * number)
        sizes[algorithm] = digest_bytes
    return start + size, sizes


def _events(log: bytes, offset: int, sizes: Mapping[int, int]) -> Iterator[MeasuredEvent]:
    while offset < len(log):
        register, kind = _HEAD.unpack_from(log, offset)
        (count,) = struct.unpack_from("<I", log, offset + _HEAD.size)
        offset += _HEAD.size + 4
        if register >= pcr.PCR_COUNT or count > len(sizes):
            raise _damaged(f"an event before byte {offset} is impossible")
        digests: dict[int, bytes] = {}
        for _ in range(count):
            (algorithm,) = struct.unpack_from("<H", log, offset)
            if algorithm not in sizes:
                raise _damaged(f"an unknown algorithm at byte {offset}")
            digests[algorithm] = log[offset + 2 : offset + 2 + sizes[algorithm]]
            offset += 2 + sizes[algorithm]
        (size,) = struct.unpack_from("<I", log, offset)
        offset += 4
        if size > EVENT_BYTES_MAX or offset + size > len(log):
            raise _damaged(f"an event at byte {offset} is cut")
        data = log[offset : offset + size]
        offset += size
        yield MeasuredEvent(register=register, kind=kind, digests=digests, data=data)


def _describe_variable(event: MeasuredEvent) -> str:
    if len(event.data) < _VARIABLE.size:
        return "a variable of the firmware"
    vendor, name_units, value_bytes = _VARIABLE.unpack_from(event.data)
    end = _VARIABLE.size + 2 * name_units
    name = event.data[_VARIABLE.size : end].decode("utf-16-le", "replace")
    value = event.data[end : end + value_bytes]
    if event.kind == EventKind.VARIABLE_AUTHORITY:
        return f"the signer of what was started ({_certificate(value) or name})"
    known = UUID(bytes_le=vendor) in {variables.GLOBAL, variables.IMAGE_SECURITY}
    return f"the variable {name}" if known else f"the variable {name} of {UUID(bytes_le=vendor)}"


def _certificate(value: bytes) -> str:
    """Name the certificate of an EFI_SIGNATURE_DATA."""
    try:
        certificate = x509.load_der_x509_certificate(value[_OWNER_BYTES:])
        return certificate.subject.rfc4514_string()
    except ValueError:
        return ""


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode("ascii", "replace")


def _ipl_text(data: bytes) -> str:
    """The stub's events carry a name as UTF-16 text, older ones as ASCII."""
    if len(data) % 2 == 0 and b"\0" in data[:-1]:
        return data.decode("utf-16-le", "replace").rstrip("\0")
    return _text(data)


def _numbered(measurements: Sequence[NamedMeasurement]) -> Mapping[str, bytes]:
    """By name; the second of a name is "… (2)"."""
    seen: Counter[str] = Counter()
    found: dict[str, bytes] = {}
    for each in measurements:
        seen[each.name] += 1
        count = seen[each.name]
        found[each.name if count == 1 else f"{each.name} ({count})"] = each.digest
    return found


def _damaged(reason: str) -> DataLossError:
    return DataLossError(
        f"the firmware's log of measurements cannot be read: {reason}",
        remedy="Start the machine again; if it stays so, update its firmware.",
    )
