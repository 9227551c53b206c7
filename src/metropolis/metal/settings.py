# SPDX-License-Identifier: Apache-2.0
"""What an operator can set, with its defaults."""

from dataclasses import dataclass, field

from metropolis.metal.s3 import S3Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of one replica; secrets are read from files, never from the command line.

    Attributes:
        base_path: Prefix of every REST path; begins and ends with a slash.
        provider_tenant: Whose users may call the interface.
        password_reason_length_min: Shortest reason for reading a console password, characters.
        body_bytes_max: Longest body of a request; a longer one is refused with 413.
        upload_bytes_max: The same for files.
        client_version_min: Oldest `metalctl` that may log in, as `/v1/version` says it.
        check_urls: Ask the servers of images and boot files whether they are there before a URL is
            stored; off where this host cannot reach them.
        firmware: Where firmware is kept; operations on it are refused without.
        superuser_password: Of every BMC's `root`; empty when the feature is off.
        kept_bytes_max: How much of answers may be kept in memory until something they tell of
            changes; 0: every answer is made anew.
    """

    base_path: str = "/"
    provider_tenant: str = "metal-stack"
    password_reason_length_min: int = 0
    body_bytes_max: int = 16 * 1024 * 1024
    upload_bytes_max: int = 1024 * 1024 * 1024
    client_version_min: str = "v0.0.1"
    check_urls: bool = True
    firmware: S3Settings | None = None
    superuser_password: str = field(default="", repr=False)
    kept_bytes_max: int = 128 * 1024 * 1024
