# SPDX-License-Identifier: Apache-2.0
"""One form for each code object, however the compiler's process shared its strings.

`marshal` marks what may be referred to again by the reference counts of the moment, so the same
source gives different files in different processes. Here the stream is read into values, and
written again with references exactly where a value comes a second time: same source, same bytes,
and the smallest file. Only immutable constants are shared, as the interpreter does itself.

Source: CPython 3.13, Python/marshal.c (version 4 of the format).
"""

import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

_FLAG_REF: Final = 0x80
PYC_HEADER_BYTES: Final = 16
_HEADER_FLAGS: Final = 0b01  # hash-based, never checked: there is no source beside it
_NO_PAYLOAD: Final = frozenset(b"0NFTS.")
_FIXED_BYTES: Final = {ord("i"): 4, ord("g"): 8, ord("y"): 16}
_LONG_SIZED: Final = frozenset(b"stuaA")  # four bytes of length, then so many bytes
_SHORT_SIZED: Final = frozenset(b"zZ")  # one byte of length
_CONTAINERS: Final = frozenset(b"([<>")
_SETS: Final = frozenset(b"<>")
_SMALL_TUPLE: Final = ord(")")
_LONG: Final = ord("l")
_REFERENCE: Final = ord("r")
_CODE: Final = ord("c")
# What of a code object is read how: five numbers, eight objects, one number, two objects.
_CODE_LAYOUT: Final = "nnnnnoooooooonoo"
_SHAREABLE: Final = frozenset(b"lgystuaAzZ(<>)") - frozenset(b"<[")


def pyc_header(magic: bytes) -> bytes:
    """The 16 bytes before the marshalled code in a file without source (PEP 552)."""
    return magic + struct.pack("<I", _HEADER_FLAGS) + bytes(8)


def normalise(marshalled: bytes) -> bytes:
    """Return the one form of a marshalled code object.

    Raises:
        ValueError: it is not marshal's version 4 as Python 3.13 writes it.
    """
    reader = _Reader(content=marshalled)
    root = reader.value()
    if reader.offset != len(marshalled):
        raise ValueError("bytes follow the marshalled object")
    return _Writer(nodes=reader.nodes).write(root)


@dataclass(frozen=True, slots=True)
class _Node:
    """A value by its content: two equal constants are one node.

    `children` are the indexes of nodes. `is_shared` may be referred to: no code inside.
    """

    kind: int
    payload: bytes
    children: tuple[int, ...] = ()
    is_shareable: bool = False


@dataclass(slots=True)
class _Reader:
    content: bytes
    offset: int = 0
    nodes: list[_Node] = field(default_factory=list[_Node])
    _numbers: dict[_Node, int] = field(default_factory=dict[_Node, int])
    _references: list[int] = field(default_factory=list[int])

    def value(self) -> int:
        """Read one object; return the number of its node."""
        (flagged,) = self._take(1)
        kind = flagged & ~_FLAG_REF
        if kind == _REFERENCE:
            return self._references[self._number()]
        place = -1
        if flagged & _FLAG_REF:
            place = len(self._references)
            self._references.append(-1)  # a container counts before what it contains
        number = self._intern(self._node(kind))
        if place >= 0:
            self._references[place] = number
        return number

    def _node(self, kind: int) -> _Node:
        if kind in _NO_PAYLOAD:
            return _Node(kind, b"")
        if kind in _FIXED_BYTES:
            return _leaf(kind, self._take(_FIXED_BYTES[kind]))
        if kind in _LONG_SIZED:
            return _leaf(kind, self._sized(self._number()))
        if kind in _SHORT_SIZED:
            return _leaf(kind, self._sized(self._take(1)[0]))
        if kind == _LONG:
            digits = self._number(is_signed=True)
            return _leaf(kind, struct.pack("<i", digits) + self._take(2 * abs(digits)))
        if kind in _CONTAINERS or kind == _SMALL_TUPLE:
            count = self._take(1)[0] if kind == _SMALL_TUPLE else self._number()
            return self._container(kind, [self.value() for _ in range(count)])
        if kind == _CODE:
            return self._code()
        raise ValueError(f"marshal type {chr(kind)!r} is not known here")

    def _container(self, kind: int, children: Sequence[int]) -> _Node:
        if kind in _SETS:
            children = sorted(children, key=lambda number: repr(self._shape(number)))
        shareable = kind in _SHAREABLE and all(
            self.nodes[each].kind in _NO_PAYLOAD
            or self.nodes[each].is_shareable
            or self.nodes[each].kind in _FIXED_BYTES
            for each in children
        )
        return _Node(kind, b"", tuple(children), shareable)

    def _code(self) -> _Node:
        payload = b""
        children: list[int] = []
        for what in _CODE_LAYOUT:
            if what == "n":
                payload += self._take(4)
            else:
                children.append(self.value())
        return _Node(_CODE, payload, tuple(children))

    def _shape(self, number: int) -> object:
        """The content of a node, independent of the order in which nodes were met."""
        node = self.nodes[number]
        return (node.kind, node.payload, [self._shape(each) for each in node.children])

    def _intern(self, node: _Node) -> int:
        number = self._numbers.setdefault(node, len(self.nodes))
        if number == len(self.nodes):
            self.nodes.append(node)
        return number

    def _sized(self, size: int) -> bytes:
        return self._take(size)

    def _number(self, *, is_signed: bool = False) -> int:
        (number,) = struct.unpack("<i" if is_signed else "<I", self._take(4))
        return int(number)

    def _take(self, size: int) -> bytes:
        taken = self.content[self.offset : self.offset + size]
        if len(taken) != size:
            raise ValueError("the marshalled object ends too early")
        self.offset += size
        return taken


def _leaf(kind: int, payload: bytes) -> _Node:
    return _Node(kind, payload, (), kind in _SHAREABLE)


@dataclass(slots=True)
class _Writer:
    nodes: Sequence[_Node]
    _uses: Counter[int] = field(default_factory=Counter[int])
    _places: dict[int, int] = field(default_factory=dict[int, int])
    _out: bytearray = field(default_factory=bytearray)

    def write(self, root: int) -> bytes:
        self._count(root)
        self._put(root)
        return bytes(self._out)

    def _count(self, number: int) -> None:
        node = self.nodes[number]
        self._uses[number] += 1
        if self._uses[number] == 1 or not node.is_shareable:
            for each in node.children:
                self._count(each)

    def _put(self, number: int) -> None:
        if number in self._places:
            self._out += bytes([_REFERENCE]) + struct.pack("<I", self._places[number])
            return
        node = self.nodes[number]
        is_shared = node.is_shareable and self._uses[number] > 1
        if is_shared:
            self._places[number] = len(self._places)
        self._out.append(node.kind | (_FLAG_REF if is_shared else 0))
        self._put_content(node)

    def _put_content(self, node: _Node) -> None:
        if node.kind == _CODE:
            self._put_code(node)
        elif node.kind in _LONG_SIZED:
            self._out += struct.pack("<I", len(node.payload)) + node.payload
        elif node.kind in _SHORT_SIZED:
            self._out += bytes([len(node.payload)]) + node.payload
        elif node.kind == _SMALL_TUPLE:
            self._out.append(len(node.children))
        elif node.kind in _CONTAINERS:
            self._out += struct.pack("<I", len(node.children))
        else:
            self._out += node.payload
        if node.kind != _CODE:
            for each in node.children:
                self._put(each)

    def _put_code(self, node: _Node) -> None:
        children = iter(node.children)
        at = 0
        for what in _CODE_LAYOUT:
            if what == "n":
                self._out += node.payload[at : at + 4]
                at += 4
            else:
                self._put(next(children))
