# SPDX-License-Identifier: Apache-2.0
"""What lies on an install medium, and what its maker wants done with it.

    EFI/BOOT/BOOTX64.EFI                 the unified kernel image, the one that the node will boot
    metropolis-installer/installer.json  this file's `MediumSettings`
    metropolis-installer/nodeparams.pb   NodeParameters for the new node
    metropolis-installer/enrolment/      PK.auth, KEK.auth, db.auth for firmware in Setup Mode
    metropolis-installer/recovery.pub    optional: X25519 key that gets a key slot of its own
    metropolis-installer/restore.pb      optional: a cluster's state that is to come back

Nothing of it is signed: whoever holds the medium decides what is installed, but only an image that
the firmware lets start.
"""

import json
from dataclasses import dataclass
from typing import Any, Final, cast
from uuid import UUID

from metropolis.base.errors import InvalidArgumentError

PARTITION_NAME: Final = "MetropolisInstaller"
SYSTEM_PARTITION_NAME: Final = "MetropolisInstallerSystem"
LABEL: Final = "METRO_INST"
DIRECTORY: Final = "metropolis-installer"
KERNEL: Final = "EFI/BOOT/BOOTX64.EFI"
SETTINGS: Final = f"{DIRECTORY}/installer.json"
PARAMETERS: Final = f"{DIRECTORY}/nodeparams.pb"
RECOVERY_KEY: Final = f"{DIRECTORY}/recovery.pub"
RESTORE: Final = f"{DIRECTORY}/restore.pb"
ENROLMENT: Final = f"{DIRECTORY}/enrolment"
ENROLMENT_NAMES: Final = ("PK", "KEK", "db")  # each with `.auth`

FORMAT_VERSION: Final = 1
SETTINGS_BYTES_MAX: Final = 1 << 16
ROOT_HASH_BYTES: Final = 32
_SHA256_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class MediumSettings:
    """Contents of installer.json.

    Attributes:
        install_id: Of this medium, drawn when it was made: it finishes its own installations, and
            never repeats one that it has finished.
        product: Name and version of what it installs, for people.
        system_bytes: Size of the system image: data and hash tree.
        root_hash: Of the system image (dm-verity).
        kernel_sha256: Of the unified kernel image: a worn out medium is noticed.
        disk: Which disk: serial number, WWN or device path; empty: by the rules.
        may_replace_node: An enrolled node may be overwritten, once.
        keeps_vendor_keys: Keep the firmware maker's Secure Boot keys beside ours.
    """

    install_id: UUID
    product: str
    system_bytes: int
    root_hash: bytes
    kernel_sha256: bytes
    disk: str = ""
    may_replace_node: bool = False
    keeps_vendor_keys: bool = False

    @property
    def system_guid(self) -> UUID:
        """Return the partition GUID by which the kernel finds the system image."""
        return system_guid(self.root_hash)


def system_guid(root_hash: bytes) -> UUID:
    """Return the GUID of a partition that holds the image with this root hash."""
    assert len(root_hash) == ROOT_HASH_BYTES
    return UUID(bytes=root_hash[:16])


def encode_settings(settings: MediumSettings) -> bytes:
    """Write installer.json."""
    document = {
        "format_version": FORMAT_VERSION,
        "install_id": str(settings.install_id),
        "product": settings.product,
        "system_bytes": settings.system_bytes,
        "root_hash": settings.root_hash.hex(),
        "kernel_sha256": settings.kernel_sha256.hex(),
        "disk": settings.disk,
        "may_replace_node": settings.may_replace_node,
        "keeps_vendor_keys": settings.keeps_vendor_keys,
    }
    return json.dumps(document, indent=2).encode("utf-8") + b"\n"


def decode_settings(data: bytes) -> MediumSettings:
    """Read installer.json.

    Raises:
        InvalidArgumentError: it is damaged, or of another version.
    """
    if len(data) > SETTINGS_BYTES_MAX:
        raise _unusable(f"it has {len(data)} bytes")
    try:
        document: object = json.loads(data)
    except (UnicodeDecodeError, ValueError, RecursionError) as cause:
        raise _unusable("it is no JSON") from cause
    if not isinstance(document, dict):
        raise _unusable("it is no JSON object")
    fields = cast("dict[str, Any]", document)
    if fields.get("format_version") != FORMAT_VERSION:
        raise _unusable(f"its format version is not {FORMAT_VERSION}")
    try:
        return MediumSettings(
            install_id=UUID(_text(fields, "install_id")),
            product=_text(fields, "product"),
            system_bytes=_count(fields, "system_bytes"),
            root_hash=_digest(fields, "root_hash"),
            kernel_sha256=_digest(fields, "kernel_sha256"),
            disk=_text(fields, "disk"),
            may_replace_node=_flag(fields, "may_replace_node"),
            keeps_vendor_keys=_flag(fields, "keeps_vendor_keys"),
        )
    except ValueError as cause:
        raise _unusable(str(cause)) from cause


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name} is no text")  # noqa: TRY004  # the caller's one kind of error
    return value


def _digest(fields: dict[str, Any], name: str) -> bytes:
    value = bytes.fromhex(_text(fields, name))
    if len(value) != _SHA256_BYTES:
        raise ValueError(f"{name} is no SHA-256")
    return value


def _count(fields: dict[str, Any], name: str) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise ValueError(f"{name} is no count")
    return value


def _flag(fields: dict[str, Any], name: str) -> bool:
    value = fields.get(name)
    if not isinstance(value, bool):
        raise ValueError(f"{name} is neither true nor false")  # noqa: TRY004  # see above
    return value


def _unusable(problem: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"{SETTINGS}: {problem}",
        remedy="Write the medium again with `metroctl install genusb`.",
    )
