# SPDX-License-Identifier: Apache-2.0
"""What each side of a connection announces to the other, and how h2 treats headers."""

from typing import Final

from h2.config import H2Configuration
from h2.settings import SettingCodes, Settings

from metropolis.rpc.limits import Limits

ANSWER_HEADER_BYTES_MAX: Final = 64 << 10  # error texts are long, and long again when encoded


def h2_configuration(*, is_client: bool) -> H2Configuration:
    """Leave headers as they are: what h2 would normalize or refuse, we read defensively."""
    return H2Configuration(
        client_side=is_client,
        header_encoding="utf-8",
        validate_inbound_headers=False,
        validate_outbound_headers=False,
        normalize_inbound_headers=False,
        normalize_outbound_headers=False,
    )


def h2_settings(limits: Limits, *, is_client: bool) -> Settings:
    """Announce the windows and limits of one side."""
    values: dict[SettingCodes, int] = {
        SettingCodes.INITIAL_WINDOW_SIZE: limits.stream_window_bytes,
        SettingCodes.MAX_HEADER_LIST_SIZE: (
            ANSWER_HEADER_BYTES_MAX if is_client else limits.header_bytes
        ),
    }
    if is_client:
        values[SettingCodes.ENABLE_PUSH] = 0
    else:
        values[SettingCodes.MAX_CONCURRENT_STREAMS] = limits.streams_per_connection
    return Settings(client=is_client, initial_values=values)
