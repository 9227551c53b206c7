# SPDX-License-Identifier: Apache-2.0
"""From a method and a path to an operation, in time that does not grow with their number.

A tree of path segments: a word beats a parameter, and where a word leads nowhere the parameter
beside it is tried. Segments are split before they are percent-decoded, so an id may hold a slash.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.http.operation import Operation
from metropolis.metal.http.problem import HttpProblem


@dataclass(slots=True, kw_only=True)
class _Branch:
    words: dict[str, "_Branch"] = field(default_factory=dict[str, "_Branch"])
    parameter: "_Branch | None" = None
    methods: dict[str, Operation[Any, Any]] = field(default_factory=dict[str, Operation[Any, Any]])


class Router:
    """The operations of one application."""

    def __init__(self, base_path: str, operations: Iterable[Operation[Any, Any]]) -> None:
        assert base_path.startswith("/")
        assert base_path.endswith("/")
        self._base_path = base_path
        self._root = _Branch()
        for operation in operations:
            self._add(operation)

    def find(self, method: str, path: str) -> tuple[Operation[Any, Any], Mapping[str, str]]:
        """Return the operation and the parameters of its path, decoded.

        Args:
            path: As the client sent it, percent-encoded; one slash too many at its end is fine.

        Raises:
            HttpProblem: 404 or 405, as routers answer.
            InvalidArgumentError: a parameter is not text.
        """
        if not path.startswith(self._base_path):
            raise HttpProblem(404, f"there is nothing at this path; it begins {self._base_path}")
        segments = path[len(self._base_path) :].split("/")
        if segments[-1] == "":
            segments.pop()
        found: list[tuple[_Branch, list[str]]] = []
        _collect(self._root, segments, 0, [], found)
        allowed: set[str] = set()
        for branch, values in found:
            operation = branch.methods.get(method)
            if operation is not None:
                return operation, _decoded(operation, values)
            allowed.update(branch.methods)
        if not allowed:
            raise HttpProblem(404, "there is nothing at this path")
        listed = ", ".join(sorted(allowed))
        raise HttpProblem(405, f"only {listed} can be done here", headers={"allow": listed})

    def _add(self, operation: Operation[Any, Any]) -> None:
        branch = self._root
        for segment in operation.path.strip("/").split("/"):
            if segment.startswith("{"):
                branch.parameter = branch.parameter or _Branch()
                branch = branch.parameter
            else:
                branch = branch.words.setdefault(segment, _Branch())
        assert operation.method not in branch.methods, f"two operations at {operation.path}"
        branch.methods[operation.method] = operation


def _collect(
    branch: _Branch,
    segments: list[str],
    index: int,
    values: list[str],
    found: list[tuple[_Branch, list[str]]],
) -> None:
    """Gather every leaf that these segments lead to, the one with most words first."""
    if index == len(segments):
        if branch.methods:
            found.append((branch, values))
        return
    segment = segments[index]
    word = branch.words.get(segment)
    if word is not None:
        _collect(word, segments, index + 1, values, found)
    if branch.parameter is not None and segment:
        _collect(branch.parameter, segments, index + 1, [*values, segment], found)


def _decoded(operation: Operation[Any, Any], values: list[str]) -> Mapping[str, str]:
    if not values:
        return {}
    names = [segment[1:-1] for segment in operation.path.split("/") if segment.startswith("{")]
    decoded: dict[str, str] = {}
    for name, value in zip(names, values, strict=True):
        try:
            decoded[name] = unquote(value, errors="strict") if "%" in value else value
        except UnicodeDecodeError:
            raise InvalidArgumentError(f"{name} in the path is not UTF-8") from None
        if "\0" in decoded[name]:
            raise InvalidArgumentError(f"{name} in the path holds a NUL character")
    return decoded
