# SPDX-License-Identifier: Apache-2.0
"""Connections to silent peers end soon on machines of ours, and on no others."""

from pathlib import Path

from metropolis.host.linux.silence import give_up_on_the_silent


def test_process_1_lowers_what_it_finds_and_nothing_else_is_touched(tmp_path: Path) -> None:
    setting = tmp_path / "tcp_retries2"
    setting.write_text("15\n")
    assert not give_up_on_the_silent(setting=setting, process_id=2)
    assert setting.read_text() == "15\n"
    assert give_up_on_the_silent(setting=setting, process_id=1)
    assert setting.read_text() == "5\n"
    setting.write_text("3\n")
    assert give_up_on_the_silent(setting=setting, process_id=1)
    assert setting.read_text() == "3\n"


def test_a_machine_without_that_setting_runs_nevertheless(tmp_path: Path) -> None:
    assert not give_up_on_the_silent(setting=tmp_path / "none", process_id=1)
