# SPDX-License-Identifier: Apache-2.0
"""`metropolis image`: build the system image of nodes, and look at it."""

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

import click

from metropolis.base.errors import DataLossError
from metropolis.ctl.help_settings import HELP_SETTINGS
from metropolis.host.linux.debian.checkout import checkout_fetcher, project_root
from metropolis.image.build import BuildRequest, build_image
from metropolis.image.inspection import problems, read_description
from metropolis.image.keys import default_key_directory, open_keys

DEFAULT_OUTPUT: Final = "build/image"
_PLACE = click.Path(path_type=Path, file_okay=False)


@click.group("image", context_settings=dict(HELP_SETTINGS))
def image() -> None:
    """Build the system image of nodes, and look at it."""


@image.command("build")
@click.option("--output", type=_PLACE, help="Where to write it; replaced.  [build/image]")
@click.option("--keys", type=_PLACE, help="The builder's keys.  [~/.config/metropolis/builder]")
@click.option("--debug", is_flag=True, help="With the debug service.")
@click.option("--strict", is_flag=True, help="Refuse packages that the lock does not name.")
def build(output: Path | None, keys: Path | None, debug: bool, strict: bool) -> int:
    """Build the image: the system partition and the signed kernel that boots it."""
    root = project_root()
    say = Talk("image")
    request = BuildRequest(
        checkout=root,
        output=output or root / DEFAULT_OUTPUT,
        cache=root / ".cache" / "image",
        keys=keys or default_key_directory(os.environ),
        is_debug=debug,
        fetcher=checkout_fetcher(os.environ, say=say, is_strict=strict),
        say=say,
    )
    description = build_image(request)
    say(f"done: {request.output}")
    _print_summary(description)
    return 0


@image.command("inspect")
@click.argument("directory", type=_PLACE, required=False)
def inspect(directory: Path | None) -> int:
    """Print what an image says it is, and check that it is so."""
    place = directory or project_root() / DEFAULT_OUTPUT
    description = read_description(place)
    found = list(problems(place, description))
    if found:
        raise DataLossError(
            f"{place}: {'; '.join(found)}", remedy="Build or fetch the image again."
        )
    _print_summary(description)
    return 0


@image.command("keys")
@click.option("--keys", type=_PLACE, help="The builder's keys.  [~/.config/metropolis/builder]")
def show_keys(keys: Path | None) -> int:
    """Print the builder's certificates' digests; make the keys if there are none."""
    directory = keys or default_key_directory(os.environ)
    opened = open_keys(directory, checkout=project_root())
    print(directory)
    for name, key in opened.items():
        print(f"{name:4} {key.fingerprint}")
    return 0


class Talk:
    """Says on standard error what is being done, and when it began."""

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._started_s = time.monotonic()

    def __call__(self, line: str) -> None:
        elapsed_s = time.monotonic() - self._started_s
        print(f"{self._subject}: {elapsed_s:4.0f} s  {line}", file=sys.stderr, flush=True)


def _print_summary(description: Mapping[str, object]) -> None:
    info = cast("Mapping[str, object]", description["product_info"])
    print(f"version    {info['version']} ({info['variant']})")
    print(f"root hash  {description['root_hash']}")
    print(f"PCR 11     {description['pcr11']}")
    print(f"digest     {description['digest_without_signatures']} (without signatures)")
    files = cast("Mapping[str, Mapping[str, object]]", description["files"])
    for name, each in files.items():
        size_mib = int(str(each["size_bytes"])) / (1 << 20)
        print(f"{name:10} {size_mib:.1f} MiB, SHA-256 {each['sha256']}")
