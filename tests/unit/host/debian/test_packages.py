# SPDX-License-Identifier: Apache-2.0
"""Packages: from the machine's own mirror, as the lock says, or loudly not."""

import hashlib
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from metropolis.base.errors import (
    DataLossError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from metropolis.host.linux.debian.apt_root import KEYRING, AptRoot
from metropolis.host.linux.debian.lock import Package, format_lock, parse_lock
from metropolis.host.linux.debian.mirror import debian_mirrors, parse_index_targets, printable
from metropolis.host.linux.debian.packages import Fetcher

KEYS = "/usr/share/keyrings"
SOURCES = f"""\
https://packages.example.com/apt bookworm main {KEYS}/vendor.gpg
http://mirror.example/debian-security bookworm-security main {KEYRING}
http://mirror.example.org/debian/ bookworm main {KEYRING}
http://mirror.example.org/debian/ bookworm contrib {KEYRING}
http://mirror.example.org/debian/ bookworm-updates main {KEYRING}
cdrom:[Debian] bookworm main
https://deb.nodesource.com/node_20.x nodistro main {KEYS}/nodesource.gpg
"""


def test_debians_own_mirror_is_tried_first_however_vendors_name_their_suites() -> None:
    assert parse_index_targets(SOURCES) == [
        "http://mirror.example.org/debian",
        "https://packages.example.com/apt",
    ]


def test_old_sources_without_signed_by_are_found_by_their_path() -> None:
    listing = "https://v.example/apt stable main \nhttp://ftp.de.debian.org/debian stable main \n"
    assert parse_index_targets(listing)[0] == "http://ftp.de.debian.org/debian"
    assert parse_index_targets("") == []


def test_a_chosen_mirror_wins_and_its_password_is_never_printed() -> None:
    chosen = "https://me:secret@mirror.example/debian/"
    assert debian_mirrors({"METROPOLIS_DEBIAN_MIRROR": chosen}) == (chosen.rstrip("/"),)
    assert printable(chosen) == "https://mirror.example/debian/"


def package(version: str, sha256: str, *, name: str = "tool") -> Package:
    return Package(name=name, version=version, architecture="amd64", sha256=sha256)


def test_a_lock_is_read_as_it_was_written() -> None:
    packages = (package("1:2.0-1+deb13u1", "a" * 64), package("1.0~rc1", "b" * 64, name="abc"))
    assert set(parse_lock(format_lock(packages))) == set(packages)


@pytest.mark.parametrize(
    "line",
    [
        "tool 1.0 amd64",
        "tool 1.0 amd64 " + "A" * 64,
        "../tool 1.0 amd64 " + "a" * 64,
        "tool ../../1.0 amd64 " + "a" * 64,
        "--option 1.0 amd64 " + "a" * 64,
    ],
)
def test_a_lock_that_could_name_files_elsewhere_is_refused(line: str) -> None:
    with pytest.raises(InvalidArgumentError):
        parse_lock(line)


class Shelf:
    """An apt that serves packages built on the spot."""

    def __init__(self, directory: Path, *, versions: Sequence[str], damaged: bool = False) -> None:
        self.packages = {}
        self.downloads = 0
        self.is_down = False
        directory.mkdir()
        for version in versions:
            tree = directory / version
            (tree / "DEBIAN").mkdir(parents=True)
            (tree / "DEBIAN/control").write_text(
                f"Package: tool\nVersion: {version}\nArchitecture: amd64\n"
                "Maintainer: nobody <nobody@example.org>\nDescription: test\n"
            )
            (tree / "usr/bin").mkdir(parents=True)
            (tree / "usr/bin/tool").write_text(version)
            file = directory / f"tool_{version}_amd64.deb"
            subprocess.run(["dpkg-deb", "-b", tree, file], check=True, stdout=subprocess.DEVNULL)
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            self.packages[package(version, digest)] = file
            if damaged:
                file.write_bytes(file.read_bytes() + b"!")

    def update(self, mirror: str) -> None:
        if self.is_down:
            raise UnavailableError(f"cannot reach {mirror}")

    def available(self, names: Sequence[str]) -> Mapping[str, Sequence[Package]]:
        return {"tool": sorted(self.packages, reverse=True)} if "tool" in names else {}

    def depends(self, name: str) -> Sequence[str]:
        assert name == "tool-latest"
        return ["tool"]

    def download(self, packages: Sequence[Package], destination: Path) -> Mapping[Package, Path]:
        return {package: self.download_one(package, destination) for package in packages}

    def download_one(self, wanted: Package, destination: Path) -> Path:
        self.downloads += 1
        (file,) = (file for found, file in self.packages.items() if found.version == wanted.version)
        target = destination / file.name
        target.write_bytes(file.read_bytes())
        return target


class Setup:
    def __init__(self, tmp_path: Path, shelf: Shelf, *, locked: str) -> None:
        self.shelf = shelf
        self.said: list[str] = []
        self.lock_file = tmp_path / "lock"
        self.cache = tmp_path / "cache"
        self.lock(locked)

    def lock(self, version: str) -> None:
        known = {found.version: found for found in self.shelf.packages}
        entry = known.get(version) or package(version, "0" * 64)
        self.lock_file.write_text(format_lock([entry]))

    def fetch(self, *, is_strict: bool = False) -> str:
        return (self.fetcher(is_strict=is_strict).fetch("tool") / "usr/bin/tool").read_text()

    def fetcher(self, *, is_strict: bool = False) -> Fetcher:
        return Fetcher(
            cache=self.cache,
            lock_file=self.lock_file,
            environment={"METROPOLIS_DEBIAN_MIRROR": "http://user:secret@mirror.example/debian"},
            say=self.said.append,
            is_strict=is_strict,
            open_apt=lambda _directory: self.shelf,
            architecture="amd64",
        )


def test_the_locked_version_is_fetched_once_and_then_found_without_network(tmp_path: Path) -> None:
    setup = Setup(tmp_path, Shelf(tmp_path / "s", versions=["1.0", "2.0"]), locked="1.0")
    assert setup.fetch() == "1.0"
    setup.shelf.is_down = True
    assert setup.fetch() == "1.0"
    assert setup.shelf.downloads == 1
    assert sorted(path.name for path in setup.cache.iterdir()) == [".lock", ".packages", "tool_1.0"]
    assert not any("WARNING" in line or "secret" in line for line in setup.said)


def test_other_bytes_for_the_locked_version_are_refused(tmp_path: Path) -> None:
    setup = Setup(tmp_path, Shelf(tmp_path / "s", versions=["1.0"], damaged=True), locked="1.0")
    with pytest.raises(DataLossError, match="not the locked one"):
        setup.fetch()
    assert [path.name for path in setup.cache.iterdir()] == [".lock"]


def test_a_mirror_that_moved_on_is_followed_loudly_until_the_lock_follows(tmp_path: Path) -> None:
    setup = Setup(tmp_path, Shelf(tmp_path / "s", versions=["2.0"]), locked="1.0")
    assert setup.fetch() == "2.0"
    assert sum("WARNING" in line and "make lock-packages" in line for line in setup.said) == 1
    setup.shelf.is_down = True
    assert setup.fetch() == "2.0"
    assert setup.shelf.downloads == 1
    with pytest.raises(UnavailableError):
        setup.fetch(is_strict=True)
    setup.shelf.is_down = False
    with pytest.raises(FailedPreconditionError, match="not the locked version"):
        setup.fetch(is_strict=True)
    setup.lock("2.0")
    assert setup.fetch(is_strict=True) == "2.0"


def test_a_kernel_is_locked_by_the_name_that_its_unversioned_package_leads_to(
    tmp_path: Path,
) -> None:
    setup = Setup(tmp_path, Shelf(tmp_path / "s", versions=["1.0", "2.0"]), locked="1.0")
    (newest,) = setup.fetcher().newest(["tool-latest!"])
    assert (newest.name, newest.version) == ("tool", "2.0")
    with pytest.raises(NotFoundError, match="no package other"):
        setup.fetcher().fetch_all(["tool", "other"])


def test_a_package_whose_name_is_gone_is_followed_by_its_pointer_unless_strict(
    tmp_path: Path,
) -> None:
    setup = Setup(tmp_path, Shelf(tmp_path / "s", versions=["2.0"]), locked="2.0")
    setup.lock_file.write_text(format_lock([package("1.0", "0" * 64, name="tool-1.0")]))
    pointers = {"tool-1.0": "tool-latest"}
    with pytest.raises(NotFoundError, match=r"no package tool-1\.0"):
        setup.fetcher(is_strict=True).fetch_all(["tool-1.0"], pointers=pointers)
    fetcher = setup.fetcher()
    tree = fetcher.fetch_all(["tool-1.0"], pointers=pointers)["tool-1.0"]
    assert (tree / "usr/bin/tool").read_text() == "2.0"
    assert fetcher.identify("tool-1.0") in setup.shelf.packages
    setup.shelf.is_down = True
    assert fetcher.fetch_all(["tool-1.0"], pointers=pointers)["tool-1.0"] == tree


def test_no_network_names_the_mirror_and_what_to_set(tmp_path: Path) -> None:
    setup = Setup(tmp_path, Shelf(tmp_path / "s", versions=["1.0"]), locked="1.0")
    setup.shelf.is_down = True
    with pytest.raises(UnavailableError, match=r"mirror\.example") as caught:
        setup.fetch()
    assert "METROPOLIS_DEBIAN_MIRROR" in caught.value.remedy
    assert "secret" not in str(caught.value)


def test_a_repository_that_debian_did_not_sign_is_refused(tmp_path: Path) -> None:
    """The real apt, a repository of our own, and no network."""
    assert KEYRING.exists()
    binary = tmp_path / "repo/dists/trixie/main/binary-amd64"
    binary.mkdir(parents=True)
    (binary / "Packages").write_text("")
    empty = hashlib.sha256(b"").hexdigest()
    (tmp_path / "repo/dists/trixie/Release").write_text(
        "Suite: trixie\nCodename: trixie\nArchitectures: amd64\nComponents: main\n"
        f"Date: Mon, 01 Jan 2024 00:00:00 UTC\nSHA256:\n {empty} 0 main/binary-amd64/Packages\n"
    )
    with pytest.raises(UnavailableError, match=r"(?i)not signed|no longer signed|insecure"):
        AptRoot(tmp_path / "apt").update(f"file:{tmp_path}/repo")
