# SPDX-License-Identifier: Apache-2.0
"""The commands that all entities have, made of what `entities` says of each.

`make("size list")` returns the command `metalctl size list`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import click

from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError
from metropolis.ctl.metal.bulk import Manner, carry_out
from metropolis.ctl.metal.client import Client
from metropolis.ctl.metal.completions import complete_ids
from metropolis.ctl.metal.documents import parse_documents, read_documents
from metropolis.ctl.metal.entities import entity_of
from metropolis.ctl.metal.entities.machines import THRESHOLD, retagged
from metropolis.ctl.metal.entities.networks import changed_prefixes
from metropolis.ctl.metal.entity import Entity
from metropolis.ctl.metal.flags import body_of, parse_duration, put
from metropolis.ctl.metal.options import MetalctlCommand, settings_of
from metropolis.ctl.metal.output import emit_list, emit_one, say
from metropolis.ctl.metal.plan import (
    Step,
    plan_apply,
    plan_create,
    plan_delete,
    plan_update,
)
from metropolis.ctl.metal.session import opened
from metropolis.ctl.metal.sorting import ordered
from metropolis.ctl.printing import yaml_text

Given = Mapping[str, Any]
_CHANGES: Final = {"network": changed_prefixes, "machine": retagged}


def make(words: str) -> click.Command:
    """Return a command by its words, the verb last."""
    name, _, verb = words.rpartition(" ")
    return _MAKERS[verb](entity_of(name))


def _list(entity: Entity) -> click.Command:
    def act(ctx: click.Context, given: Given) -> None:
        settings = settings_of(ctx)
        with opened(settings) as client:
            items = listed(client, entity, given)
        threshold = given.get(THRESHOLD.parameter)
        emit_list(
            settings,
            ordered(items, entity, given["sort_by"]),
            entity.tabulate,
            error_threshold_s=parse_duration(threshold) if threshold else None,
        )

    flags = (*entity.list_flags, *entity.query_flags)
    options = [*(flag.option() for flag in flags), _sort_option(entity)]
    return _command("list", act, options, f"List {plural(entity)}.")


def listed(client: Client, entity: Entity, given: Given) -> list[Any]:
    """Return the entities that flags select, all when there are none."""
    body = body_of(entity.list_flags, given)
    query = {
        flag.to: "true" for flag in entity.query_flags if flag.value(given) is not None
    } or None
    if body and entity.find:
        found = client.call("POST", entity.find, body, query=query)
    else:
        found = client.call("GET", entity.path, query=query)
    return list(found or ())


def _describe(entity: Entity) -> click.Command:
    def act(ctx: click.Context, given: Given) -> None:
        settings = settings_of(ctx)
        with opened(settings) as client:
            found = client.call("GET", entity.item_path(given["id"]))
        emit_one(settings, found)

    return _command("describe", act, [_id(entity)], f"Show all that is known of {one(entity)}.")


def create_command(
    entity: Entity,
    *,
    extra: Sequence[click.Parameter] = (),
    after: Callable[[click.Context, Client, Sequence[Any], Given], None] | None = None,
) -> click.Command:
    """Return the command that creates an entity.

    Args:
        extra: More flags of it.
        after: What else it does with what came out.
    """

    def act(ctx: click.Context, given: Given) -> None:
        settings = settings_of(ctx)
        documents = _documents(given, entity, verb="create")
        if documents is None:
            body = body_of(entity.create_flags, given)
            entity.finish_create(body, given)
            documents = [body]
        steps = [plan_create(entity, each) for each in documents]
        with opened(settings) as client:
            made = carry_out(settings, client, entity, steps, _manner(given))
            if after is not None:
                after(ctx, client, made, given)

    options = [*(flag.option() for flag in entity.create_flags), *extra, *_bulk_options()]
    return _command(
        "create", act, options, f"Create {one(entity)} from flags, or many from a file."
    )


def _apply(entity: Entity) -> click.Command:
    def act(ctx: click.Context, given: Given) -> None:
        settings = settings_of(ctx)
        documents = _documents(given, entity, verb="apply")
        if documents is None:
            raise _missing_file("apply")
        with opened(settings) as client:
            steps = [plan_apply(client, entity, each) for each in documents]
            carry_out(settings, client, entity, steps, _manner(given))

    summary = f"Make {plural(entity)} as a file says: create what is missing, update the rest."
    return _command("apply", act, _bulk_options(), summary)


def _update(entity: Entity) -> click.Command:
    def act(ctx: click.Context, given: Given) -> None:
        settings = settings_of(ctx)
        documents = _documents(given, entity, verb="update")
        key = given.get("id")
        if documents is not None and key:
            raise InvalidArgumentError(
                "an id and -f exclude each other", remedy="Give one of the two."
            )
        with opened(settings) as client:
            if documents is not None:
                steps = [plan_update(client, entity, each) for each in documents]
            elif key:
                steps = [_flagged(client, entity, key, given)]
            else:
                raise _missing_file("update")
            carry_out(settings, client, entity, steps, _manner(given))

    has_flags = bool(entity.update_flags)
    options: list[click.Parameter] = [_id(entity, required=False)] if has_flags else []
    options += [*(flag.option() for flag in entity.update_flags), *_bulk_options()]
    summary = f"Change {one(entity)} by flags, or many by a file."
    return _command(
        "update", act, options, summary if has_flags else f"Change {plural(entity)} by a file."
    )


def _flagged(client: Client, entity: Entity, key: str, given: Given) -> Step:
    """Plan the update that flags say."""
    body = body_of(entity.update_flags, given)
    current = client.call("GET", entity.item_path(key))
    if entity.words in _CHANGES:
        _CHANGES[entity.words](entity.as_request(current), given, body)
    if not body:
        raise InvalidArgumentError(
            "no flag says what to change", remedy=f"See `metalctl {entity.words} update --help`."
        )
    put(body, entity.key, key)
    return plan_update(client, entity, body)


def delete_command(
    entity: Entity,
    *,
    extra: Sequence[click.Parameter] = (),
    adapt: Callable[[click.Context, Given], Entity] | None = None,
    summary: str = "",
) -> click.Command:
    """Return the command that deletes an entity.

    Args:
        extra: More flags of it.
        adapt: Returns the entity with another way of deleting it.
    """

    def act(ctx: click.Context, given: Given) -> None:
        settings = settings_of(ctx)
        chosen = entity if adapt is None else adapt(ctx, given)
        documents = _documents(given, entity, verb="delete")
        keys = [given["id"]] if given.get("id") else []
        if documents is not None:
            keys += [_key_in(entity, each) for each in documents]
        if not keys:
            raise InvalidArgumentError(
                f"nothing says which {entity.noun} to delete", remedy="Give its id, or -f FILE."
            )
        with opened(settings) as client:
            steps = [plan_delete(client, chosen, key) for key in keys]
            carry_out(settings, client, chosen, steps, _manner(given))

    options = [_id(entity, required=False), *extra, *_bulk_options()]
    return _command("delete", act, options, summary or f"Delete {one(entity)}, or many of a file.")


def _key_in(entity: Entity, document: Any) -> str:  # noqa: ANN401  # JSON
    key = entity.id_of(document)
    if not key:
        raise InvalidArgumentError(
            f"a document has no {entity.key}", remedy=f"Say which {entity.noun} is meant."
        )
    return key


def _edit(entity: Entity) -> click.Command:
    def act(ctx: click.Context, given: Given) -> None:
        settings = settings_of(ctx)
        with opened(settings) as client:
            current = client.call("GET", entity.item_path(given["id"]))
            text = edited(yaml_text(current))
            if text is None:
                say("Nothing was changed.")
                return
            documents = parse_documents(text, where="what you wrote")
            steps = [plan_update(client, entity, each) for each in documents]
            carry_out(settings, client, entity, steps, Manner(is_unasked=True))

    return _command("edit", act, [_id(entity)], f"Change {one(entity)} in $EDITOR.")


def edited(text: str) -> str | None:
    """Let a person change a text; None: nothing was changed.

    Raises:
        FailedPreconditionError: there is no editor.
    """
    try:
        changed = click.edit(text, extension=".yaml", require_save=True)
    except click.ClickException as cause:
        raise FailedPreconditionError(
            f"the editor failed: {cause.message}", remedy="Set EDITOR to one that is installed."
        ) from None
    return None if changed is None or changed == text else changed


def one(entity: Entity) -> str:
    """Name one of an entity, with its article."""
    return f"{'an' if entity.noun[0] in 'aeiouI' else 'a'} {entity.noun}"


def plural(entity: Entity) -> str:
    """Name many of an entity."""
    return f"{entity.noun}{'es' if entity.noun.endswith(('ss', 'ch')) else 's'}"


def _documents(given: Given, entity: Entity, *, verb: str) -> list[Any] | None:
    """Return what a file says, None when none was given."""
    path = given.get("file")
    if path is None:
        return None
    flags = entity.create_flags if verb == "create" else entity.update_flags
    if any(flag.value(given) is not None for flag in flags if flag.parameter in given):
        raise InvalidArgumentError(
            "-f and flags that describe one exclude each other", remedy="Give one of the two."
        )
    return read_documents(path)


def _missing_file(verb: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"nothing says what to {verb}", remedy="Add -f FILE, or -f - for standard input."
    )


def _manner(given: Given) -> Manner:
    return Manner(
        is_dry=bool(given.get("dry_run")),
        is_quiet=bool(given.get("bulk_output")),
        is_timed=bool(given.get("timestamps")),
        is_unasked=bool(given.get("skip_security_prompts")),
    )


def _id(entity: Entity, *, required: bool = True) -> click.Argument:
    return click.Argument(["id"], required=required, shell_complete=complete_ids(entity.words))


def _sort_option(entity: Entity) -> click.Option:
    return click.Option(
        ["--sort-by"],
        multiple=True,
        metavar="COLUMN,…",
        help=f"{', '.join(sorted(entity.sort_keys))}; each with :asc or :desc behind it.",
    )


def _bulk_options() -> list[click.Parameter]:
    return [
        click.Option(["-f", "--file"], metavar="FILE", help="YAML of one or many; - for stdin."),
        click.Option(["--dry-run"], is_flag=True, help="Show what would change, do nothing."),
        click.Option(
            ["--bulk-output"], is_flag=True, help="Print only what comes out, at the end."
        ),
        click.Option(["--skip-security-prompts"], is_flag=True, help="Do not ask before it."),
        click.Option(["--timestamps"], is_flag=True, help="Say when each was done."),
    ]


def _command(
    name: str,
    act: Callable[[click.Context, Given], None],
    parameters: Sequence[click.Parameter],
    summary: str,
) -> click.Command:
    def callback(**given: Any) -> None:  # noqa: ANN401  # of the flags
        act(click.get_current_context(), given)

    return MetalctlCommand(name, callback=callback, params=list(parameters), help=summary)


_MAKERS: Final[Mapping[str, Callable[[Entity], click.Command]]] = {
    "list": _list,
    "describe": _describe,
    "create": create_command,
    "apply": _apply,
    "update": _update,
    "delete": delete_command,
    "edit": _edit,
}
