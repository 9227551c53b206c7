# SPDX-License-Identifier: Apache-2.0
"""A small, safe part of Go's text templates, over JSON. Pure.

    {{ .id }}  {{ .size.id }}  {{ . }}  {{ $.id }}          fields; a missing one is <no value>
    {{ index .tags 0 }}  {{ index .labels "a/b" }}  {{ len .tags }}
    {{ range .tags }}…{{ else }}…{{ end }}                  lists, and maps by key
    {{ if .allocation }}…{{ else }}…{{ end }}               empty, 0, false and missing are false
    {{ "text" }}  {{/* comment */}}  {{- … -}}              trims spaces

Variables, pipes, definitions and every other function are refused, each by its name.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from metropolis.base.errors import InvalidArgumentError

MISSING: Final = "<no value>"
DEPTH_MAX: Final = 50
_TAG: Final = re.compile(r"\{\{(-\s)?\s*(/\*.*?\*/|.*?)\s*(\s-)?\}\}", re.DOTALL)
_PATH: Final = re.compile(r"\$?\.(?:[A-Za-z_][\w]*(?:\.[A-Za-z_][\w]*)*)?|\$")
_WORD: Final = re.compile(r'"(?:[^"\\]|\\.)*"|`[^`]*`|[^\s"`]+')
_HELP: Final = "Use fields, index, len, range, if, else and end; see `metalctl markdown`."


@dataclass(frozen=True, slots=True)
class _Node:
    """Text (no words), an expression, or a block with its two branches."""

    text: str = ""
    words: tuple[str, ...] = ()
    keyword: str = ""
    then: "tuple[_Node, ...]" = ()
    otherwise: "tuple[_Node, ...]" = ()


Template = tuple[_Node, ...]


def parse(text: str) -> Template:
    """Understand a template.

    Raises:
        InvalidArgumentError: it is none, or uses what is not there.
    """
    tokens = iter(_tokens(text))
    nodes, end = _block(tokens, 0)
    if end:
        raise _wrong(f"{{{{ {end} }}}} closes nothing")
    return nodes


def render(template: Template, document: object) -> str:
    """Fill a template in.

    Raises:
        InvalidArgumentError: it does not fit the document.
    """
    return "".join(_rendered(template, document, document))


def _tokens(text: str) -> list[_Node]:
    """Cut into texts and tags, spaces trimmed where tags want it."""
    found: list[_Node] = []
    start, is_trimming = 0, False
    for match in _TAG.finditer(text):
        plain = text[start : match.start()]
        plain = plain.lstrip() if is_trimming else plain
        plain = plain.rstrip() if match[1] else plain
        start, is_trimming = match.end(), bool(match[3])
        if plain:
            found.append(_Node(text=plain))
        if not match[2].startswith("/*"):
            words = tuple(_WORD.findall(match[2]))
            if not words:
                raise _wrong("there is an empty {{ }}")
            found.append(_Node(words=words))
    rest = text[start:]
    if "{{" in rest:
        raise _wrong("a {{ is never closed")
    if rest := rest.lstrip() if is_trimming else rest:
        found.append(_Node(text=rest))
    return found


def _block(tokens: Iterator[_Node], depth: int) -> tuple[tuple[_Node, ...], str]:
    """Read until `end` or `else`; return the nodes and which it was."""
    if depth > DEPTH_MAX:
        raise _wrong("it is nested too deeply")
    nodes: list[_Node] = []
    for token in tokens:
        keyword = token.words[0] if token.words else ""
        if keyword in ("end", "else"):
            if len(token.words) > 1:
                raise _wrong(f"{{{{ {' '.join(token.words)} }}}} is not known")
            return tuple(nodes), keyword
        if keyword not in ("range", "if"):
            if token.words:
                _check(token.words)
            nodes.append(token)
            continue
        _check(token.words[1:])
        then, end = _block(tokens, depth + 1)
        otherwise: tuple[_Node, ...] = ()
        if end == "else":
            otherwise, end = _block(tokens, depth + 1)
        if end != "end":
            raise _wrong(f"{{{{ {keyword} }}}} has no {{{{ end }}}}")
        words = token.words[1:]
        nodes.append(_Node(keyword=keyword, words=words, then=then, otherwise=otherwise))
    return tuple(nodes), ""


def _check(words: Sequence[str]) -> None:
    """Refuse what is no expression."""
    if not words:
        raise _wrong("an expression is missing")
    name, *arguments = words
    counts = {"len": (1, 1), "index": (2, 99)}
    if name in counts:
        low, high = counts[name]
        if not low <= len(arguments) <= high or not all(map(_is_operand, arguments)):
            raise _wrong(f"{{{{ {' '.join(words)} }}}} is not how {name} is used")
    elif arguments or not _is_operand(name):
        raise _wrong(f"{{{{ {' '.join(words)[:64]} }}}} is not known")


def _is_operand(word: str) -> bool:
    return word[:1] in '"`' or word.lstrip("-").isdigit() or _PATH.fullmatch(word) is not None


def _rendered(nodes: Sequence[_Node], dot: object, root: object) -> Iterator[str]:
    for node in nodes:
        if not node.words:
            yield node.text
            continue
        value = _value(node.words, dot, root)
        if node.keyword == "if":
            yield from _rendered(node.then if _is_true(value) else node.otherwise, dot, root)
        elif node.keyword == "range":
            items = _items(value)
            for item in items:
                yield from _rendered(node.then, item, root)
            if not items:
                yield from _rendered(node.otherwise, dot, root)
        else:
            yield _text(value)


def _value(words: Sequence[str], dot: object, root: object) -> object:
    name, *arguments = words
    values = [_operand(each, dot, root) for each in arguments]
    if name == "len":
        if not isinstance(values[0], list | dict | str):
            raise _wrong(f"{arguments[0]} has no length")
        return len(cast("list[object]", values[0]))
    if name == "index":
        found = values[0]
        for key in values[1:]:
            found = _entry(found, key)
        return found
    return _operand(name, dot, root)


def _operand(word: str, dot: object, root: object) -> object:
    if word[:1] == '"':
        try:
            return json.loads(word)
        except ValueError:
            raise _wrong(f"{word[:64]} is no text") from None
    if word[:1] == "`":
        return word[1:-1]
    if word.lstrip("-").isdigit():
        return int(word)
    found = root if word.startswith("$") else dot
    for name in filter(None, word.removeprefix("$").split(".")):
        found = cast("dict[str, object]", found).get(name) if isinstance(found, dict) else None
    return found


def _entry(value: object, key: object) -> object:
    if isinstance(value, dict):
        return cast("dict[object, object]", value).get(key)
    if isinstance(value, list) and isinstance(key, int):
        items = cast("list[object]", value)
        if 0 <= key < len(items):
            return items[key]
        raise _wrong(f"there is no entry {key} in a list of {len(items)}")
    return None


def _items(value: object) -> Sequence[object]:
    if isinstance(value, dict):
        by_key = cast("dict[str, object]", value)
        return [by_key[key] for key in sorted(by_key)]
    if isinstance(value, list):
        return cast("list[object]", value)
    if value is None:
        return ()
    raise _wrong("only lists and maps have entries to range over")


def _is_true(value: object) -> bool:
    return bool(value)


def _text(value: Any) -> str:  # noqa: ANN401  # JSON
    """Render a value as Go prints it."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        entries = cast("dict[str, object]", value)
        return f"map[{' '.join(f'{key}:{_text(entries[key])}' for key in sorted(entries))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(_text, cast('list[object]', value)))}]"
    return str(value)


def _wrong(text: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"the template is wrong: {text}", remedy=_HELP)
