# SPDX-License-Identifier: Apache-2.0
"""Install what the project needs into this checkout, and say what is being awaited.

Runs on the system's own Python (3.11 or newer, standard library only) on a fresh Debian 12
machine as root; without root it names what is missing instead of installing it. Everything but
distribution packages lands inside the checkout: `.venv/` and `.cache/`. A second run takes a
fraction of a second, because each step leaves a stamp of its inputs.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMPS = ROOT / ".cache" / "setup"
# Program -> the Debian package that brings it.
PROGRAMS = {
    "ip": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "gpgv": "gpgv",
    "openssl": "openssl",
    "qemu-system-x86_64": "qemu-system-x86",
    "swtpm": "swtpm",
    "swtpm_setup": "swtpm-tools",
    "dnsmasq": "dnsmasq-base",
    "nft": "nftables",
    # What the tests hold our codecs and disks against.
    "sbverify": "sbsigntool",
    "mcopy": "mtools",
    "fsck.vfat": "dosfstools",
    "cryptsetup": "cryptsetup-bin",
}
OLDEST_PYTHON = (3, 11)


def fail(message: str, remedy: str) -> None:
    """Stop with an error that says what to do."""
    print(f"error: {message}\nremedy: {remedy}", file=sys.stderr)
    raise SystemExit(1)


def run(argv: Sequence[str], *, tells: bool = False) -> None:
    """Run a program; show its output only when it fails, but its progress if it `tells` any."""
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    done = subprocess.run(
        argv,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=None if tells else subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        sys.stderr.buffer.write(done.stdout + (done.stderr or b""))
        fail(
            f"{' '.join(argv[:4])} … ended with {done.returncode}",
            "Mend what it says, then repeat.",
        )


def stamped(name: str, inputs: Sequence[bytes]) -> Path | None:
    """Return the stamp to touch after the work, or None when it was done with these inputs."""
    digest = hashlib.sha256(b"\0".join(inputs)).hexdigest()
    stamp = STAMPS / f"{name}-{digest[:16]}"
    if stamp.exists():
        return None
    STAMPS.mkdir(parents=True, exist_ok=True)
    return stamp


def step(title: str) -> None:
    """Say what is being done; the reader waits for it."""
    print(f"setup: {title} …", file=sys.stderr, flush=True)


def distribution_packages() -> None:
    """Install missing programs with apt."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"  # users often lack these
    missing = sorted(
        {package for program, package in PROGRAMS.items() if not shutil.which(program, path=path)}
    )
    if not has_venv():
        missing.append("python3-venv")
    if not missing:
        return
    if os.geteuid() != 0:
        fail(
            f"these Debian packages are missing: {' '.join(missing)}",
            f"Run `sudo apt-get install {' '.join(missing)}`, then repeat.",
        )
    step(f"installing {' '.join(missing)}")
    run(["apt-get", "-q", "update"])
    run(["apt-get", "-q", "-y", "install", "--no-install-recommends", *missing])


def database() -> None:
    """Install PostgreSQL's programs for the tests, without a cluster of Debian's making."""
    if any(Path("/usr/lib/postgresql").glob("*/bin/postgres")):
        return
    if os.geteuid() != 0:
        fail(
            "PostgreSQL is missing, which the tests start privately",
            "Run `sudo apt-get install postgresql`, then repeat.",
        )
    step("installing postgresql")
    # Debian would make a cluster and start it: nobody here uses that one.
    settings = Path("/etc/postgresql-common")
    if not settings.exists():
        settings.mkdir(mode=0o755)
        (settings / "createcluster.conf").write_text("create_main_cluster = false\n")
    run(["apt-get", "-q", "update"])
    keep_ours = ["-o", "Dpkg::Options::=--force-confold"]
    run(["apt-get", "-q", "-y", "install", "--no-install-recommends", *keep_ours, "postgresql"])


def has_venv() -> bool:
    """Tell whether this Python can make a virtual environment with pip inside."""
    probe = [sys.executable, "-c", "import ensurepip, venv"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def python_packages() -> None:
    """Make the virtual environment exactly what requirements.lock says, hashes checked."""
    lock = (ROOT / "requirements.lock").read_bytes()
    project = (ROOT / "pyproject.toml").read_bytes()
    inputs = [lock, project, sys.version.encode(), str(ROOT).encode()]
    stamp = stamped("python", inputs)
    if stamp is None and (VENV / "bin" / "metroctl").exists():
        return
    step("installing Python packages into .venv")
    if not (VENV / "bin" / "python").exists():
        run([sys.executable, "-m", "venv", str(VENV)])
    pip = [
        str(VENV / "bin" / "python"),
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "-q",
    ]
    run([*pip, "--require-hashes", "-r", "requirements.lock"])
    run([*pip, "--no-deps", "--no-build-isolation", "-e", "."])
    if stamp is not None:
        stamp.touch()


def etcd() -> None:
    """Fetch the signed etcd package of Debian trixie."""
    run([str(VENV / "bin" / "python"), "-m", "metropolis.consensus.fetch"], tells=True)


def prometheus() -> None:
    """Fetch the signed Prometheus package of Debian trixie, for the tests alone."""
    run([str(VENV / "bin" / "python"), "tests/kits/prometheus.py"], tells=True)


def chrony() -> None:
    """Unpack chrony for the tests. It is not installed: it would set this computer's clock."""
    place = ROOT / ".cache" / "chrony"
    if (place / "usr/sbin/chronyd").exists():
        return
    step("unpacking chrony")
    with tempfile.TemporaryDirectory() as download:
        run(["sh", "-c", f"cd {download} && apt-get -q download chrony"])
        (package,) = Path(download).glob("chrony_*.deb")
        run(["dpkg-deb", "--extract", str(package), str(place)])


def main() -> None:
    """Do every step, in order."""
    if sys.version_info < OLDEST_PYTHON:
        fail("Python is older than 3.11", "Install Python 3.11 or newer and repeat.")
    started_s = time.monotonic()
    distribution_packages()
    database()
    python_packages()
    etcd()
    prometheus()
    chrony()
    elapsed_s = time.monotonic() - started_s
    if elapsed_s > 1:
        print(f"setup: ready after {elapsed_s:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
