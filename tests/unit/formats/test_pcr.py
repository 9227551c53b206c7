# SPDX-License-Identifier: Apache-2.0
"""Predictions of measurements and policies are what a TPM computes."""

import hashlib
import struct
from pathlib import Path

import pytest

from kits.signer import signer
from kits.trial_tpm import trial_tpm
from metropolis.base.errors import InvalidArgumentError
from metropolis.formats import pcr

DIGESTS = [hashlib.sha256(bytes([number])).digest() for number in range(3)]


def test_a_tpm_extends_as_we_do(tmp_path: Path) -> None:
    with trial_tpm(tmp_path) as tpm:
        expected = pcr.START
        for digest in DIGESTS:
            tpm.extend(11, digest)
            expected = pcr.extend(expected, digest)
        assert tpm.read(pcr.pcr_selection([11])) == expected


def test_a_tpm_computes_the_policy_of_registers_that_we_predict(tmp_path: Path) -> None:
    with trial_tpm(tmp_path) as tpm:
        tpm.extend(11, DIGESTS[0])
        tpm.extend(7, DIGESTS[1])
        values = {11: pcr.extend(pcr.START, DIGESTS[0]), 7: pcr.extend(pcr.START, DIGESTS[1])}
        session = tpm.trial_session()
        selection = pcr.pcr_selection([7, 11])
        tpm.command(0x17F, struct.pack(">IH", session, 0) + selection)
        assert tpm.policy_digest(session) == pcr.policy_pcr_digest(values)


def test_a_tpm_computes_the_policy_of_an_approver_and_a_register(tmp_path: Path) -> None:
    modulus = signer("pcr").key.public_key().public_numbers().n
    area = pcr.rsa_public_area(modulus)
    with trial_tpm(tmp_path) as tpm:
        name = tpm.load_external(area)
        assert name == pcr.object_name(area)
        session = tpm.trial_session()
        body = struct.pack(">IHHH", session, 0, 0, len(name)) + name
        ticket = struct.pack(">HIH", 0x8022, 0x40000007, 0)
        tpm.command(0x16A, body + ticket)
        authorized = pcr.policy_authorize_digest(name)
        assert tpm.policy_digest(session) == authorized
        tpm.command(0x17F, struct.pack(">IH", session, 0) + pcr.pcr_selection([7]))
        expected = pcr.policy_pcr_digest({7: pcr.START}, start=authorized)
        assert tpm.policy_digest(session) == expected


def test_a_tpm_computes_the_policy_of_alternatives(tmp_path: Path) -> None:
    with trial_tpm(tmp_path) as tpm:
        session = tpm.trial_session()
        branches = b"".join(struct.pack(">H", 32) + digest for digest in DIGESTS)
        tpm.command(0x171, struct.pack(">II", session, len(DIGESTS)) + branches)
        assert tpm.policy_digest(session) == pcr.policy_or_digest(DIGESTS)


def test_the_stub_measures_names_and_contents_in_its_own_order_and_no_signature() -> None:
    sections = {
        ".text": b"code",
        ".cmdline": b"quiet",
        ".pcrsig": b"{}",
        ".linux": b"kernel",
        ".sbat": b"sbat,1",
        ".pcrpkey": b"PEM",
    }
    expected = pcr.START
    measured = (b".linux\0", b"kernel", b".cmdline\0", b"quiet", b".sbat\0", b"sbat,1")
    for data in (*measured, b".pcrpkey\0", b"PEM"):
        expected = pcr.extend(expected, hashlib.sha256(data).digest())
    assert pcr.uki_pcr11(sections) == expected
    assert pcr.uki_pcr11({**sections, ".pcrsig": b"other", ".text": b"other"}) == expected


def test_what_depends_on_the_machine_is_not_foretold() -> None:
    with pytest.raises(InvalidArgumentError, match=r"\.dtbauto cannot be foretold"):
        pcr.uki_pcr11({".linux": b"kernel", ".dtbauto": b"tree"})
