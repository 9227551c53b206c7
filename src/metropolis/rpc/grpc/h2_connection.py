# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 connections of h2 that cost less to make and to keep, and are gone when dropped.

When a leader dies, every node of the cluster opens a connection to the next within seconds. h2
spends much of that time on what is the same for all of them.

* It keeps its handlers of frames as bound methods in each connection: 2 KiB, and a cycle that only
  the garbage collector can undo. Ours are found in the class.
* It renders every received frame as text, for a log that it then does not write.
* Its own side's settings never change here, so connections with the same limits share them.
* Headers are not compressed by Huffman's code, in which h2's Python takes 40 us for a call, and
  what nearly every answer begins and ends with is encoded once, without a place in any table.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, Final

import h2
import hpack
from h2.connection import H2Connection
from h2.events import Event
from h2.exceptions import ProtocolError, StreamClosedError, StreamIDTooLowError
from h2.settings import Settings
from hpack.hpack import Encoder
from hyperframe.frame import Frame
from typing_extensions import override

from metropolis.rpc.grpc.h2_settings import (
    ANSWER_HEADER_BYTES_MAX,
    h2_configuration,
    h2_settings,
)
from metropolis.rpc.grpc.light import lighten
from metropolis.rpc.limits import Limits

assert (h2.__version__, hpack.__version__) == ("4.4.1", "4.2.0"), "review this file for these"

Headers = list[tuple[str, str]]
_Outcome = tuple[list[Frame], list[Event]]
_Receive = Callable[[Any, Any], _Outcome]

CONTENT_TYPE: Final = "application/grpc"
RESPONSE: Final = (
    (":status", "200"),
    ("content-type", CONTENT_TYPE),
)
FINE: Final = (("grpc-status", "0"),)
_STATUS_200: Final = b"\x88"  # in the static table of RFC 7541
_CONTENT_TYPE: Final = b"\x0f\x10"  # a value that enters no table, of a name in the static one
_NEW_NAME: Final = b"\x00"  # a name and a value that enter no table


class LightConnection(H2Connection):
    """See the module's docstring. Announces its settings when made; `data_to_send` has them."""

    def __init__(self, limits: Limits, *, is_client: bool) -> None:
        super().__init__(config=_configuration(is_client=is_client))
        if not _RECEIVERS:  # the base class has just made its table of bound methods: see above
            methods: dict[type[Frame], Any] = vars(self)["_frame_dispatch_table"]
            _RECEIVERS.update({kind: method.__func__ for kind, method in methods.items()})
        self._frame_dispatch_table = _REFUSALS
        self.local_settings = _settings(limits, is_client=is_client)
        lighten(self.remote_settings)
        self.encoder = _Encoder()
        self.decoder.max_header_list_size = (
            ANSWER_HEADER_BYTES_MAX if is_client else limits.header_bytes
        )
        self.initiate_connection()
        extra = limits.connection_window_bytes - self.inbound_flow_control_window
        if extra > 0:
            self.increment_flow_control_window(extra)

    @override
    def _receive_frame(self, frame: Frame) -> list[Event]:
        try:
            frames, events = _RECEIVERS[frame.__class__](self, frame)
        except (StreamClosedError, StreamIDTooLowError) as error:
            return super()._receive_frame(_Refused(error))
        self._prepare_for_sending(frames)
        return events

    @override
    def _prepare_for_sending(self, frames: list[Frame]) -> None:
        for frame in frames:
            self._data_to_send += frame.serialize()


_RECEIVERS: Final[dict[type[Frame], _Receive]] = {}


class _Refused(Frame):
    """Stands for a frame of a stream that has ended, so that h2 says what to do about it."""

    def __init__(self, error: ProtocolError) -> None:
        super().__init__(0)
        self.error = error

    @override
    def __repr__(self) -> str:
        return repr(self.error)


def _refuse(frame: _Refused) -> _Outcome:
    raise frame.error


_REFUSALS: Final[dict[type[Frame], Callable[..., _Outcome]]] = {_Refused: _refuse}


class _Encoder(Encoder):
    """Encodes headers as the module's docstring says."""

    @override
    def encode(self, headers: Iterable[Any], huffman: bool = False) -> bytes:
        headers = tuple(headers)
        if not self.header_table.resized:  # else the block has to say so
            known = _KNOWN_BLOCKS.get(headers)
            if known is not None:
                return known
        return super().encode(headers, huffman=False)


def _literal(text: str) -> bytes:
    encoded = text.encode()
    assert len(encoded) < 127, "longer ones take more than a byte for their length"  # noqa: PLR2004
    return bytes([len(encoded)]) + encoded


def _as_bytes(headers: Iterable[tuple[str, str]]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name.encode(), value.encode()) for name, value in headers)


_KNOWN_BLOCKS: Final[Mapping[Any, bytes]] = {
    _as_bytes(RESPONSE): _STATUS_200 + _CONTENT_TYPE + _literal(CONTENT_TYPE),
    _as_bytes(FINE): _NEW_NAME + _literal("grpc-status") + _literal("0"),
}


@cache
def _settings(limits: Limits, *, is_client: bool) -> Settings:
    return lighten(h2_settings(limits, is_client=is_client))


_configuration = cache(h2_configuration)
