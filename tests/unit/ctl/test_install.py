# SPDX-License-Identifier: Apache-2.0
"""`metroctl install genusb`: what comes onto the medium, and what is refused before."""

import json
import stat
from pathlib import Path

import pytest

from kits.system_image import small_image
from metropolis.api.configuration_pb2 import NodeParameters
from metropolis.ctl import contexts, credentials, node_parameters, recovery_key
from metropolis.formats import fat, gpt, install_medium
from metropolis.formats.backup.sealing import public_key_of
from metropolis.formats.install_medium import MediumSettings, decode_settings
from metropolis.image.bundle import write_bundle
from metropolis.node.network.configuration_check import read_configuration
from metropolis.node.parameters import parse_parameters
from metropolis.pki import keys
from unit.ctl.conftest import Metroctl
from unit.ctl.remote import Remote

DOCS = Path(__file__).parents[3] / "docs" / "handbook"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return small_image(tmp_path / "image")


@pytest.fixture
def bundle(image: Path, tmp_path: Path) -> str:
    write_bundle(image, tmp_path / "bundle.zip")
    return f"--bundle={tmp_path / 'bundle.zip'}"


class Medium:
    """A medium that was written, read back."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.table = gpt.decode(self.read, disk_bytes=path.stat().st_size)
        files, self.system = self.table.partitions
        start = files.first_lba * 512
        self.label = self.read(start + 71, 11)
        self.files = dict(fat.decode(lambda at, size: self.read(start + at, size)))

    @property
    def settings(self) -> MediumSettings:
        return decode_settings(self.files[install_medium.SETTINGS])

    @property
    def parameters(self) -> NodeParameters:
        return parse_parameters(self.files[install_medium.PARAMETERS])

    def read(self, offset: int, size: int) -> bytes:
        with self._path.open("rb", buffering=0) as file:  # sparse, and much larger than its content
            file.seek(offset)
            return file.read(size)


def test_a_bootstrap_medium_is_paired_with_an_owner_key_that_is_made_for_it(
    metroctl: Metroctl, home: Path, image: Path, bundle: str
) -> None:
    target = home / "bootstrap-node-installer.img"
    done = metroctl(["install", "genusb", str(target), "--bootstrap", bundle])
    assert (done.status, done.out) == (0, "")
    key_path = home / "config" / "metroctl" / "owner-key.pem"
    lines = done.err.splitlines()
    assert lines[0] == "Generating installer image (this can take a while)."
    assert lines[-2:] == [
        f"It founds a cluster that belongs to {key_path}: use it on one machine only.",
        "Then run `metroctl takeownership ADDRESS` with that machine's address.",
    ]
    medium = Medium(target)
    assert [each.name for each in medium.table.partitions] == [
        "MetropolisInstaller",
        "MetropolisInstallerSystem",
    ]
    assert medium.label == b"METRO_INST "
    assert sorted(medium.files) == [
        "EFI/BOOT/BOOTX64.EFI",
        "metropolis-installer/enrolment/KEK.auth",
        "metropolis-installer/enrolment/PK.auth",
        "metropolis-installer/enrolment/db.auth",
        "metropolis-installer/installer.json",
        "metropolis-installer/nodeparams.pb",
    ]
    assert medium.files["EFI/BOOT/BOOTX64.EFI"] == (image / "kernel.efi").read_bytes()
    system = (image / "system.img").read_bytes()
    start = medium.system.first_lba * 512
    assert medium.read(start, len(system)) == system
    root_hash = json.loads((image / "image.json").read_bytes())["root_hash"]
    assert medium.system.guid.hex == root_hash[:32]
    bootstrap = medium.parameters.cluster_bootstrap
    owner = credentials.read_owner_key(contexts.flat(key_path.parent))
    assert bootstrap.owner_public_key == keys.raw_public_key(owner)
    configuration = bootstrap.initial_cluster_configuration
    assert configuration.cluster_domain == "cluster.internal"
    assert configuration.tpm_mode == configuration.TPM_MODE_REQUIRED
    assert configuration.storage_security_policy == (
        configuration.STORAGE_SECURITY_POLICY_NEEDS_ENCRYPTION_AND_AUTHENTICATION
    )
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert stat.S_IMODE(key_path.stat().st_mode) == 0o600


def test_a_second_bootstrap_medium_is_paired_with_the_same_key_and_has_another_id(
    metroctl: Metroctl, home: Path, bundle: str
) -> None:
    media: list[Medium] = []
    for name in ("one.img", "two.img"):
        assert metroctl(["install", "genusb", str(home / name), "--bootstrap", bundle]).status == 0
        media.append(Medium(home / name))
    one, two = media
    assert one.parameters == two.parameters
    assert one.settings.install_id != two.settings.install_id


def test_policies_domain_and_wishes_come_onto_the_medium(
    metroctl: Metroctl, home: Path, image: Path
) -> None:
    target = home / "stick.img"
    done = metroctl(
        [
            *("install", "genusb", str(target), "--bootstrap", "--bundle", str(image)),
            *("--cluster", "example.org", "--bootstrap-tpm-mode", "besteffort"),
            *("--bootstrap-storage-security", "permissive", "--disk", "S-1"),
            *("--reinstall", "--keep-vendor-keys"),
        ]
    )
    assert done.status == 0, done.err
    assert "It overwrites an enrolled node, once for each machine." in done.err
    medium = Medium(target)
    configuration = medium.parameters.cluster_bootstrap.initial_cluster_configuration
    assert configuration.cluster_domain == "example.org"
    assert configuration.tpm_mode == configuration.TPM_MODE_BEST_EFFORT
    assert configuration.storage_security_policy == (
        configuration.STORAGE_SECURITY_POLICY_PERMISSIVE
    )
    settings = medium.settings
    assert (settings.disk, settings.may_replace_node, settings.keeps_vendor_keys) == (
        "S-1",
        True,
        True,
    )


def test_a_medium_for_more_nodes_has_ticket_ca_and_directory_of_the_cluster(
    metroctl: Metroctl, home: Path, bundle: str, remote: Remote, owner: list[str]
) -> None:
    target = home / "second-node-installer.img"
    done = metroctl([*owner, "install", "genusb", str(target), bundle])
    assert done.status == 0, done.err
    assert "Approve what registers with `metroctl approve`." in done.err
    register = Medium(target).parameters.cluster_register
    assert register.register_ticket == b"\x0a\x20" + bytes(32)
    assert register.ca_certificate == remote.authority.certificate
    (node,) = register.cluster_directory.nodes
    assert node.addresses[0].host == remote.address


@pytest.mark.parametrize(
    "text",
    [
        '{"network_config": {"nameserver": [{"ip": "192.0.2.1"}]}}',
        'network_config { nameserver { ip: "192.0.2.1" } }',
    ],
)
@pytest.mark.parametrize("bootstrap", [True, False])
def test_node_parameters_of_a_file_are_completed(
    metroctl: Metroctl,
    home: Path,
    bundle: str,
    owner: list[str],
    *,
    text: str,
    bootstrap: bool,
) -> None:
    (home / "params").write_text(text)
    target = home / "stick.img"
    how = ["--bootstrap"] if bootstrap else owner
    done = metroctl(
        ["install", "genusb", str(target), bundle, *how, f"--node-params={home / 'params'}"]
    )
    assert done.status == 0, done.err
    parameters = Medium(target).parameters
    assert parameters.network_config.nameserver[0].ip == "192.0.2.1"
    assert parameters.WhichOneof("cluster") == (
        "cluster_bootstrap" if bootstrap else "cluster_register"
    )


def test_the_handbooks_node_parameters_are_understood_and_can_work() -> None:
    chapter = (DOCS / "configuration-and-deployment.md").read_text()
    text = chapter.partition("```textproto\n")[2].partition("```")[0]
    parameters = node_parameters.parse_text(text)
    configuration = read_configuration(parameters.network_config)
    assert [each.name for each in configuration.interfaces] == [
        "uplink0",
        "uplink1",
        "bond0",
        "nodes",
    ]
    assert parameters.cluster_register.labels.pairs[0].key == "rack"


def test_complete_node_parameters_need_no_cluster(
    metroctl: Metroctl, home: Path, bundle: str, remote: Remote, owner: list[str]
) -> None:
    first = home / "first.img"
    assert metroctl([*owner, "install", "genusb", str(first), bundle]).status == 0
    (home / "params").write_text(str(Medium(first).parameters))
    remote.calls.clear()
    done = metroctl(
        ["install", "genusb", str(home / "second.img"), bundle, f"--node-params={home / 'params'}"]
    )
    assert done.status == 0, done.err
    assert remote.calls == []
    assert Medium(home / "second.img").parameters == Medium(first).parameters


def test_a_recovery_key_is_made_once_and_only_its_public_half_goes_onto_the_medium(
    metroctl: Metroctl, home: Path, bundle: str
) -> None:
    key = home / "recovery-key.pem"
    for name in ("one.img", "two.img"):
        done = metroctl(
            [
                *("install", "genusb", str(home / name), "--bootstrap", bundle),
                f"--recovery-key={key}",
            ]
        )
        assert (f"Made a recovery key: {key}" in done.err) is (name == "one.img")
    private = recovery_key.read(key)
    for name in ("one.img", "two.img"):
        medium = Medium(home / name)
        assert medium.files[install_medium.RECOVERY_KEY] == public_key_of(private)
        assert all(private not in content for content in medium.files.values())


def test_a_prepared_restoration_goes_onto_the_medium(
    metroctl: Metroctl, home: Path, bundle: str
) -> None:
    first = home / "first.img"
    assert metroctl(["install", "genusb", str(first), "--bootstrap", bundle]).status == 0
    prepared = home / "prepared"
    prepared.mkdir()
    (prepared / "parameters.pb").write_bytes(Medium(first).files[install_medium.PARAMETERS])
    (prepared / "restore.pb").write_bytes(b"state")
    target = home / "restoring.img"
    done = metroctl(["install", "genusb", str(target), bundle, f"--restore={prepared}"])
    assert done.status == 0, done.err
    assert Medium(target).files[install_medium.RESTORE] == b"state"
    assert "use it once, then destroy it" in done.err


def test_a_context_that_belongs_to_a_cluster_founds_no_other(
    metroctl: Metroctl, home: Path, bundle: str, owner: list[str]
) -> None:
    target = home / "stick.img"
    done = metroctl([*owner, "install", "genusb", str(target), "--bootstrap", bundle])
    assert done.status == 1
    assert "belongs to a cluster already, and --bootstrap founds another" in done.err
    assert "--context NAME" in done.err
    assert not target.exists()


def test_a_new_context_is_made_for_a_new_cluster(
    metroctl: Metroctl, home: Path, bundle: str
) -> None:
    arguments = ["--context", "rack-2", "install", "genusb", str(home / "stick.img"), bundle]
    assert metroctl([*arguments, "--bootstrap"]).status == 0
    assert (home / "config/metroctl/contexts/rack-2/owner-key.pem").exists()


def test_a_context_learns_the_domain_of_the_cluster_that_is_founded_and_keeps_its_way(
    metroctl: Metroctl, home: Path, bundle: str
) -> None:
    root = contexts.default_root()
    contexts.create(root, "rack-3", proxy="127.0.0.1:1080")
    arguments = ["--context", "rack-3", "install", "genusb", str(home / "stick.img"), bundle]
    assert metroctl([*arguments, "--bootstrap"]).status == 0
    found = contexts.load(root, "rack-3")
    assert (found.cluster_domain, found.proxy) == ("cluster.internal", "127.0.0.1:1080")
    again = [*arguments, "--bootstrap", "--cluster", "example.org"]
    assert metroctl(again).status == 0
    assert contexts.load(root, "rack-3").cluster_domain == "example.org"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--bootstrap", "--bootstrap-tpm-mode", "maybe"], "'maybe' is no value of tpm_mode"),
        (["--bootstrap-tpm-mode", "required"], "need --bootstrap"),
        (["--bootstrap", "--disk", "/dev/disk/by-id/x"], "will not know its disk by the name"),
        (["--bootstrap", "--restore", "x"], "--restore brings node parameters of its own"),
        (["--bootstrap", "--node-params", "nothing"], "cannot read nothing"),
        (["--bootstrap", "--cluster", "Not A Domain"], "the cluster domain 'Not A Domain' must be"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    metroctl: Metroctl, home: Path, bundle: str, arguments: list[str], problem: str
) -> None:
    target = home / "stick.img"
    done = metroctl(["install", "genusb", str(target), bundle, *arguments])
    assert done.status == 1
    assert problem in done.err
    assert "remedy: " in done.err
    assert not target.exists()


@pytest.mark.parametrize(
    ("text", "arguments", "problem"),
    [
        ("cluster_register {}", ["--bootstrap"], "say cluster_register, and --bootstrap founds"),
        ("nonsense: 1", ["--bootstrap"], "these are no node parameters"),
        ("{", ["--bootstrap"], "these are no node parameters"),
    ],
)
def test_node_parameters_that_contradict_or_mean_nothing_are_refused(
    metroctl: Metroctl, home: Path, bundle: str, *, text: str, arguments: list[str], problem: str
) -> None:
    (home / "params").write_text(text)
    target = home / "stick.img"
    done = metroctl(
        ["install", "genusb", str(target), bundle, *arguments, f"--node-params={home / 'params'}"]
    )
    assert done.status == 1
    assert problem in done.err
    assert not target.exists()


def test_a_damaged_image_leaves_no_medium(metroctl: Metroctl, home: Path, image: Path) -> None:
    system = bytearray((image / "system.img").read_bytes())
    system[len(system) // 2] ^= 1
    (image / "system.img").write_bytes(system)
    target = home / "stick.img"
    done = metroctl(["install", "genusb", str(target), "--bootstrap", f"--bundle={image}"])
    assert done.status == 1
    assert "is not what was built" in done.err
    assert list(home.glob("*stick*")) == []


def test_install_ssh_says_truthfully_that_it_is_not_there(metroctl: Metroctl) -> None:
    done = metroctl(["install", "ssh", "root@192.0.2.1", "--disk", "sda"])
    assert done.status == 1
    assert "machines are installed from a medium" in done.err
    assert "metroctl install genusb" in done.err


def test_the_place_must_be_a_file_or_a_device(metroctl: Metroctl, home: Path, bundle: str) -> None:
    for target, problem in (
        (home, "is neither a file nor a block device"),
        (Path("/dev/null"), "is neither a file nor a block device"),
        (Path("/dev/no-such-stick"), "there is no device /dev/no-such-stick"),
        (home / "missing" / "stick.img", f"there is no directory {home / 'missing'}"),
    ):
        done = metroctl(["install", "genusb", str(target), "--bootstrap", bundle])
        assert done.status == 1
        assert problem in done.err
