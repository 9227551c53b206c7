# SPDX-License-Identifier: Apache-2.0
"""Files of people: many documents of YAML or JSON, each an entity."""

import sys
from pathlib import Path
from typing import Final, cast

import yaml

from metropolis.base.errors import InvalidArgumentError, MetropolisError, NotFoundError
from metropolis.ctl import files
from metropolis.ctl.metal.cells import Json

DOCUMENTS_MAX: Final = 100_000


def read_documents(path: str) -> list[Json]:
    """Read every entity of a file, `-` for standard input; lists count as their entries.

    Raises:
        NotFoundError: there is no such file.
        InvalidArgumentError: it is not made of entities; the message says which one is not.
    """
    text = sys.stdin.read() if path == "-" else files.read(Path(path))
    if text is None:
        raise NotFoundError(f"there is no file {path}", remedy="Correct the path after -f.")
    return parse_documents(text, where="standard input" if path == "-" else path)


def parse_documents(text: str, *, where: str) -> list[Json]:
    """Understand what `read_documents` reads."""
    found: list[Json] = []
    try:
        documents: list[object] = [each for each in yaml.load_all(text, Loader=_Loader)]  # noqa: C416  # a safe loader; it is lazy, and errors are to come here
    except (yaml.YAMLError, RecursionError, ValueError) as cause:
        raise _wrong(where, " ".join(str(cause).split())[:300]) from None
    for document in documents:
        listed = cast("list[object]", document) if isinstance(document, list) else [document]
        for each in listed:
            if each is None:
                continue
            if not isinstance(each, dict):
                raise _wrong(where, f"document {len(found) + 1} is no mapping")
            found.append(cast("Json", each))
    if not found:
        raise _wrong(where, "nothing is in it")
    if len(found) > DOCUMENTS_MAX:
        raise _wrong(where, f"{len(found)} documents are too many")
    return found


def _wrong(where: str, text: str) -> MetropolisError:
    return InvalidArgumentError(
        f"{where}: {text}", remedy="Write entities as `describe` prints them, parted by ---."
    )


class _Loader(yaml.SafeLoader):
    """YAML as JSON knows it: times stay texts, because the API has no others."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
