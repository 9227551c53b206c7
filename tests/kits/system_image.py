# SPDX-License-Identifier: Apache-2.0
"""A built image as small as can be: its parts belong together, only nothing would boot."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

from kits.portable_executable import stub
from kits.signer import signer
from metropolis.formats import authenticode, pe, verity
from metropolis.formats.efi import signature_database, variables
from metropolis.formats.efi.authentication import authenticate

WHEN = datetime(2020, 1, 1, tzinfo=UTC)
SYSTEM_BLOCKS = 700  # a few chunks of 1 MiB


def small_image(directory: Path) -> Path:
    """Write an image directory as `metropolis image build` does; return it."""
    (directory / "enrolment").mkdir(parents=True)
    data = b"".join(number.to_bytes(4, "big") * 1024 for number in range(SYSTEM_BLOCKS))
    salt = bytes(32)
    tree = verity.hash_tree([data], salt)
    (directory / "system.img").write_bytes(data + tree.tree)
    command_line = f"metropolis.root={tree.root_hash.hex()} metropolis.blocks={SYSTEM_BLOCKS}"
    sections = [(".cmdline", command_line.encode()), (".linux", b"kernel" * 200_000)]
    kernel = authenticode.attach(
        pe.add_sections(stub(), sections),
        certificate_der=signer("db").certificate_der,
        sign=signer("db").sign,
        signing_time=WHEN,
    )
    (directory / "kernel.efi").write_bytes(kernel)
    description = {
        "format": 1,
        "product_info": {"name": "Metropolis Node", "version": "1.2.3", "build_time": 1577836800},
        "root_hash": tree.root_hash.hex(),
        "data_blocks": SYSTEM_BLOCKS,
        "files": {
            name: {
                "sha256": hashlib.sha256((directory / name).read_bytes()).hexdigest(),
                "size_bytes": (directory / name).stat().st_size,
            }
            for name in ("system.img", "kernel.efi")
        },
    }
    (directory / "image.json").write_text(json.dumps(description))
    (directory / "pcr-public.pem").write_bytes(signer("pcr").certificate_pem)
    names = {"PK": "PK", "KEK": "PK", "db": "KEK"}
    for name, by in names.items():
        vendor = variables.IMAGE_SECURITY if name == "db" else variables.GLOBAL
        value = signature_database.EfiSignature(
            kind=signature_database.X509, owner=vendor, data=signer(name).certificate_der
        )
        auth = authenticate(
            variables.VariableName(name=name, vendor=vendor),
            signature_database.encode([value]),
            time=WHEN,
            certificate_der=signer(by).certificate_der,
            sign=signer(by).sign,
        )
        (directory / f"enrolment/{name}.auth").write_bytes(auth)
        (directory / f"enrolment/{name}.crt").write_bytes(signer(name).certificate_pem)
    return directory
