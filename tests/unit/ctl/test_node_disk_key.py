# SPDX-License-Identifier: Apache-2.0
"""What opens a disk that its node cannot open."""

import subprocess
import sys
from pathlib import Path

from metropolis.ctl.recovery_key import LABEL
from metropolis.formats.backup.sealing import public_key_of
from metropolis.formats.disk_token import encode_token
from metropolis.pki import pem

PRIVATE, SECRET = b"p" * 32, bytes(range(32))
METROCTL = [
    sys.executable,
    "-c",
    "import sys; from metropolis.ctl.metroctl import main; sys.exit(main())",
]


def disk_key(token: bytes, key: Path) -> "subprocess.CompletedProcess[bytes]":
    argv = [*METROCTL, "node", "disk-key", "-", "--recovery-key", str(key)]
    return subprocess.run(argv, input=token, capture_output=True, check=False)


def test_the_recovery_key_of_the_installation_gives_the_key_of_the_slot(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text(pem.encode(LABEL, PRIVATE))
    public = public_key_of(PRIVATE)
    token = encode_token(public, secret=SECRET, ephemeral_secret=b"e" * 32, slot=1)
    assert SECRET not in token
    done = disk_key(token, key)
    assert (done.returncode, done.stdout) == (0, SECRET)


def test_another_recovery_key_gives_nothing(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text(pem.encode(LABEL, b"q" * 32))
    public = public_key_of(PRIVATE)
    token = encode_token(public, secret=SECRET, ephemeral_secret=b"e" * 32, slot=1)
    done = disk_key(token, key)
    assert done.returncode != 0
    assert done.stdout == b""
    assert b"this disk opens to recovery key" in done.stderr
