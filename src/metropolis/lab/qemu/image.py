# SPDX-License-Identifier: Apache-2.0
"""The system image that a cluster is founded with: built now, or brought along.

It stays in the cluster's directory together with the firmware, so that neither a new build nor an
upgrade of the computer changes a machine that exists.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from metropolis.host.linux.debian.checkout import checkout_fetcher, project_root
from metropolis.image.build import BuildRequest, build_image
from metropolis.image.keys import default_key_directory
from metropolis.lab.qemu.disks import keep_image
from metropolis.lab.qemu.firmware import find_firmware
from metropolis.lab.state import ClusterDirectory

Say = Callable[[str], None]


def found_image(directory: ClusterDirectory, *, image: Path | None, say: Say) -> None:
    """Give a cluster its image, unless it has one.

    Args:
        image: A finished image; None: it is built from the sources that this code runs from.
        say: Told one line per step that takes time.

    Raises:
        MetropolisError: an input of the build is missing, or a tool failed.
    """
    if directory.image.exists():
        return
    unfinished = directory.image.with_name("image.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    if image is not None:
        keep_image(image, unfinished)
    else:
        root = project_root()
        request = BuildRequest(
            checkout=root,
            output=unfinished,
            cache=root / ".cache" / "image",
            keys=default_key_directory(os.environ),
            is_debug=False,
            fetcher=checkout_fetcher(os.environ, say=say),
            say=say,
        )
        build_image(request)
    _keep_firmware(unfinished, say)
    unfinished.rename(directory.image)


def found_firmware(directory: ClusterDirectory, *, say: Say) -> None:
    """Give a rack of blank machines its firmware, unless it has one: they bring no image.

    Raises:
        MetropolisError: it cannot be fetched.
    """
    if directory.image.exists():
        return
    unfinished = directory.image.with_name("image.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    _keep_firmware(unfinished, say)
    unfinished.rename(directory.image)


def fetched_firmware(say: Say) -> Path:
    """Return the directory of the locked firmware, fetched when it is missing.

    Raises:
        MetropolisError: it cannot be fetched.
    """
    return checkout_fetcher(os.environ, say=say).fetch("ovmf") / "usr" / "share" / "OVMF"


def _keep_firmware(place: Path, say: Say) -> None:
    firmware = find_firmware((fetched_firmware(say),))
    for path in (firmware.code, firmware.template):
        shutil.copyfile(path, place / path.name)
