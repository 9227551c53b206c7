# SPDX-License-Identifier: Apache-2.0
"""The released metroctl is one file that needs nothing but a Python."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kits.system_image import small_image
from metropolis.formats import fat, gpt
from metropolis.image.bundle import write_bundle
from metropolis.image.single_file import PYTHON_VERSIONS, make_metroctl
from metropolis.image.steps import Steps

ROOT = Path(__file__).parents[3]
STEPS = Steps(directory=ROOT / ".cache" / "image", say=lambda _: None)
EVERY_MODULE = """
import importlib, pkgutil, metropolis, metropolis.ctl
for module in pkgutil.walk_packages(metropolis.ctl.__path__, "metropolis.ctl."):
    importlib.import_module(module.name)
print(metropolis.__file__)
"""


@pytest.fixture(scope="module")
def made() -> Path:
    """The file where it was made."""
    return make_metroctl(ROOT, STEPS)


@pytest.fixture
def metroctl(made: Path, tmp_path: Path) -> Path:
    """A copy of it far from the checkout."""
    place = tmp_path / "download" / "metroctl"
    place.parent.mkdir()
    shutil.copy(made, place)
    return place


def _run(
    metroctl: Path, python: str, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run it in a home of its own, with nothing of ours in the environment."""
    home = metroctl.parent.parent / "home"
    home.mkdir(exist_ok=True)
    programs = metroctl.parent.parent / "bin"
    programs.mkdir(exist_ok=True)
    (programs / "python3").unlink(missing_ok=True)
    (programs / "python3").symlink_to(python)
    return subprocess.run(
        [metroctl, *arguments],
        env={"HOME": str(home), "PATH": f"{programs}:/usr/bin:/bin", **environment},
        cwd=metroctl.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def _pythons() -> list[str]:
    """This Python without its virtual environment, and the others of this machine."""
    known = [os.path.realpath(sys.executable)]
    for version in PYTHON_VERSIONS:
        found = shutil.which(f"python{version}")
        if found is None:
            continue
        asked = subprocess.run(
            [found, "-c", "import sys; print(sys.executable)"],
            capture_output=True,
            text=True,
            check=False,  # a version manager's stand-in for a version that is not chosen
        )
        if asked.returncode == 0 and os.path.realpath(asked.stdout.strip()) not in known:
            known.append(os.path.realpath(asked.stdout.strip()))
    return known


def test_it_runs_on_every_python_here_without_our_sources(metroctl: Path) -> None:
    for python in _pythons():
        shutil.rmtree(metroctl.parent.parent / "home", ignore_errors=True)
        helped = _run(metroctl, python, "--help")
        assert helped.returncode == 0, helped.stderr
        assert helped.stdout.startswith("Usage: metroctl")
        imported = _run(metroctl, python, "-c", EVERY_MODULE, PEX_INTERPRETER="1")
        assert imported.returncode == 0, imported.stderr
        assert str(ROOT) not in imported.stdout


def test_it_says_what_to_do_as_the_installed_one_does(metroctl: Path) -> None:
    asked = _run(metroctl, os.path.realpath(sys.executable), "node", "list")
    assert asked.returncode == 1
    assert asked.stderr.startswith("error: no cluster is known here")
    assert "remedy:" in asked.stderr


def test_it_writes_an_install_medium_from_a_bundle(metroctl: Path, tmp_path: Path) -> None:
    image = small_image(tmp_path / "image")
    write_bundle(image, tmp_path / "bundle.zip")
    written = _run(
        metroctl,
        os.path.realpath(sys.executable),
        *("--cluster", "example.internal", "install", "genusb", str(tmp_path / "medium.img")),
        *("--bootstrap", f"--bundle={tmp_path / 'bundle.zip'}", "--bootstrap-tpm-mode=disabled"),
        *("--bootstrap-storage-security", "needs-insecure"),
    )
    assert written.returncode == 0, written.stderr
    with (tmp_path / "medium.img").open("rb") as file:

        def read(offset: int, size: int) -> bytes:
            file.seek(offset)
            return file.read(size)

        table = gpt.decode(read, disk_bytes=(tmp_path / "medium.img").stat().st_size)
        start = table.partitions[0].first_lba * table.sector_bytes
        files = fat.decode(lambda offset, size: read(start + offset, size))
    assert files["EFI/BOOT/BOOTX64.EFI"] == (image / "kernel.efi").read_bytes()


def test_only_the_first_start_is_slow(metroctl: Path) -> None:
    python = os.path.realpath(sys.executable)
    _run(metroctl, python, "--help")
    _run(metroctl, python, "--help")  # writes what the interpreter compiled
    started_s = time.monotonic()
    assert _run(metroctl, python, "--help").returncode == 0
    assert time.monotonic() - started_s < 1.0


def test_it_is_the_same_file_wherever_and_whenever_it_is_made(made: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"  # files there have other times
    shutil.copytree(
        ROOT / "src" / "metropolis", other / "src" / "metropolis", copy_function=shutil.copyfile
    )
    shutil.copy(ROOT / "requirements.lock", other)
    cache = other / ".cache"
    cache.mkdir()
    (cache / "metroctl-wheels").symlink_to(STEPS.directory / "metroctl-wheels")
    again = make_metroctl(other, Steps(directory=cache, say=STEPS.say))
    assert again != made
    assert again.read_bytes() == made.read_bytes()
