# SPDX-License-Identifier: Apache-2.0
"""TCP repeats every second on machines of ours, and nothing is changed on others."""

from pathlib import Path

from metropolis.host.linux.silence import repeat_every_second


def test_process_1_lowers_what_it_finds_and_nobody_else_touches_it(tmp_path: Path) -> None:
    setting = tmp_path / "tcp_rto_max_ms"
    setting.write_text("120000\n")
    assert not repeat_every_second(setting=setting, process_id=2)
    assert setting.read_text() == "120000\n"
    assert repeat_every_second(setting=setting, process_id=1)
    assert setting.read_text() == "1000\n"
    assert repeat_every_second(setting=setting, process_id=1)
    assert setting.read_text() == "1000\n"


def test_a_machine_without_that_setting_runs_nevertheless(tmp_path: Path) -> None:
    assert not repeat_every_second(setting=tmp_path / "none", process_id=1)
