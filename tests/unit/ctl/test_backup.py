# SPDX-License-Identifier: Apache-2.0
"""Backups on the operator's computer: keys, files, rehearsals, and what is refused."""

import asyncio
import hashlib
from pathlib import Path

import pytest

from metropolis.api.backup_pb2 import RestoreFile
from metropolis.api.configuration_pb2 import NodeParameters
from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError
from metropolis.cluster.backup.content import read_content
from metropolis.ctl import backups, contexts, credentials, recovery_key
from metropolis.ctl.commands.backup import parse_interval_s
from metropolis.formats.backup.sealing import public_key_of
from metropolis.host.sim.entropy import SimEntropy
from metropolis.pki.certificates import issue_cluster_ca
from metropolis.pki.keys import generate_key
from unit.cluster.harness import FIRST, OWNER_KEY, Bench, run
from unit.ctl.conftest import Metroctl, Outcome


@pytest.fixture
def files(home: Path) -> Path:
    """A directory with a recovery key and two backups: `one` is older than `two`."""
    key = home / "key.pem"
    assert recovery_key.create(key, SimEntropy(3))
    private_key = recovery_key.read(key)

    async def scenario(bench: Bench) -> None:
        desk = bench.leader.backups
        await desk.set_recovery_key(public_key_of(private_key), replace=False)
        for name in ("one", "two"):
            received = bytearray()

            async def sink(piece: bytes, received: bytearray = received) -> None:
                received.extend(piece)

            await desk.make(sink)
            (home / name).write_bytes(received)  # a test's own file
        ca.append(bench.born.ca_certificate)

    ca: list[bytes] = []
    run(scenario)
    credentials.store_ca(contexts.flat(home / "keys"), ca[0])
    return home


def call(metroctl: Metroctl, files: Path, command: str, *more: str) -> Outcome:
    flags = ["--config", str(files / "keys"), "cluster", *command.split()]
    return metroctl([*flags, *more, "--key", str(files / "key.pem")])


def test_a_backup_is_verified_without_a_cluster(metroctl: Metroctl, files: Path) -> None:
    done = call(metroctl, files, "backup verify", str(files / "two"))
    assert done.status == 0
    assert "Backup 2 of" in done.out
    assert "1 nodes came back in a rehearsal" in done.out
    document = call(metroctl, files, "backup verify", str(files / "two"), "-o", "json").out
    assert '"generation": "2"' in document


def test_a_restore_prepares_two_private_files(metroctl: Metroctl, files: Path) -> None:
    assert (
        call(metroctl, files, "restore", str(files / "two"), "--to", str(files / "to")).status == 0
    )
    written = {path.name: path for path in (files / "to").iterdir()}
    assert set(written) == {"parameters.pb", "restore.pb"}
    assert {path.stat().st_mode & 0o777 for path in written.values()} == {0o600}
    parameters = NodeParameters.FromString(written["parameters.pb"].read_bytes())
    assert parameters.cluster_bootstrap.owner_public_key == OWNER_KEY
    content = read_content(RestoreFile.FromString(written["restore.pb"].read_bytes()).archive)
    assert content.nodes == [FIRST.node_id]


def test_an_older_backup_than_the_newest_seen_is_refused_without_force(
    metroctl: Metroctl, files: Path
) -> None:
    assert call(metroctl, files, "backup verify", str(files / "two")).status == 0
    arguments = ["restore", str(files / "one"), "--to", str(files / "to")]
    refused = call(metroctl, files, *arguments)
    assert refused.status == 1
    assert "generation 1, and generation 2 is known" in refused.err
    assert not (files / "to").exists()
    assert call(metroctl, files, *arguments, "--force").status == 0
    prepared = RestoreFile.FromString((files / "to" / "restore.pb").read_bytes())
    assert prepared.known_generation == 2


def test_a_backup_of_another_cluster_is_refused_even_with_force(
    metroctl: Metroctl, files: Path
) -> None:
    other = issue_cluster_ca(generate_key(SimEntropy(9)), serial=1).certificate
    credentials.store_ca(contexts.flat(files / "keys"), other)
    arguments = ["restore", str(files / "two"), "--to", str(files / "to"), "--force"]
    refused = call(metroctl, files, *arguments)
    assert "another cluster than this context" in refused.err
    assert not (files / "to").exists()


@pytest.mark.parametrize("command", ["backup verify", "restore"])
def test_what_is_no_whole_backup_is_refused_with_a_reason(
    metroctl: Metroctl, files: Path, command: str
) -> None:
    more = ["--to", str(files / "to"), "--force"] if command == "restore" else []
    whole = (files / "two").read_bytes()
    damaged = bytearray(whole)
    damaged[-100] ^= 1
    for data, reason in (
        (bytes(damaged), "damaged"),
        (whole[:-1], "damaged"),
        (whole[:10], "damaged"),
        (b"", "damaged"),
        (b"#!/bin/sh\n", "no backup"),
    ):
        (files / "bad").write_bytes(data)
        refused = call(metroctl, files, command, str(files / "bad"), *more)
        assert refused.status == 1, reason
        assert reason in refused.err
    assert "no file" in call(metroctl, files, command, str(files / "nothing"), *more).err
    assert not (files / "to").exists()


def test_another_recovery_key_is_named(metroctl: Metroctl, files: Path) -> None:
    (files / "key.pem").unlink()
    recovery_key.create(files / "key.pem", SimEntropy(4))
    refused = call(metroctl, files, "backup verify", str(files / "two"))
    assert "encrypted to recovery key" in refused.err


def test_a_recovery_key_is_private_and_never_replaced(home: Path) -> None:
    path = home / "deep" / "key.pem"
    assert recovery_key.create(path, SimEntropy(1))
    key = recovery_key.read(path)
    assert not recovery_key.create(path, SimEntropy(2))
    assert recovery_key.read(path) == key
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("-----BEGIN SOMETHING-----\n")
    with pytest.raises(InvalidArgumentError):
        recovery_key.read(path)


def test_the_newest_generation_seen_only_grows_and_belongs_to_one_ca(home: Path) -> None:
    context = contexts.flat(home / "keys")
    context.directory.mkdir()
    mine, other = b"mine", b"other"
    for generation, expected in ((3, 3), (2, 3), (7, 7)):
        recovery_key.remember_generation(context, mine, generation)
        known = recovery_key.known_generation(context, hashlib.sha256(mine).digest())
        assert known == expected
    assert recovery_key.known_generation(context, hashlib.sha256(other).digest()) == 0
    (context.directory / "backup-generation").write_text("nonsense")
    assert recovery_key.known_generation(context, hashlib.sha256(mine).digest()) == 0


def test_a_download_that_breaks_off_leaves_nothing(home: Path) -> None:
    async def breaks_off(write: backups.Write) -> None:
        write(b"half")
        raise FailedPreconditionError("broken off")

    with pytest.raises(FailedPreconditionError, match="broken off"):
        asyncio.run(backups.write_new(home / "file", breaks_off))
    assert [path.name for path in home.iterdir()] == []


def test_a_file_that_exists_is_never_overwritten(home: Path) -> None:
    async def produce(write: backups.Write) -> None:
        write(b"new")

    (home / "file").write_text("old")
    with pytest.raises(FailedPreconditionError, match="exists already"):
        asyncio.run(backups.write_new(home / "file", produce))
    assert (home / "file").read_text() == "old"


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800), ("6h", 21600), ("1d", 86400)])
def test_intervals_are_understood(text: str, seconds: int) -> None:
    assert parse_interval_s(text) == seconds


@pytest.mark.parametrize("text", ["", "6", "h", "-1h", "1.5h", "6x", "1234567d", "²h"])
def test_what_is_no_interval_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        parse_interval_s(text)
