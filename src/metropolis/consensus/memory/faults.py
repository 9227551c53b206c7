# SPDX-License-Identifier: Apache-2.0
"""What the simulator may break, asked at every call so that it can change at any time."""

from collections.abc import Callable
from dataclasses import dataclass


def _none(_member_id: int) -> float:
    return 0.0


def _never(_member_id: int) -> bool:
    return False


@dataclass(slots=True, kw_only=True)
class Faults:
    """Answers per member id. The defaults break nothing and take no time.

    Attributes:
        delay_s: How long a call takes each way between a client and its member.
        hang_s: How long a call waits for a quorum before it fails.
        replication_delay_s: How long after a commit a member applies it; watches of its clients
            and their linearizable reads wait for that.
        loses_reply: Whether the reply to a write gets lost although it took effect.
    """

    delay_s: Callable[[int], float] = _none
    hang_s: Callable[[int], float] = _none
    replication_delay_s: Callable[[int], float] = _none
    loses_reply: Callable[[int], bool] = _never
