# SPDX-License-Identifier: Apache-2.0
"""What QEMU and swtpm are told, and what the program that becomes QEMU is told."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError
from metropolis.lab.model import Rack
from metropolis.lab.qemu import dhcp
from metropolis.lab.qemu.accelerator import (
    VARIABLE,
    choose_accelerator,
    probe_rom,
    remembered_or,
)
from metropolis.lab.qemu.arguments import (
    Accelerator,
    Disk,
    Hardware,
    qemu_argv,
    swtpm_argv,
)
from metropolis.lab.qemu.boot import BootSpec, spec_from_argument
from metropolis.lab.qemu.driver import processors
from metropolis.lab.qemu.requirements import check_memory, check_programs, program_path


def hardware(**changes: object) -> Hardware:
    settings: dict[str, object] = {
        "name": "trio-1",
        "accelerator": Accelerator.EMULATION,
        "firmware": "/f/OVMF_CODE_4M.secboot.fd",
        "tap": "node1b1",
    }
    return Hardware(**{**settings, **changes})  # type: ignore[arg-type]


def option(words: Sequence[str], name: str) -> list[str]:
    """Every value of an option."""
    return [words[index + 1] for index, word in enumerate(words) if word == name]


def test_emulation_leaves_out_the_instruction_that_crashes_kernels() -> None:
    words = qemu_argv(hardware(), tpm_descriptor=3, tap_descriptor=4)
    assert option(words, "-cpu") == ["max,-cx16,-erms,family=15,model=4,stepping=0"]
    assert option(words, "-accel") == ["tcg,thread=multi"]
    words = qemu_argv(hardware(accelerator=Accelerator.KVM), tpm_descriptor=3, tap_descriptor=4)
    assert option(words, "-cpu") == ["host"]


def test_only_the_firmware_itself_may_write_its_variables() -> None:
    words = qemu_argv(hardware(), tpm_descriptor=3, tap_descriptor=4)
    assert option(words, "-machine") == ["q35,smm=on,sata=off,smbus=off"]
    assert "driver=cfi.pflash01,property=secure,value=on" in option(words, "-global")
    code, variables = (each for each in option(words, "-drive") if "pflash" in each)
    assert "readonly=on" in code
    assert variables.endswith("file=firmware.fd")


def test_the_cable_is_the_open_device_and_the_card_has_the_planned_address() -> None:
    words = qemu_argv(hardware(mac="02:00:0a:01:00:03"), tpm_descriptor=3, tap_descriptor=4)
    assert option(words, "-netdev") == ["tap,id=net0,fd=4"]
    assert any("mac=02:00:0a:01:00:03" in each for each in option(words, "-device"))


def test_a_machine_without_a_cable_can_have_forwarded_ports_and_no_world() -> None:
    words = qemu_argv(
        hardware(tap="", forward=((5000, 7835),)), tpm_descriptor=3, tap_descriptor=None
    )
    assert option(words, "-netdev") == ["user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:5000-:7835"]


def test_a_machine_can_have_a_port_for_late_parameters() -> None:
    words = qemu_argv(hardware(takes_parameters=True), tpm_descriptor=3, tap_descriptor=4)
    assert "socket,id=parameters,path=parameters.sock,server=on,wait=off" in option(
        words, "-chardev"
    )
    assert any(
        "name=dev.monogon.metropolis.parameters" in each for each in option(words, "-device")
    )
    words = qemu_argv(hardware(), tpm_descriptor=3, tap_descriptor=4)
    assert not any("virtserialport" in each for each in words)


def test_a_watchdog_that_is_not_fed_resets_the_machine() -> None:
    words = qemu_argv(hardware(), tpm_descriptor=3, tap_descriptor=4)
    assert "i6300esb" in option(words, "-device")
    assert option(words, "-action") == ["watchdog=reset"]


def test_a_stick_is_removable_and_commas_in_paths_survive() -> None:
    disks = (Disk(path="a,b.raw"), Disk(path="stick.raw", is_removable=True, is_read_only=True))
    words = qemu_argv(hardware(disks=disks), tpm_descriptor=None, tap_descriptor=4)
    drives = [each for each in option(words, "-drive") if "if=none" in each]
    assert "file=a,,b.raw," in drives[0]
    assert "readonly=on" in drives[1]
    assert any(each.startswith("usb-storage") for each in option(words, "-device"))
    assert not any("tpm" in each for each in words)


def test_the_tpm_ends_with_its_machine() -> None:
    assert "--terminate" in swtpm_argv(control_descriptor=5)
    assert "type=unixio,clientfd=5" in swtpm_argv(control_descriptor=5)


def test_what_to_boot_survives_being_an_argument() -> None:
    disks = (Disk(path="disk.raw", serial="x"),)
    spec = BootSpec(
        directory="/d", hardware=hardware(disks=disks, forward=((1, 2),)), links=("link set x up",)
    )
    assert spec_from_argument(spec.to_argument()) == spec


def test_a_machine_goes_on_with_what_it_was_doing_when_it_was_put_away() -> None:
    words = qemu_argv(hardware(), tpm_descriptor=3, tap_descriptor=4, memory_descriptor=9)
    assert option(words, "-incoming") == ["fd:9"]
    words = qemu_argv(hardware(), tpm_descriptor=3, tap_descriptor=4)
    assert "-incoming" not in words


def test_machines_share_the_processors_of_the_computer() -> None:
    assert processors(Accelerator.KVM, machines=9) == 2
    assert processors(Accelerator.EMULATION, machines=1000) == 1


def test_dhcp_gives_every_card_the_address_of_the_plan(tmp_path: Path) -> None:
    rack = Rack(
        name="x", count=2, proxy_tcp_port=1, program=(), created="", driver="qemu", node_ids={}
    )
    text = dhcp.hosts(rack.readdressed(1, "10.1.0.77"))
    assert text == "02:00:0a:01:00:02,10.1.0.2,600\n02:00:0a:01:00:03,10.1.0.77,600\n"
    assert "--conf-file=/dev/null" in dhcp.arguments(tmp_path)  # never the computer's own


def test_a_missing_program_is_named_with_the_way_to_get_it() -> None:
    with pytest.raises(FailedPreconditionError, match="swtpm-tools") as caught:
        check_programs(lambda name: None if name == "swtpm_setup" else "/x")
    assert "make setup" in caught.value.remedy
    assert "--driver namespace" in caught.value.remedy
    check_programs(lambda _name: "/x")


def test_too_little_memory_says_how_many_machines_fit() -> None:
    with pytest.raises(FailedPreconditionError, match="3 machines") as caught:
        check_memory("MemTotal: 9 kB\nMemAvailable: 1500000 kB\n", machines=3)
    assert "at most 2" in caught.value.remedy
    check_memory("MemAvailable: 1500000 kB\n", machines=2)


def test_programs_of_the_system_are_found_by_users() -> None:
    assert program_path({"PATH": "/bin"}) == "/bin:/usr/local/sbin:/usr/sbin:/sbin"


def test_the_probe_is_one_rom_with_a_program_at_the_reset_vector() -> None:
    rom = probe_rom()
    assert len(rom) == 64 * 1024
    assert rom[-16:].startswith(b"\x9b\xdb\xe3")


def test_the_accelerator_can_be_chosen_and_a_wrong_choice_is_refused() -> None:
    assert choose_accelerator({VARIABLE: "tcg"}) is Accelerator.EMULATION
    with pytest.raises(InvalidArgumentError, match="xen"):
        choose_accelerator({VARIABLE: "xen"})


def test_the_probe_runs_once_per_boot_of_the_computer(tmp_path: Path) -> None:
    cache = tmp_path / "deep" / "accelerator.json"
    asked: list[str] = []

    def probe(boot: str, *, answer: bool) -> Accelerator:
        def runs() -> bool:
            asked.append(boot)
            return answer

        return remembered_or(runs, cache=cache, this_boot=boot)

    assert probe("a", answer=True) is Accelerator.KVM
    assert probe("a", answer=False) is Accelerator.KVM
    assert probe("b", answer=False) is Accelerator.EMULATION
    assert probe("b", answer=True) is Accelerator.EMULATION
    cache.write_text("[]")
    assert probe("b", answer=True) is Accelerator.KVM
    assert asked == ["a", "b", "b"]
