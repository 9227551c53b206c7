# SPDX-License-Identifier: Apache-2.0
"""`metropolis release`: make what is published."""

import os
import tempfile
from pathlib import Path
from typing import Final

import click

from metropolis.ctl.help_settings import HELP_SETTINGS
from metropolis.host.linux.debian.checkout import checkout_fetcher, project_root
from metropolis.image.build import BuildRequest, build_image
from metropolis.image.keys import default_key_directory, open_keys
from metropolis.image.product import read_revision
from metropolis.image.release import CHECKSUMS, write_release
from metropolis.image.single_file import make_metroctl
from metropolis.image.steps import Steps
from metropolis.lab.commands.image import Talk

DEFAULT_OUTPUT: Final = "build/release"
_PLACE = click.Path(path_type=Path, file_okay=False)


@click.command("release", context_settings=dict(HELP_SETTINGS))
@click.option("--output", type=_PLACE, help="Where to write it; replaced.  [build/release]")
@click.option("--keys", type=_PLACE, help="The builder's keys.  [~/.config/metropolis/builder]")
@click.option("--image", type=_PLACE, help="Release this built image instead of building one.")
def release(output: Path | None, keys: Path | None, image: Path | None) -> int:
    """Make what is published: metroctl in one file, bundle.zip, and their signed checksums."""
    root = project_root()
    place = output or root / DEFAULT_OUTPUT
    key_directory = keys or default_key_directory(os.environ)
    say = Talk("release")
    if read_revision(root).is_dirty:
        say("WARNING: the checkout has changes that are not committed; nobody can rebuild this")
    cache = root / ".cache" / "image"
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".image-") as scratch:
        if image is None:
            image = Path(scratch) / "image"
            build_image(
                BuildRequest(
                    checkout=root,
                    output=image,
                    cache=cache,
                    keys=key_directory,
                    is_debug=False,
                    fetcher=checkout_fetcher(os.environ, say=say, is_strict=True),
                    say=say,
                )
            )
        metroctl = make_metroctl(root, Steps(directory=cache, say=say))
        say("writing bundle.zip and checksums")
        key = open_keys(key_directory, checkout=root)["db"]
        write_release(image=image, metroctl=metroctl, key=key, output=place)
    say(f"done: {place}")
    print((place / CHECKSUMS).read_text(encoding="ascii"), end="")
    return 0
