# SPDX-License-Identifier: Apache-2.0
"""The alarms that the handbook prints go off when they should, judged by Prometheus' own tool."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from e2e.metrics.monitoring import printed
from kits.prometheus import program
from metropolis.node.metrics.series import SERIES

GIB = 1 << 30
DIES = '{node="a",dn="root.x",old_state="NODE_STATE_NEW",new_state="NODE_STATE_DEAD"}'
# Alarm -> (series, values from minute to minute as Prometheus' tests spell them, labels it keeps)
BAD = {
    "MetropolisNodeDown": [('up{job="metropolis-core",node="a"}', "0x10")],
    "MetropolisNoQuorum": [('metropolis_consensus_has_leader{node="a"}', "0x10")],
    "MetropolisFewMembers": [
        ('metropolis_consensus_member{node="a"}', "1x30"),
        ('metropolis_consensus_member{node="b"}', "0x30"),
    ],
    "MetropolisHeartbeatLost": [('metropolis_heartbeat_age_seconds{node="a"}', "16+60x10")],
    "MetropolisRunnableFails": [
        (f"monogon_supervisor_dn_state_transition_count{DIES}", "0+1x30"),
    ],
    "MetropolisDiskFull": [
        ('metropolis_storage_free_bytes{node="a"}', f"{GIB}x20"),
        ('metropolis_storage_size_bytes{node="a"}', f"{20 * GIB}x20"),
    ],
    "MetropolisStoreFull": [('metropolis_consensus_complaints{node="a"}', "1x10")],
    "MetropolisSlowDisk": [
        ('etcd_disk_wal_fsync_duration_seconds_bucket{node="a",le="0.512"}', "0x30"),
        ('etcd_disk_wal_fsync_duration_seconds_bucket{node="a",le="1.024"}', "0+60x30"),
        ('etcd_disk_wal_fsync_duration_seconds_bucket{node="a",le="+Inf"}', "0+60x30"),
    ],
    "MetropolisCertificateEnds": [
        (
            'metropolis_certificate_not_after_timestamp_seconds{node="a",certificate="node"}',
            "86400x30",
        )
    ],
    "MetropolisClockOff": [('node_time_seconds{node="a"}', "100+60x30")],
    "MetropolisClockNotKept": [('node_timex_sync_status{node="a"}', "0x100")],
    "MetropolisMemoryShort": [
        ('node_memory_MemAvailable_bytes{node="a"}', "1x30"),
        ('node_memory_MemTotal_bytes{node="a"}', "1000x30"),
    ],
}
# What all is well looks like, for every series that an alarm reads.
WELL = {
    "up": "1x100",
    "metropolis_consensus_has_leader": "1x100",
    "metropolis_consensus_answers": "1x100",
    "metropolis_consensus_member": "3x100",
    "metropolis_heartbeat_age_seconds": "4x100",
    "metropolis_storage_free_bytes": f"{GIB}x100",
    "metropolis_storage_size_bytes": f"{2 * GIB}x100",
    "metropolis_consensus_complaints": "0x100",
    "metropolis_consensus_database_bytes": "1000000x100",
    "metropolis_certificate_not_after_timestamp_seconds": "253402300799x100",
    "node_time_seconds": "0+60x100",
    "node_timex_offset_seconds": "0.001x100",
    "node_timex_sync_status": "1x100",
    "node_memory_MemAvailable_bytes": "500x100",
    "node_memory_MemTotal_bytes": "1000x100",
    "node_vmstat_oom_kill": "0x100",
}


def alarms() -> list[str]:
    return re.findall(r"- alert: (\w+)", printed(1))


def promtool(home: Path, tests: list[dict[str, Any]]) -> "subprocess.CompletedProcess[str]":
    (home / "rules.yml").write_text(printed(1))
    document = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": tests}
    (home / "tests.yml").write_text(json.dumps(document))  # which is YAML, too
    return subprocess.run(
        [program("promtool"), "test", "rules", "tests.yml"],
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def firing(home: Path, series: dict[str, str], *, at: str, alarm: str) -> bool:
    """Tell whether an alarm is on at some time, with these series."""
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": at, "alertname": alarm, "exp_alerts": []}],
    }
    done = promtool(home, [test])
    assert "error" not in done.stderr.lower() or "FAILED" in done.stdout + done.stderr, done.stderr
    return done.returncode != 0


def test_every_alarm_is_tried() -> None:
    assert set(alarms()) == set(BAD)


@pytest.mark.parametrize("alarm", list(BAD))
def test_an_alarm_goes_off_when_it_is_bad(alarm: str, tmp_path: Path) -> None:
    at = "95m" if alarm == "MetropolisClockNotKept" else "12m"
    at = "7m" if alarm in ("MetropolisNodeDown", "MetropolisNoQuorum") else at
    at = "8m" if alarm in ("MetropolisHeartbeatLost", "MetropolisStoreFull") else at
    assert firing(tmp_path, dict(BAD[alarm]), at=at, alarm=alarm)


@pytest.mark.parametrize("alarm", list(BAD))
def test_no_alarm_goes_off_when_all_is_well(alarm: str, tmp_path: Path) -> None:
    series = {f'{name}{{job="metropolis-core",node="a"}}': values for name, values in WELL.items()}
    assert not firing(tmp_path, series, at="95m", alarm=alarm)


def test_the_alarms_read_only_what_nodes_tell() -> None:
    ours = {each.name for each in SERIES}
    read = set(re.findall(r"\b((?:metropolis|monogon)_[a-z_]+)", printed(1)))
    assert read <= ours
    assert len(read) > 8
