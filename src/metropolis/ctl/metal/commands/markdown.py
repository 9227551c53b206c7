# SPDX-License-Identifier: Apache-2.0
"""`metalctl markdown`."""

from collections.abc import Iterator

import click

from metropolis.ctl.metal.options import command
from metropolis.ctl.metal.output import write

_TEMPLATES = """
## Templates

`-o template --template TEXT` fills TEXT in for every entity, over its JSON keys. It is a part of
Go's templates: fields (`{{ .size.id }}`, `{{ . }}`, `{{ $.id }}`), `index`, `len`, `range`, `if`,
`else`, `end`, texts, comments and `{{- … -}}`. A field that is missing is `<no value>`.
"""


@command("markdown")
@click.pass_context
def markdown(ctx: click.Context) -> None:
    """Print what all commands do, as Markdown."""
    root = ctx.find_root()
    parts = [f"# {root.info_name}\n\n{_fenced(root.get_help())}"]
    parts += [f"## {path}\n\n{_fenced(text)}" for path, text in _leaves(root)]
    write("\n".join(parts) + _TEMPLATES)


def _leaves(ctx: click.Context) -> Iterator[tuple[str, str]]:
    group = ctx.command
    assert isinstance(group, click.Group)
    for name in group.list_commands(ctx):
        child = group.get_command(ctx, name)
        assert child is not None
        inner = click.Context(child, parent=ctx, info_name=name, **child.context_settings)
        if isinstance(child, click.Group):
            yield from _leaves(inner)
        else:
            yield inner.command_path, child.get_help(inner)


def _fenced(text: str) -> str:
    return f"```text\n{text}\n```\n"
