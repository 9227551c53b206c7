# SPDX-License-Identifier: Apache-2.0
"""Every command against a served control plane with the example in it."""

import base64
import json
import os
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from kits.metal import Replica
from metropolis.ctl.command_line import CommandGroup
from metropolis.ctl.metal.command_tree import TREE
from metropolis.ctl.metal.options import METALCTL
from metropolis.metal.model.event import Event
from metropolis.metal.seed import SHOP, SHOP_NETWORK
from metropolis.metal.services.events import record_event
from unit.ctl.metal.conftest import Metalctl, Outcome

MACHINE = "00000000-0000-0000-0000-000100000001"
BLOB = b"".join(struct.pack(">I", len(part)) + part for part in (b"ssh-ed25519", bytes(32)))
KEY = f"ssh-ed25519 {base64.b64encode(BLOB).decode()} me"
SPARE = "00000000-0000-0000-0000-000200000002"


def ok(done: Outcome) -> str:
    assert done.status == 0, done.err
    return done.out


def document(done: Outcome) -> Any:
    return json.loads(ok(done))


READS = (
    "version", "health", "whoami", "update check",
    "machine list", f"machine describe {MACHINE}", f"machine logs {MACHINE}",
    f"machine explain {MACHINE}", "machine issues", "machine issues list",
    f"machine issues {MACHINE}", "machine ipmi", f"machine ipmi {MACHINE}",
    "machine ipmi chassis-list", "firewall list", "network list",
    f"network describe {SHOP_NETWORK}", "network ip list", "network ip describe 203.0.113.1",
    "network ip issues", "switch list", "switch describe leaf01", "switch detail",
    "switch connected-machines", "switch port describe leaf01 ethernet0",
    "size list", "size describe v1-small-x86", f"size suggest s1 --machine-id {MACHINE}",
    "size imageconstraint list", "size imageconstraint describe g1-medium-x86",
    "size reservation list", "size reservation describe shop-sales-day",
    "size reservation usage", "image list --show-usage", "image describe debian-13.0.20261020",
    "filesystemlayout list", "filesystemlayout describe default-sata",
    "filesystemlayout try --size v1-small-x86 --image ubuntu-24.04.20261110",
    f"filesystemlayout match --machine {MACHINE} --filesystemlayout default-sata",
    "partition list", "partition describe mini-lab", "partition capacity", "project list",
    f"project describe {SHOP}", "tenant list", "tenant describe acme", "token list",
    "audit list",
)  # fmt: skip


@pytest.mark.parametrize("line", READS)
def test_what_is_read_prints_json_yaml_and_a_table(admin: Metalctl, line: str) -> None:
    words = line.split()
    found = document(admin(*words, "-o", "json"))
    assert yaml.safe_load(ok(admin(*words, "-o", "yaml"))) is not None
    assert ok(admin(*words, "-o", "wide"))
    assert ok(admin(*words))
    if isinstance(found, list) and found:
        table = ok(admin(*words, "-o", "markdown"))
        assert table.splitlines()[1].startswith("| --- |")


FILTERS = {
    "machine list": (f"--id {MACHINE}", "--rack rack-1", "--size v1-small-x86",
                     "--partition mini-lab", "--bmc-address 10.255.2.10:623",
                     "--product-serial ML10001"),
    "image list": ("--os ubuntu", "--features firewall", "--classification preview"),
    "network list": ("--privatesuper", "--underlay", f"--id {SHOP_NETWORK}",
                     "--parent tenant-super-mini-lab", "--vrf 1"),
    "network ip list": ("--network internet", "--type static", "--ipaddress 203.0.113.1"),
    "switch list": ("--id leaf01", "--rack rack-2", "--os-vendor SONiC"),
    "project list": ("--name shop", "--tenant acme"),
    "tenant list": ("--name Acme", "--id acme"),
    "size reservation list": ("--size v1-small-x86", "--partition mini-lab"),
}  # fmt: skip


@pytest.mark.parametrize(
    "line", [f"{words} {flags}" for words, each in FILTERS.items() for flags in each]
)
def test_a_filter_that_fits_finds_and_one_that_does_not_finds_nothing(
    admin: Metalctl, line: str
) -> None:
    assert document(admin(*line.split(), "-o", "json"))
    words = line.split(" --", maxsplit=1)[0].split()
    everything = document(admin(*words, "-o", "json"))
    found = document(admin(*line.split(), "-o", "json"))
    assert len(found) <= len(everything)
    *flag, value = line.split()
    if not value.startswith("--") and value not in ("SONiC", "mini-lab", "v1-small-x86"):
        wrong = "4711" if value.isdigit() else "preview" if value == "static" else f"{value}9"
        done = admin(*flag, wrong, "-o", "json")
        assert done.status == 1 or json.loads(done.out) == []


@pytest.fixture
def size_file(tmp_path: Path, admin: Metalctl) -> Iterator[Path]:
    """Two sizes, one of them there already; all as before afterwards."""
    before = ok(admin("size", "describe", "v1-small-x86"))
    path = tmp_path / "sizes.yaml"
    path.write_text(
        "id: x-1\nconstraints: [{type: cores, min: 99, max: 99}]\n---\n"
        "id: v1-small-x86\ndescription: small\n",
        encoding="utf-8",
    )
    yield path
    restored = path.with_name("before.yaml")
    restored.write_text(before, encoding="utf-8")
    ok(admin("size", "apply", "-f", str(restored)))
    admin("size", "delete", "x-1")


def test_apply_shows_does_and_then_finds_nothing_to_do(admin: Metalctl, size_file: Path) -> None:
    dry = admin("size", "apply", "-f", str(size_file), "--dry-run")
    assert "+++ b/size/x-1\n" in ok(dry)
    assert "\n+description: small\n" in dry.out
    assert dry.err.startswith("size: create 1, update 1; nothing was done")
    assert admin("size", "describe", "x-1").status == 1
    done = admin("size", "apply", "-f", str(size_file))
    assert done.err.splitlines() == ["created size x-1", "updated size v1-small-x86"]
    again = admin("size", "apply", "-f", str(size_file), "--timestamps")
    assert [line.partition(" ")[2] for line in again.err.splitlines()] == [
        "unchanged size x-1",
        "unchanged size v1-small-x86",
    ]
    assert admin("size", "apply", "-f", str(size_file), "--bulk-output").err == ""
    assert document(admin("size", "apply", "-f", str(size_file), "-o", "json"))[0]["id"] == "x-1"


def test_what_fails_does_not_stop_the_rest_and_is_counted(
    admin: Metalctl, tmp_path: Path, size_file: Path
) -> None:
    assert size_file.exists()
    path = tmp_path / "mixed.yaml"
    path.write_text("id: x-2\nconstraints: 7\n---\nid: x-1\nconstraints: []\n", encoding="utf-8")
    done = admin("size", "create", "-f", str(path))
    assert done.status == 1
    assert done.err.startswith("error: create size x-2: ")
    assert "created size x-1" in done.err
    assert "error: 1 of 2 failed" in done.err
    assert "x-1" in done.out


def test_many_are_deleted_only_when_nobody_can_be_asked_and_all_was_said(
    admin: Metalctl, size_file: Path
) -> None:
    ok(admin("size", "create", "--id", "x-1"))
    ok(admin("size", "create", "--id", "x-2"))
    size_file.write_text("[{id: x-1}, {id: x-2}]", encoding="utf-8")
    refused = admin("size", "delete", "-f", str(size_file))
    assert "nobody is here to confirm it\nremedy: Add --skip-security-prompts." in refused.err
    done = admin("size", "delete", "-f", str(size_file), "--skip-security-prompts")
    assert done.err.splitlines() == ["deleted size x-1", "deleted size x-2"]


def test_an_entity_is_edited_in_the_editor_of_whoever_calls(
    admin: Metalctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", "sed -i s/Mini.lab/Tiny/")
    assert "Tiny" in ok(admin("partition", "edit", "mini-lab"))
    monkeypatch.setenv("EDITOR", "true")
    assert admin("partition", "edit", "mini-lab").err == "Nothing was changed.\n"
    monkeypatch.setenv("EDITOR", "sed -i s/Tiny/Mini\\ lab/")
    ok(admin("partition", "edit", "mini-lab"))
    monkeypatch.setenv("EDITOR", "false")
    assert "the editor failed" in admin("partition", "edit", "mini-lab").err


def test_prefixes_are_added_and_removed_one_by_one(admin: Metalctl) -> None:
    ok(admin("network", "create", "--id", "n9", "--prefixes", "192.0.2.0/25"))
    ok(admin("network", "update", "n9", "--add-prefixes", "192.0.2.128/25", "--labels", "a=b"))
    ok(admin("network", "update", "n9", "--remove-prefixes", "192.0.2.0/25"))
    found = document(admin("network", "describe", "n9", "-o", "json"))
    assert (found["prefixes"], found["labels"]) == (["192.0.2.128/25"], {"a": "b"})
    assert "no flag says what to change" in admin("network", "update", "n9").err
    ok(admin("network", "delete", "n9"))


def test_a_dmz_is_shared_translates_and_leads_everywhere(admin: Metalctl) -> None:
    flags = ("--partition", "mini-lab", "--project", SHOP, "--name", "dmz", "--dmz")
    found = document(admin("network", "allocate", *flags, "--addressfamily", "IPv4", "-o", "json"))
    assert (found["shared"], found["nat"]) == (True, True)
    assert found["destinationprefixes"] == ["0.0.0.0/0"]
    assert found["id"] in ok(admin("network", "free", found["id"]))


def test_machines_are_powered_lit_locked_and_reserved(admin: Metalctl) -> None:
    for verb in ("on", "off", "reset", "cycle", "bios", "disk", "pxe"):
        assert admin("machine", "power", verb, MACHINE).err.endswith(f"told: power {verb}.\n")
    ok(admin("machine", "identify", "on", MACHINE, "--description", "here"))
    ok(admin("machine", "identify", "off", MACHINE))
    ok(admin("machine", "lock", MACHINE, "--description", "mine"))
    assert "LOCKED: mine" in ok(admin("machine", "list", "--state", "LOCKED", "-o", "wide"))
    ok(admin("machine", "reserve", MACHINE, "--remove"))
    assert len(ok(admin("machine", "list", "--state", "LOCKED")).splitlines()) == 1
    assert "you must supply one" in admin("machine", "reserve", MACHINE).err


def allocate(admin: Metalctl, *more: str) -> Outcome:
    return admin(
        *("machine", "create", "--id", SPARE, "--project", SHOP, "--image", "ubuntu-24.04"),
        *("--size", "v1-small-x86", "--partition", "mini-lab", "--hostname", "web9"),
        *("--networks", SHOP_NETWORK, *more),
    )


def test_a_machine_is_allocated_followed_changed_and_freed(
    admin: Metalctl, served: Replica, home: Path
) -> None:
    async def phone_home(site: Any) -> None:
        for event in (Event.INSTALLING, Event.BOOTING_NEW_KERNEL, Event.PHONED_HOME):
            await site.store.write(lambda tx, name=event: record_event(tx, SPARE, name, "", tx.now))

    (home / ".ssh").mkdir()
    (home / ".ssh" / "id_ed25519.pub").write_text(f"{KEY}\n", encoding="utf-8")
    assert "did not phone home in time" in allocate(admin, "--wait", "--wait-timeout", "0s").err
    found = document(admin("machine", "describe", SPARE, "-o", "json"))
    assert found["allocation"]["ssh_pub_keys"] == [KEY]
    served.run(phone_home)
    ok(admin("machine", "update", SPARE, "--add-tags", "a=b", "--description", "shop"))
    tags = ok(admin("machine", "describe", SPARE, "-o", "template", "--template", "{{ .tags }}"))
    assert "a=b" in tags
    assert "Phoned Home" in ok(admin("machine", "logs", SPARE))
    assert "in use" in ok(admin("machine", "explain", SPARE))
    listed = ok(admin("network", "ip", "list", "--machineid", SPARE, "-o", "wide"))
    assert "10.128." in listed
    ok(admin("machine", "reinstall", SPARE))
    ok(admin("machine", "delete", SPARE))
    assert "IP" in ok(admin("network", "ip", "list", "--machineid", SPARE))


def test_a_firewall_gets_its_networks_and_rules_of_a_file(admin: Metalctl, tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("egress: [{protocol: tcp, ports: [443], to: [0.0.0.0/0]}]\n", "utf-8")
    flags = ["--id", SPARE, "--project", SHOP, "--image", "firewall-ubuntu-3.0"]
    flags += ["--size", "v1-small-x86", "--partition", "mini-lab", "--hostname", "fw"]
    flags += ["--networks", f"internet,{SHOP_NETWORK}", "--firewall-rules-file", str(rules)]
    assert SPARE in ok(admin("firewall", "create", *flags))
    found = document(admin("firewall", "describe", SPARE, "-o", "json"))
    assert found["allocation"]["firewall_rules"]["egress"][0]["ports"] == [443]
    assert {each["networkid"] for each in found["allocation"]["networks"]} >= {
        "internet",
        SHOP_NETWORK,
    }
    assert SPARE in ok(admin("firewall", "list", "--hostname", "fw", "-o", "markdown"))
    ok(admin("machine", "delete", SPARE))
    missing = admin("firewall", "create", *flags[:-1], str(tmp_path / "nope"))
    assert "there is no file" in missing.err


def test_what_cannot_be_undone_must_be_meant(admin: Metalctl) -> None:
    done = admin("machine", "delete", MACHINE, "--remove-from-database")
    assert (done.status, "remedy: Add --yes-i-really-mean-it" in done.err) == (1, True)
    dry = admin("machine", "delete", MACHINE, "--remove-from-database", "--dry-run")
    assert dry.status == 0
    sure = ("--revision", "1", "--yes-i-really-mean-it")
    assert "firmware" in admin("machine", "update-firmware", "bios", MACHINE, *sure).err


def test_ports_go_down_and_up(admin: Metalctl) -> None:
    down = document(admin("switch", "port", "down", "leaf01", "--port", "ethernet0", "-o", "json"))
    assert (down["admin_status"], down["machine_id"]) == ("DOWN", MACHINE)
    assert document(admin("switch", "port", "up", "leaf01", "Ethernet0", "-o", "json"))
    assert "has no port" in admin("switch", "port", "up", "leaf01", "Ethrnet0").err
    assert "Did you mean" in admin("switch", "port", "describe", "leaf01", "Ethrnet0").err
    assert "nothing says which port" in admin("switch", "port", "up", "leaf01").err


def test_a_switch_is_marked_for_replacement_and_back(admin: Metalctl, tmp_path: Path) -> None:
    assert "replace" in ok(admin("switch", "replace", "leaf02"))
    path = tmp_path / "leaf02.yaml"
    path.write_text("id: leaf02\nmode: operational\n", encoding="utf-8")
    ok(admin("switch", "update", "-f", str(path)))
    assert document(admin("switch", "describe", "leaf02", "-o", "json"))["mode"] == "operational"
    assert admin("switch", "migrate", "leaf01", "leaf03").status == 1
    assert admin("switch", "delete", "leaf01").status == 1


def test_a_token_is_printed_once_works_and_is_revoked(
    admin: Metalctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = admin("token", "create", "--role", "view", "--expiration", "1h", "--description", "ci")
    token = ok(done).strip()
    found = document(admin("token", "list", "-o", "json"))
    assert [each["description"] for each in found] == ["ci"]
    monkeypatch.setenv("METALCTL_API_TOKEN", token)
    assert ok(admin("size", "list"))
    assert admin("size", "delete", "v1-small-x86").status == 1
    monkeypatch.delenv("METALCTL_API_TOKEN")
    ok(admin("token", "revoke", found[0]["id"]))
    monkeypatch.setenv("METALCTL_API_TOKEN", token)
    assert "remedy: " in admin("size", "list").err


def test_a_request_is_found_in_the_audit_by_what_it_was(admin: Metalctl) -> None:
    ok(admin("machine", "identify", "on", MACHINE, "--description", "for the audit"))
    path = f"/v1/machine/{MACHINE}/power/chassis-identify-led-on"
    found = document(admin("audit", "list", "--path", path, "--from", "5m", "-o", "json"))
    assert {each["phase"] for each in found} == {"request", "response"}
    request = found[0]["rqid"]
    assert request in ok(admin("audit", "describe", request, "--prettify-body"))
    only = admin("audit", "describe", request, "--phase", "response", "-o", "json")
    assert len(document(only)) == 1
    assert "no trace" in admin("audit", "describe", "nope").err
    assert "no time" in admin("audit", "list", "--from", "yesterday").err


def test_what_no_backend_is_there_for_says_what_is_missing(admin: Metalctl) -> None:
    assert "firmware-s3-endpoint" in admin("firmware", "list").err
    assert "headscale-address" in admin("vpn", "key", "--project", SHOP).err
    assert "no console service listens" in admin("machine", "console", MACHINE).err


def test_ssh_and_ipmitool_take_our_place_without_a_secret_in_sight(
    admin: Metalctl, served: Replica, tmp_path: Path
) -> None:
    assert callable(admin)
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("ssh", "ipmitool"):
        tool = tools / name
        tool.write_text(f'#!/bin/sh\necho {name} "$@" "[$IPMI_PASSWORD]"\n', encoding="utf-8")
        tool.chmod(tool.stat().st_mode | stat.S_IEXEC)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": "src"}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "metropolis.ctl.metal.main", *arguments],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
            timeout=30,
        )
        return done.stdout or done.stderr

    assert served.url == environment["METALCTL_API_URL"]
    assert run("switch", "ssh", "leaf01") == "ssh metal@10.255.1.1 []\n"
    shown = run("machine", "ipmi", "events", MACHINE, "--ipmiuser", "me", "--ipmipassword", "pw")
    assert shown == ("ipmitool -I lanplus -H 10.255.2.10 -p 623 -U me -E sel list last 10 [pw]\n")
    shown = run("machine", "console", MACHINE, "--ipmi", "--ipmiuser", "me")
    assert " -U me -E sol activate [" in shown
    assert "has no console command" in run("switch", "console", "leaf01")


def test_a_shell_offers_live_names(admin: Metalctl, served: Replica) -> None:
    assert callable(admin)
    assert served.url == os.environ["METALCTL_API_URL"]
    group = CommandGroup("metalctl", TREE, tool=METALCTL, is_root=True)

    def offered(line: str) -> list[str]:
        environment = {
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split(" ")) - 1),
            "_METALCTL_COMPLETE": "bash_complete",
        }
        result = CliRunner().invoke(group, prog_name="metalctl", env=environment)
        return [each.partition(",")[2] for each in result.output.splitlines() if each]

    assert offered("metalctl siz") == ["size"]
    assert offered("metalctl size describe ") == ["c1-large-x86", "g1-medium-x86", "v1-small-x86"]
    assert offered("metalctl size describe v") == ["v1-small-x86"]
    assert MACHINE in offered("metalctl machine lock ")
    assert offered("metalctl image list --classification p") == ["preview"]
    assert offered("metalctl machine list --partition m") == ["mini-lab"]
    assert offered("metalctl --api-url http://127.0.0.1:1 size describe ") == []


def test_a_template_is_filled_in_for_every_entity_and_must_be_given(admin: Metalctl) -> None:
    done = admin("partition", "list", "-o", "template", "--template", "{{ .id }}:{{ .nope }}")
    assert ok(done) == "mini-lab:<no value>\n"
    assert "needs a template" in admin("partition", "list", "-o", "template").err
    assert (
        "the template is wrong"
        in admin(
            "partition", "describe", "mini-lab", "-o", "template", "--template", "{{ nope }}"
        ).err
    )


def test_debug_tells_of_calls_and_never_of_keys(admin: Metalctl) -> None:
    done = admin("size", "list", "--debug", "--timeout", "5")
    assert done.err.splitlines()[0] == "debug: GET /v1/size"
    assert "admin-key" not in done.err
    assert "Authorization" not in done.err
