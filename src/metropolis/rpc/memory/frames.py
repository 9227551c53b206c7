# SPDX-License-Identifier: Apache-2.0
"""What the two ends of a connection say to each other. One frame arrives whole or not at all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """The caller begins a call. `timeout_s` is what is left of its patience; None: endless."""

    call_id: int
    path: str
    timeout_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One serialized message. Whoever consumed it calls `credit` so that more may be sent."""

    call_id: int
    data: bytes
    credit: Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfClose:
    """The caller will send no more messages."""

    call_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The server ended the call. `trailers` as in `metropolis.rpc.status`."""

    call_id: int
    trailers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """The caller is not interested any more."""

    call_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodbye:
    """The other end closed the connection."""

    reason: str


Frame = Open | Message | HalfClose | Finish | Cancel | Goodbye
