# SPDX-License-Identifier: Apache-2.0
"""Looks at a built image: what it says of itself, and whether that is so."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from metropolis.base.errors import DataLossError, MetropolisError, NotFoundError
from metropolis.formats import authenticode, pe, verity
from metropolis.formats.pcr import uki_pcr11
from metropolis.image.build import DESCRIPTION_FILE, ENROLMENT, KERNEL_FILE
from metropolis.image.kernel_image import SystemSeal
from metropolis.image.system import SYSTEM_FILE

_PIECE_BYTES: Final = 1 << 20
_REMEDY: Final = "Build or fetch the image again."

Description = Mapping[str, object]


def read_description(place: Path) -> Description:
    """What image.json says.

    Raises:
        NotFoundError: there is no image.
        DataLossError: it cannot be read.
    """
    try:
        text = (place / DESCRIPTION_FILE).read_text(encoding="utf-8")
    except OSError as cause:
        raise NotFoundError(
            f"{place} has no image", remedy="Run `metropolis image build`."
        ) from cause
    try:
        described = json.loads(text)
    except ValueError as cause:
        raise DataLossError(f"{place / DESCRIPTION_FILE} is damaged", remedy=_REMEDY) from cause
    if not isinstance(described, dict):
        raise DataLossError(f"{place / DESCRIPTION_FILE} is damaged", remedy=_REMEDY)
    return cast("Description", described)


def problems(place: Path, description: Description) -> Iterator[str]:
    """Yield a sentence for everything that is not as image.json says."""
    checks: Mapping[str, Callable[[Path, Description], bool]] = {
        f"{SYSTEM_FILE} or {KERNEL_FILE} was changed": _has_its_digests,
        f"{SYSTEM_FILE} does not fit its root hash": _fits_root_hash,
        f"{KERNEL_FILE} trusts another system": _trusts_this_system,
        f"{KERNEL_FILE} is not signed by {ENROLMENT}/db.crt": _is_signed,
        "PCR 11 is foretold wrongly": _measures_as_foretold,
    }
    for sentence, check in checks.items():
        try:
            is_well = check(place, description)
        except (MetropolisError, OSError, KeyError, TypeError, ValueError):
            is_well = False
        if not is_well:
            yield sentence


def _has_its_digests(place: Path, description: Description) -> bool:
    files = cast("Mapping[str, Mapping[str, object]]", description["files"])
    for name in (SYSTEM_FILE, KERNEL_FILE):
        with (place / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != files[name]["sha256"]:
                return False
    return True


def _fits_root_hash(place: Path, description: Description) -> bool:
    seal = _seal(description)
    data_bytes = seal.data_blocks * verity.BLOCK_BYTES
    with (place / SYSTEM_FILE).open("rb") as file:
        file.seek(data_bytes)
        tree = file.read()
        file.seek(0)
        pieces = (
            file.read(min(_PIECE_BYTES, data_bytes - at))
            for at in range(0, data_bytes, _PIECE_BYTES)
        )
        verity.verify(
            pieces,
            tree=tree,
            root_hash=bytes.fromhex(seal.root_hash),
            salt=bytes.fromhex(seal.salt),
        )
    return True


def _trusts_this_system(place: Path, description: Description) -> bool:
    told = pe.sections((place / KERNEL_FILE).read_bytes())[".cmdline"].decode()
    return told == _seal(description).command_line


def _is_signed(place: Path, _: Description) -> bool:
    certificate = x509.load_pem_x509_certificate((place / ENROLMENT / "db.crt").read_bytes())
    kernel = (place / KERNEL_FILE).read_bytes()
    authenticode.verify(kernel, certificate.public_bytes(Encoding.DER))
    return True


def _measures_as_foretold(place: Path, description: Description) -> bool:
    sections = pe.sections((place / KERNEL_FILE).read_bytes())
    return uki_pcr11(sections).hex() == description["pcr11"]


def _seal(description: Description) -> SystemSeal:
    return SystemSeal(
        root_hash=str(description["root_hash"]),
        data_blocks=int(str(description["data_blocks"])),
        salt=str(description["salt"]),
    )
