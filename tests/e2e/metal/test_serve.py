# SPDX-License-Identifier: Apache-2.0
"""`metropolis metal serve` as people run it: a program, a directory, a port."""

import http.client
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from metropolis.metal.access.hmac import signature

PATIENCE_S = 60


@dataclass(kw_only=True)
class Program:
    """A running control plane."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    port: int = 0

    def get(self, path: str, key: bytes, *, port: int = 0) -> tuple[int, Any]:
        date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        signed = signature(key, date=date, method="GET", salt="salt")
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=PATIENCE_S)
        headers = {"X-Date": date, "X-Data-Salt": "salt", "Authorization": f"Metal-Admin {signed}"}
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response.status, body


@contextmanager
def serving(directory: Path, *options: str) -> Iterator[Program]:
    command = [sys.executable, "-m", "metropolis.lab.main", "metal", "serve"]
    listen = ("--listen", "127.0.0.1:0", "--directory", str(directory))
    process = subprocess.Popen(
        [*command, *listen, *options], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    program = Program(process=process)
    ready = threading.Event()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            program.lines.append(line)
            found = re.search(r"serving http://127\.0\.0\.1:(\d+)", line)
            if found:
                program.port = int(found[1])
            if "machine list" in line:
                ready.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert ready.wait(PATIENCE_S), program.lines
        yield program
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0, program.lines
        reader.join()
        if process.stdout is not None:
            process.stdout.close()
        if process.stderr is not None:
            process.stderr.close()


def refused(*options: str) -> str:
    """Run a command that fails before it serves; return what it says."""
    command = [sys.executable, "-m", "metropolis.lab.main", "metal", "serve", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_it_makes_keys_once_serves_and_finds_everything_again(tmp_path: Path) -> None:
    directory = tmp_path / "metal"
    with serving(directory, "--seed", "--base-path", "/metal/") as program:
        key_file = directory / "hmac-admin.key"
        for file in directory.iterdir():
            assert file.stat().st_mode & 0o077 == 0, file
        key = key_file.read_bytes().strip()
        status, body = program.get("/metal/v1/machine", key)
        assert status == 200
        machines = msgspec.json.decode(body)
        assert len(machines) == 5
        assert program.get("/v1/machine", key)[0] == 404
        assert key.decode() not in "".join(program.lines)
    with serving(directory, "--metrics-listen", "127.0.0.1:0") as program:
        assert key_file.read_bytes().strip() == key
        status, body = program.get("/v1/machine", key)
        assert [each["id"] for each in msgspec.json.decode(body)] == [
            each["id"] for each in machines
        ]


def test_it_says_what_is_wrong_with_its_options(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("s3cret", encoding="utf-8")
    key.chmod(0o644)
    here = ("--directory", str(tmp_path))
    assert f"chmod 600 {key}" in refused(*here, "--hmac-admin-key-file", str(key))
    url = "postgresql://metal:s3cret@127.0.0.1/metal"
    said = refused(*here, "--database", url)
    assert ".pgpass" in said
    assert "s3cret" not in said
    assert "/metal/" in refused(*here, "--base-path", "metal")
    assert "127.0.0.1:8080" in refused(*here, "--listen", "8080")
