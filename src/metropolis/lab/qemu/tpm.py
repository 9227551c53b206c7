# SPDX-License-Identifier: Apache-2.0
"""Makes TPMs, as a factory does: endorsement keys, and certificates of the maker for them.

The maker's certificate authority belongs to one cluster (`maker/` in its directory), so that a
TPM of one cluster is a stranger's in every other.
"""

import shutil
from pathlib import Path
from typing import Final

from metropolis.host.linux.programs import run_program
from metropolis.lab.qemu import arguments

ISSUER: Final = "issuercert.pem"
ROOT: Final = "swtpm-localca-rootca-cert.pem"

_MANUFACTURE_TIMEOUT_S: Final = 60.0
_DIRECTORY_MODE: Final = 0o700
_MAKER: Final = """\
statedir = {maker}
signingkey = {maker}/signkey.pem
issuercert = {maker}/{issuer}
certserial = {maker}/certserial
"""
_FACTORY: Final = """\
create_certs_tool = {tool}
create_certs_tool_config = {maker}/maker.conf
create_certs_tool_options = {maker}/platform.options
active_pcr_banks = sha256
"""
_PLATFORM: Final = """\
--platform-manufacturer Metropolis
--platform-version 1
--platform-model Lab
"""


def make_tpm(machine: Path, *, maker: Path, name: str) -> None:
    """Make a machine's TPM, unless it has one; takes about a second.

    Args:
        maker: Directory of the maker's certificate authority, made when it is missing.
        name: What the endorsement certificate calls the TPM.

    Raises:
        UnavailableError: swtpm's tools are missing, or fail.
    """
    state = machine / arguments.TPM_STATE
    if state.exists():
        return
    _prepare(maker)
    unfinished = state.with_name(f"{state.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=_DIRECTORY_MODE)
    # fmt: off
    argv = [
        "swtpm_setup", "--tpm2", "--tpmstate", f"dir://{unfinished}",
        "--create-ek-cert", "--create-platform-cert", "--lock-nvram",
        "--pcr-banks", "sha256", "--vmid", name,
        "--config", str(maker / "factory.conf"), "--logfile", str(machine / arguments.TPM_LOG),
    ]
    # fmt: on
    run_program(argv, timeout_s=_MANUFACTURE_TIMEOUT_S)
    unfinished.rename(state)


def _prepare(maker: Path) -> None:
    maker.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
    tool = shutil.which("swtpm_localca") or "swtpm_localca"
    texts = {
        "maker.conf": _MAKER.format(maker=maker, issuer=ISSUER),
        "factory.conf": _FACTORY.format(maker=maker, tool=tool),
        "platform.options": _PLATFORM,
    }
    for name, text in texts.items():
        (maker / name).write_text(text, encoding="utf-8")
