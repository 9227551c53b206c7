# SPDX-License-Identifier: Apache-2.0
"""A small program for a firmware, as a linker would write it: what the tests add to and sign."""

import struct

FILE_ALIGNMENT = 512
SECTION_ALIGNMENT = 4096
HEADERS_BYTES = 2048


def stub(*, sections: tuple[tuple[str, bytes], ...] = ((".text", b"\xc3"),)) -> bytes:
    """A PE32+ image whose only act is to return."""
    count = len(sections)
    dos = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x80)
    coff = struct.pack("<HHIIIHH", 0x8664, count, 0, 0, 0, 240, 0x22E)
    end = SECTION_ALIGNMENT * (count + 1)
    optional = struct.pack(
        "<HBBIIIIIQIIHHHHHHIIIIHHQQQQII",
        *(0x20B, 2, 0, 512, 0, 0, SECTION_ALIGNMENT, SECTION_ALIGNMENT, 0),
        *(SECTION_ALIGNMENT, FILE_ALIGNMENT, 0, 0, 0, 0, 0, 0, 0, end, HEADERS_BYTES, 0, 10, 0),
        *(0, 0, 0, 0, 0, 16),
    ) + bytes(16 * 8)
    table = b""
    body = b""
    for index, (name, content) in enumerate(sections):
        padded = content + bytes(-len(content) % FILE_ALIGNMENT)
        table += struct.pack(
            "<8sIIIIIIHHI",
            name.encode(),
            len(content),
            SECTION_ALIGNMENT * (index + 1),
            len(padded),
            HEADERS_BYTES + len(body),
            *(0, 0, 0, 0, 0x60000020),
        )
        body += padded
    head = dos.ljust(0x80, b"\0") + b"PE\0\0" + coff + optional + table
    return head.ljust(HEADERS_BYTES, b"\0") + body
