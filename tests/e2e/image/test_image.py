# SPDX-License-Identifier: Apache-2.0
"""The image that a person would get: the same everywhere, and nothing in it that should not be."""

import json
import os
import stat
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from e2e.image.builds import (
    PYTHON,
    Built,
    Surroundings,
    build,
    copy_sources,
    extract,
    run_inside,
)
from metropolis.formats import authenticode, cpio, module_list, pe, verity
from metropolis.formats.pcr import uki_pcr11
from metropolis.image.declaration import DECLARATION_FILE, parse_declaration
from metropolis.image.keys import KEY_NAMES, open_keys

HERE = Surroundings(
    umask="022", hash_seed="1", locale="C.UTF-8", time_zone="UTC", file_time_s=1_000_000_000
)
THERE = Surroundings(
    umask="077", hash_seed="77", locale="C", time_zone="Asia/Tokyo", file_time_s=1_700_000_001
)
# Everything that can be executed on a node, and nothing else: think twice before adding to it.
PROGRAMS = {
    "usr/bin/etcd",
    "usr/bin/python3.13",
    "usr/lib64/ld-linux-x86-64.so.2",
    "usr/sbin/chronyd",
    "usr/sbin/cryptsetup",
    "usr/sbin/mkfs.xfs",
    "usr/sbin/nft",
    "usr/sbin/xfs_repair",
}
FORBIDDEN = {
    *("sh", "bash", "dash", "busybox", "ash", "zsh", "perl", "awk", "sed", "ssh", "sshd", "sudo"),
    *("apt", "apt-get", "dpkg", "pip", "pip3", "rpm", "su", "login", "getty", "curl", "wget"),
}
BUDGET_BYTES = 100 << 20


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("home") / "keys"
    open_keys(place, checkout=Path("/nonexistent"))
    return place


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Built:
    place = tmp_path_factory.mktemp("first")
    sources = copy_sources(place / "sources", file_time_s=HERE.file_time_s)
    return build(sources, place / "image", cache=place / "cache", keys=keys, around=HERE)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, first: Built) -> Path:
    return extract(first, tmp_path_factory.mktemp("root") / "root")


@pytest.mark.timeout(900)
def test_two_builds_in_other_places_and_surroundings_are_equal(
    first: Built, keys: Path, tmp_path: Path
) -> None:
    place = tmp_path / "a directory with a longer name"
    sources = copy_sources(place / "sources", file_time_s=THERE.file_time_s, source=first.checkout)
    second = build(sources, place / "image", cache=place / "cache", keys=keys, around=THERE)
    assert any("compiling" in line for line in second.said), "nothing was taken from elsewhere"
    one, two = first.files(), second.files()
    assert list(one) == list(two)
    assert [name for name in one if one[name] != two[name]] == []


@pytest.mark.timeout(300)
def test_other_keys_change_signatures_only(first: Built, tmp_path: Path) -> None:
    other = build(
        first.checkout,
        tmp_path / "image",
        cache=first.cache,
        keys=tmp_path / "other keys",
        around=HERE,
    )
    assert other.said == [], "keys are no input of any step"
    for name in ("digest_without_signatures", "root_hash"):
        assert other.description[name] == first.description[name]
    one, two = first.files(), other.files()
    assert one["system.img"] == two["system.img"]
    assert one["kernel.efi"] != two["kernel.efi"]


@pytest.mark.timeout(300)
def test_a_change_of_our_code_redoes_only_what_holds_it(
    first: Built, keys: Path, tmp_path: Path
) -> None:
    sources = tmp_path / "sources"
    copy_sources(sources, file_time_s=1, source=first.checkout)
    path = sources / "src/metropolis/cluster/lifecycle.py"
    path.write_text(path.read_text() + "\nCHANGED = 1\n")
    changed = build(sources, tmp_path / "image", cache=first.cache, keys=keys, around=HERE)
    assert changed.said == ["compiling 1 Python files", "compressing and hashing the system"]
    assert changed.description["root_hash"] != first.description["root_hash"]


def paths_below(place: Path) -> Iterator[Path]:
    for directory, names, files in os.walk(place):
        for name in [*names, *files]:
            yield Path(directory) / name


def test_what_can_be_executed_is_known_by_name(root: Path) -> None:
    executable = {
        path.relative_to(root).as_posix()
        for path in paths_below(root)
        if path.is_file() and not path.is_symlink() and path.stat().st_mode & 0o111
    }
    assert executable == PROGRAMS
    started_by_kernel = {
        path.relative_to(root).as_posix()
        for path in paths_below(root)
        if path.is_file() and not path.is_symlink() and path.read_bytes()[:2] == b"#!"
    }
    assert started_by_kernel == set()


def test_there_is_no_shell_no_package_manager_and_no_source(root: Path) -> None:
    names = {path.name for path in paths_below(root)}
    assert names & FORBIDDEN == set()
    assert [name for name in names if name.endswith((".py", ".sh", ".pl"))] == []


def test_nothing_can_be_written_and_nothing_changes_who_one_is(root: Path) -> None:
    for path in [root, *paths_below(root)]:
        if path.is_symlink():
            continue
        mode = stat.S_IMODE(path.stat().st_mode)
        wanted = {0o555} if path.is_dir() else {0o444, 0o555}
        if path != root:  # made by whoever unpacked
            assert mode in wanted, (path, oct(mode))


def test_only_a_debug_image_has_the_debug_service(
    first: Built, keys: Path, root: Path, tmp_path: Path
) -> None:
    debug = build(
        first.checkout, tmp_path / "image", cache=first.cache, keys=keys, around=HERE, kind="debug"
    )
    assert debug.description["product_info"]["variant"].endswith("-debug")
    inside = extract(debug, tmp_path / "root")
    place = "usr/lib/metropolis/metropolis/node/debug"
    assert (inside / place / "__init__.pyc").exists()
    assert not (root / place).exists()


IMPORT_ALL = """\
import importlib, pathlib, sys
place = pathlib.Path(sys.argv[1], "usr/lib/metropolis")
sys.path.append(str(place))
for path in sorted(place.glob("metropolis/**/*.pyc")):
    name = ".".join(path.relative_to(place).with_suffix("").parts).removesuffix(".__init__")
    if not name.endswith("__main__"):
        importlib.import_module(name)
for name in ("uvloop", "cel_expr_python.cel", "OpenSSL.SSL", "grpclib.client", "ssl", "decimal"):
    importlib.import_module(name)
print(len(sys.modules))
"""


def test_every_module_can_be_imported_with_what_the_image_has(root: Path) -> None:
    done = run_inside(root, PYTHON, "-I", "-S", "-B", "-c", IMPORT_ALL, str(root))
    assert done.returncode == 0, done.stderr.decode()
    assert int(done.stdout) > 300


def test_every_program_starts_with_the_libraries_of_the_image(root: Path) -> None:
    for program, option, word in (
        ("usr/bin/etcd", "--version", "etcd Version"),
        ("usr/sbin/chronyd", "--version", "chronyd"),
        ("usr/sbin/cryptsetup", "--version", "cryptsetup"),
        ("usr/sbin/mkfs.xfs", "-V", "mkfs.xfs"),
        ("usr/sbin/nft", "--version", "nftables"),
        ("usr/sbin/xfs_repair", "-V", "xfs_repair"),
    ):
        done = run_inside(root, program, option)
        assert word in (done.stdout + done.stderr).decode(), program


def secret_parts(keys: Path) -> Mapping[str, list[bytes]]:
    """Pieces of each private key in every form that it could have been written in."""
    found: dict[str, list[bytes]] = {}
    for name in KEY_NAMES:
        pem = (keys / f"{name}.key").read_bytes()
        private = serialization.load_pem_private_key(pem, password=None)
        assert isinstance(private, RSAPrivateKey)
        numbers = private.private_numbers()
        parts = [each.to_bytes(128, "big") for each in (numbers.p, numbers.q)]
        parts.append(numbers.d.to_bytes(256, "big"))
        parts += [part[::-1] for part in parts]
        parts += [line for line in pem.splitlines() if len(line) > 40 and b"-" not in line]
        found[name] = parts
    return found


def initrd_of(built: Built) -> bytes:
    packed = pe.sections((built.output / "kernel.efi").read_bytes())[".initrd"]
    return subprocess.run(["zstd", "-dcq"], input=packed, capture_output=True, check=True).stdout


def test_no_key_of_the_builder_is_anywhere_in_it(first: Built, keys: Path, root: Path) -> None:
    contents = dict(first.files())
    contents["initrd"] = initrd_of(first)
    for path in paths_below(root):
        if path.is_file() and not path.is_symlink():
            contents[str(path)] = path.read_bytes()
    for key, parts in secret_parts(keys).items():
        assert parts
        for name, content in contents.items():
            assert not any(part in content for part in parts), f"{key} is in {name}"


def test_the_kernel_image_is_signed_and_measures_as_foretold(first: Built, keys: Path) -> None:
    opened = open_keys(keys, checkout=Path("/nonexistent"))
    kernel = (first.output / "kernel.efi").read_bytes()
    authenticode.verify(kernel, opened["db"].certificate_der)
    sections = pe.sections(kernel)
    assert uki_pcr11(sections).hex() == first.description["pcr11"]
    approved = json.loads(sections[".pcrsig"])["sha256"][0]
    assert approved["pcrs"] == [11]
    assert first.description["root_hash"] in sections[".cmdline"].decode()


def test_the_system_partition_is_what_the_command_line_trusts(first: Built) -> None:
    described = first.description
    content = (first.output / "system.img").read_bytes()
    data_bytes = described["data_blocks"] * verity.BLOCK_BYTES
    verity.verify(
        [content[:data_bytes]],
        tree=content[data_bytes:],
        root_hash=bytes.fromhex(described["root_hash"]),
        salt=bytes.fromhex(described["salt"]),
    )


def test_the_initrd_has_only_what_opens_the_system(first: Built) -> None:
    content = initrd_of(first)
    names: set[str] = set()
    while content:
        end = content.index(b"TRAILER!!!") + len(b"TRAILER!!!")
        end += -end % 512
        names |= {entry.path for entry in cpio.read(content[:end])}
        content = content[end:]
    assert {"init", "dev/console", "usr/bin/python3.13"} <= names
    assert not any("etcd" in name or "cluster" in name for name in names)


def test_every_driver_is_asked_for_by_some_bus(first: Built, root: Path) -> None:
    declaration = parse_declaration((first.checkout / DECLARATION_FILE).read_text())
    listed = module_list.decode((root / "usr/lib/modules/modules.json").read_bytes())
    for name in (*declaration.hardware_modules, *declaration.initrd_hardware):
        assert listed.modules[name].aliases, name
    for module in listed.modules.values():
        for file in module.files:
            assert (root / "usr/lib/modules" / file).exists(), file


def test_all_of_it_fits_the_budget(first: Built) -> None:
    files = first.files()
    assert len(files["system.img"]) + len(files["kernel.efi"]) <= BUDGET_BYTES


def test_every_file_has_a_known_origin(first: Built) -> None:
    manifest = json.loads((first.output / "manifest.json").read_text())
    of_image = {f"package {each['name']}" for each in manifest["packages"] if each["use"] != "tool"}
    of_image |= {f"wheel {each['name']}" for each in manifest["wheels"]}
    of_image |= {"metropolis", "declaration", "packed"}
    assert {each["origin"] for each in manifest["files"]} <= of_image
    declared = {each["path"] for each in manifest["files"] if each["origin"] == "declaration"}
    assert all(path.startswith("/etc/") or path.endswith("modules.json") for path in declared)
    packed = {each["path"] for each in manifest["files"] if each["origin"] == "packed"}
    assert packed == {
        "/usr/lib/metropolis/ready_initrd.modules",
        "/usr/lib/metropolis/ready_machine.modules",
    }
