# SPDX-License-Identifier: Apache-2.0
"""From what people want to what is to be done: create, update, delete or leave each entity."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from metropolis.base.errors import InvalidArgumentError, NotFoundError
from metropolis.ctl.metal.cells import Json, fields
from metropolis.ctl.metal.client import Client
from metropolis.ctl.metal.diff import differs
from metropolis.ctl.metal.entity import Entity
from metropolis.ctl.metal.flags import put

CREATE: Final = "create"
UPDATE: Final = "update"
DELETE: Final = "delete"
LEAVE: Final = "leave"
DONE: Final[Mapping[str, str]] = {
    CREATE: "created",
    UPDATE: "updated",
    DELETE: "deleted",
    LEAVE: "unchanged",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing to do.

    Attributes:
        key: Id; empty when one is still to be made.
        body: Of the request; empty for none.
        before: What may change of it, as it is; None: it is not there yet.
        after: The same, as it will be; None: it will be gone.
        current: The whole entity, as it is.
        warnings: What was wanted and cannot be.
    """

    verb: str
    key: str
    body: Json
    before: Json | None
    after: Json | None
    current: Json | None = None
    warnings: tuple[str, ...] = ()


def plan_create(entity: Entity, document: Json) -> Step:
    """Plan to make an entity of a document."""
    body = _writable(entity, entity.as_request(document))
    return Step(verb=CREATE, key=entity.id_of(body), body=body, before=None, after=body)


def plan_apply(client: Client, entity: Entity, document: Json) -> Step:
    """Plan to make an entity as a document says, whether it is there or not."""
    key = entity.id_of(document)
    current = find(client, entity, key) if key else None
    return plan_create(entity, document) if current is None else _change(entity, document, current)


def plan_update(client: Client, entity: Entity, document: Json) -> Step:
    """Plan to change an entity to what a document says.

    Raises:
        InvalidArgumentError: the document names none.
        NotFoundError: there is none of that id.
    """
    key = entity.id_of(document)
    if not key:
        raise InvalidArgumentError(
            f"{entity.noun}: a document without {entity.key} cannot be updated",
            remedy=f"Add {entity.key} to the document.",
        )
    return _change(entity, document, client.call("GET", entity.item_path(key)))


def plan_delete(client: Client, entity: Entity, key: str) -> Step:
    """Plan to delete an entity.

    Raises:
        NotFoundError: there is none of that id.
    """
    current = client.call("GET", entity.item_path(key))
    shown = _writable(entity, entity.as_request(current))
    return Step(verb=DELETE, key=key, body={}, before=shown, after=None, current=current)


def find(client: Client, entity: Entity, key: str) -> Json | None:
    """Return an entity, None when there is none of that id."""
    try:
        found: Json = client.call("GET", entity.item_path(key))
    except NotFoundError:
        return None
    return found


def _change(entity: Entity, document: Json, current: Json) -> Step:
    key = entity.id_of(current)
    request = entity.as_request(document)
    present = entity.as_request(current)
    wanted: Json = {}
    warnings: list[str] = []
    for name, value in _writable(entity, request).items():
        if name in entity.update_fields or name not in entity.create_fields | {_root(entity)}:
            wanted[name] = _merged(name, value, present)
        elif name != _root(entity) and differs({name: value}, {name: present.get(name)}):
            warnings.append(f"{name} of {entity.noun} {key} cannot be changed; it stays as it is")
    before = {name: present.get(name) for name in sorted(entity.update_fields) if name in present}
    after = {**before, **wanted}
    kept = {name: present.get(name) for name in entity.always_sent if name in present}
    body = {**kept, **wanted}
    put(body, entity.key, key)
    is_same = not differs(before, after)
    return Step(
        verb=LEAVE if is_same else UPDATE,
        key=key,
        body=body,
        before=before,
        after=after,
        current=current,
        warnings=tuple(warnings),
    )


def _merged(name: str, value: Any, present: Json) -> Any:  # noqa: ANN401  # JSON
    """Of meta data people may give some; the rest, above all the version, is as it is."""
    if name == "meta" and isinstance(value, dict):
        return {**fields(present, name), **cast("Json", value)}
    return value


def _root(entity: Entity) -> str:
    """Return the top-level field that the id is in."""
    return entity.key.partition(".")[0] if "." not in entity.key else ""


def _writable(entity: Entity, document: Json) -> Json:
    return {name: value for name, value in document.items() if not entity.is_read_only(name)}
