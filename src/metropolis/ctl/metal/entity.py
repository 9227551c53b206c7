# SPDX-License-Identifier: Apache-2.0
"""What an entity of the API is to the commands that all entities have."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from metropolis.ctl.metal.cells import Json, text
from metropolis.ctl.metal.client import Client, quoted
from metropolis.ctl.metal.flags import Flag, Hook
from metropolis.ctl.metal.output import Tabulate
from metropolis.ctl.metal.places import PLACES

# In answers of every entity, never in requests.
READ_ONLY: Final = frozenset({"created", "changed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """One entity.

    Attributes:
        words: Its commands, such as `size imageconstraint`.
        noun: For sentences.
        find: Path that is searched when a list has filters; empty: there are none.
        query_flags: Flags of the list that go into the query.
        create_fields: Top-level fields that a new one may have.
        update_fields: Those that may change, the id not among them.
        read_only: More fields of answers that no request has.
        always_sent: Fields that every update must have.
        create: Makes one of a body; default: PUT on the path.
        delete: Deletes one by id; default: DELETE on the path and the id.
        as_request: Turns what `describe` prints into the form of requests.
        finish_create: Completes the body that flags of `create` make.
        sort_keys: Names for --sort-by with dotted paths.
    """

    words: str
    noun: str
    tabulate: Tabulate
    find: str = ""
    list_flags: tuple[Flag, ...] = ()
    query_flags: tuple[Flag, ...] = ()
    create_flags: tuple[Flag, ...] = ()
    update_flags: tuple[Flag, ...] = ()
    create_fields: frozenset[str] = frozenset()
    update_fields: frozenset[str] = frozenset()
    read_only: frozenset[str] = frozenset()
    always_sent: frozenset[str] = frozenset()
    create: Callable[[Client, Json], Any] | None = None
    delete: Callable[[Client, str], Any] | None = None
    as_request: Callable[[Json], Json] = lambda document: document
    finish_create: Hook = lambda _body, _given: None
    sort_keys: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def path(self) -> str:
        """Where all of them are."""
        return PLACES[self.words].path

    @property
    def key(self) -> str:
        """Dotted path of the id in a document."""
        return PLACES[self.words].key

    def id_of(self, document: Json) -> str:
        """Return the id in a document; empty when it has none."""
        return text(document, self.key)

    def item_path(self, key: str) -> str:
        """Return the path of one."""
        return f"{self.path}/{quoted(key)}"

    def created(self, client: Client, body: Json) -> Any:  # noqa: ANN401  # JSON
        """Create one; return it."""
        if self.create is not None:
            return self.create(client, body)
        return client.call("PUT", self.path, body)

    def deleted(self, client: Client, key: str) -> Any:  # noqa: ANN401  # JSON
        """Delete one; return what it was."""
        if self.delete is not None:
            return self.delete(client, key)
        return client.call("DELETE", self.item_path(key))

    def is_read_only(self, name: str) -> bool:
        """Whether a top-level field is of answers alone."""
        return name in self.read_only or name in READ_ONLY
