# SPDX-License-Identifier: Apache-2.0
"""Programs that the firmware starts: PE32+ images, of which a unified kernel image is one.

    add_sections(stub, sections) -> image      append what the stub carries: .linux, .initrd, …
    sections(image) -> {name: content}         read it back, exactly as long as VirtualSize says
    authenticode_digest(image) -> 32 bytes     what a Secure Boot signature signs

The names and offsets are those of Microsoft's "PE Format", the digest is that of "Windows
Authenticode Portable Executable Signature Format". A signature, being a table at the end of the
file, is put there and taken away by `authenticode`.
"""

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from metropolis.base.errors import InvalidArgumentError

IMAGE_BYTES_MAX: Final = 1 << 30  # addresses in the file have 32 bits; nobody needs half of that
SECTIONS_MAX: Final = 96  # the loader's own limit
NAME_BYTES: Final = 8

_PE32_PLUS: Final = 0x20B
_COFF: Final = struct.Struct("<HHIIIHH")
_SECTION: Final = struct.Struct("<8sIIIIIIHHI")
_INITIALIZED_DATA_READABLE: Final = 0x40000040
_SECURITY_DIRECTORY: Final = 4  # its place in the table of directories
# Offsets in the optional header.
_INITIALIZED_DATA: Final = 8
_ALIGNMENTS: Final = 32
_IMAGE_BYTES: Final = 56
_CHECKSUM: Final = 64
_DIRECTORY_COUNT: Final = 108
_DIRECTORIES: Final = 112


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One line of the table of sections. Sizes and addresses are in bytes.

    Attributes:
        memory_bytes: VirtualSize: how much of it the loader's client sees, padded with zeros.
        address: VirtualAddress: from the image's base in memory.
        file_bytes: SizeOfRawData: a multiple of the file's alignment.
        file_offset: PointerToRawData.
        flags: Characteristics.
    """

    name: str
    memory_bytes: int
    address: int
    file_bytes: int
    file_offset: int
    flags: int

    def encode(self) -> bytes:
        """Return its 40 bytes."""
        return _SECTION.pack(
            self.name.encode("ascii"),
            self.memory_bytes,
            self.address,
            self.file_bytes,
            self.file_offset,
            0,
            0,
            0,
            0,
            self.flags,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Headers:
    """What the beginning of an image says. Offsets are from the file's first byte, in bytes.

    Attributes:
        coff: Where the COFF header begins.
        optional: Where the optional header begins.
        table: Where the table of sections begins.
        headers_bytes: SizeOfHeaders.
        certificates: Offset and size of the table of certificates; (0, 0) without one.
    """

    coff: int
    optional: int
    table: int
    section_alignment_bytes: int
    file_alignment_bytes: int
    headers_bytes: int
    certificates: tuple[int, int]
    sections: tuple[Section, ...]

    @property
    def checksum_offset(self) -> int:
        """Where the checksum stands, which no signature covers."""
        return self.optional + _CHECKSUM

    @property
    def certificates_offset(self) -> int:
        """Where the place of the certificates stands, which no signature covers."""
        return self.optional + _DIRECTORIES + 8 * _SECURITY_DIRECTORY


def headers(image: bytes) -> Headers:
    """Read the beginning of an image.

    Raises:
        InvalidArgumentError: this is no PE32+ image, or it refers to what it does not hold.
    """
    if len(image) > IMAGE_BYTES_MAX:
        raise refused("it is larger than 1 GiB")
    try:
        return _headers(image)
    except struct.error as cause:
        raise refused("its headers are cut") from cause


def sections(image: bytes) -> Mapping[str, bytes]:
    """Return every section's content by name, as a loaded image shows it.

    Raises:
        InvalidArgumentError: this is no PE32+ image, or two sections have one name.
    """
    found: dict[str, bytes] = {}
    for section in headers(image).sections:
        if section.name in found:
            raise refused(f"it has two sections {section.name!r}")
        if section.memory_bytes > IMAGE_BYTES_MAX:
            raise refused(f"section {section.name!r} is larger than 1 GiB")
        kept = min(section.memory_bytes, section.file_bytes)
        content = image[section.file_offset : section.file_offset + kept]
        found[section.name] = content.ljust(section.memory_bytes, b"\0")
    return MappingProxyType(found)


def add_sections(stub: bytes, sections: Sequence[tuple[str, bytes]]) -> bytes:
    """Append sections to an unsigned image, in the order given.

    Each begins on the image's section alignment, after the last one; its VirtualSize is exactly
    its content's length, because that is what the stub measures and hands to the kernel.

    Raises:
        InvalidArgumentError: the stub is no PE32+ image, is signed, has no room for the lines of
            the table, or has a section of such a name.
    """
    head = headers(stub)
    if head.certificates != (0, 0):
        raise refused("it is signed, and adding to it would break the signature")
    if not sections:
        return stub
    taken = {section.name for section in head.sections}
    room = (head.headers_bytes - head.table) // _SECTION.size
    if len(head.sections) + len(sections) > min(room, SECTIONS_MAX):
        raise refused(f"it has room for {room} sections and would need more")
    image = bytearray(stub)
    image += bytes(-len(image) % head.file_alignment_bytes)
    address = max(section.address + section.memory_bytes for section in head.sections)
    lines: list[Section] = []
    for name, content in sections:
        if name in taken or not 0 < len(name.encode("ascii", "replace")) <= NAME_BYTES:
            raise refused(f"a section cannot have the name {name!r}, or has it already")
        taken.add(name)
        address = _aligned(address, head.section_alignment_bytes)
        padding = -len(content) % head.file_alignment_bytes
        line = Section(
            name=name,
            memory_bytes=len(content),
            address=address,
            file_bytes=len(content) + padding,
            file_offset=len(image),
            flags=_INITIALIZED_DATA_READABLE,
        )
        lines.append(line)
        image += content
        image += bytes(padding)
        address += len(content)
    if len(image) > IMAGE_BYTES_MAX or address > IMAGE_BYTES_MAX:
        raise refused("it would become larger than 1 GiB")
    _write_table(image, head, lines, address)
    return bytes(with_checksum(image, head))


def authenticode_digest(image: bytes) -> bytes:
    """Return the SHA-256 that a Secure Boot signature of this image is made over.

    A signature that is there is not part of it, nor the checksum.

    Raises:
        InvalidArgumentError: this is no PE32+ image.
    """
    head = headers(image)
    content = memoryview(image)
    end = head.certificates[0] or len(image)
    digest = hashlib.sha256(content[: head.checksum_offset])
    digest.update(content[head.checksum_offset + 4 : head.certificates_offset])
    digest.update(content[head.certificates_offset + 8 : head.headers_bytes])
    hashed = head.headers_bytes
    for section in sorted(head.sections, key=lambda section: section.file_offset):
        if section.file_bytes:
            digest.update(content[section.file_offset : section.file_offset + section.file_bytes])
            hashed += section.file_bytes
    digest.update(content[hashed:end])
    digest.update(bytes(-end % 8))  # a table of certificates begins on a multiple of 8
    return digest.digest()


def with_checksum(image: bytearray, head: Headers) -> bytearray:
    """Write the image's checksum into it and return it.

    It is the sum of all 16-bit words with the carry added again, plus the length: the remainder
    of one long little-endian number by 65535.
    """
    image[head.checksum_offset : head.checksum_offset + 4] = bytes(4)
    remainder = int.from_bytes(image, "little") % 0xFFFF
    checksum = (remainder or 0xFFFF) + len(image)
    struct.pack_into("<I", image, head.checksum_offset, checksum)
    return image


def _headers(image: bytes) -> Headers:
    if image[:2] != b"MZ":
        raise refused("it does not begin as one")
    (signature,) = struct.unpack_from("<I", image, 0x3C)
    if image[signature : signature + 4] != b"PE\0\0":
        raise refused("its signature is not where its beginning says")
    coff = signature + 4
    _, section_count, _, _, _, optional_bytes, _ = _COFF.unpack_from(image, coff)
    optional = coff + _COFF.size
    (magic,) = struct.unpack_from("<H", image, optional)
    if magic != _PE32_PLUS:
        raise refused("it is not for a 64-bit machine")
    section_alignment, file_alignment = struct.unpack_from("<II", image, optional + _ALIGNMENTS)
    (headers_bytes,) = struct.unpack_from("<I", image, optional + 60)
    (directories,) = struct.unpack_from("<I", image, optional + _DIRECTORY_COUNT)
    table = optional + optional_bytes
    if not 0 < section_count <= SECTIONS_MAX or directories <= _SECURITY_DIRECTORY:
        raise refused("it has no sections, too many, or no place for a signature")
    if optional_bytes < _DIRECTORIES + 8 * (_SECURITY_DIRECTORY + 1):
        raise refused("its optional header is cut")
    for alignment in (section_alignment, file_alignment):
        if not 0 < alignment <= 1 << 21 or alignment & (alignment - 1):
            raise refused("its alignment is impossible")
    if not table + section_count * _SECTION.size <= headers_bytes <= len(image):
        raise refused("its headers do not fit where they should stand")
    certificates = struct.unpack_from("<II", image, optional + _DIRECTORIES + 32)
    if certificates != (0, 0) and not headers_bytes <= certificates[0] <= sum(certificates) <= len(
        image
    ):
        raise refused("its certificates are not inside of it")
    head = Headers(
        coff=coff,
        optional=optional,
        table=table,
        section_alignment_bytes=section_alignment,
        file_alignment_bytes=file_alignment,
        headers_bytes=headers_bytes,
        certificates=certificates,
        sections=(),
    )
    lines = (_section(image, table + index * _SECTION.size) for index in range(section_count))
    return replace(head, sections=tuple(lines))


def _section(image: bytes, offset: int) -> Section:
    name, memory_bytes, address, file_bytes, file_offset, _, _, _, _, flags = _SECTION.unpack_from(
        image, offset
    )
    if file_bytes and file_offset + file_bytes > len(image):
        raise refused("a section lies outside of it")
    return Section(
        name=name.rstrip(b"\0").decode("ascii", "backslashreplace"),
        memory_bytes=memory_bytes,
        address=address,
        file_bytes=file_bytes,
        file_offset=file_offset,
        flags=flags,
    )


def _write_table(image: bytearray, head: Headers, lines: Sequence[Section], end: int) -> None:
    offset = head.table + len(head.sections) * _SECTION.size
    encoded = b"".join(line.encode() for line in lines)
    if any(image[offset : offset + len(encoded)]):
        raise refused("something stands where the lines of new sections would")
    image[offset : offset + len(encoded)] = encoded
    struct.pack_into("<H", image, head.coff + 2, len(head.sections) + len(lines))
    place = head.optional + _INITIALIZED_DATA
    (initialized,) = struct.unpack_from("<I", image, place)
    struct.pack_into("<I", image, place, initialized + sum(line.file_bytes for line in lines))
    image_bytes = _aligned(end, head.section_alignment_bytes)
    struct.pack_into("<I", image, head.optional + _IMAGE_BYTES, image_bytes)


def _aligned(number: int, alignment: int) -> int:
    return number + -number % alignment


def refused(reason: str) -> InvalidArgumentError:
    """Return what an unusable image is refused with."""
    return InvalidArgumentError(
        f"this PE image cannot be used: {reason}",
        remedy="Use a PE32+ image for x86-64, such as the stub of systemd-boot-efi.",
    )
