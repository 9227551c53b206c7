# SPDX-License-Identifier: Apache-2.0
"""Certificates for who has no authority."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from metropolis.base.errors import InvalidArgumentError, PermissionDeniedError, UnavailableError
from metropolis.metal.boot.authority import LIFE, Subject, issue
from metropolis.metal.messages.subscribers import Subscriber, read_subscriber

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def certificate(path: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(Path(path).read_bytes())


def test_keys_are_for_their_owner_only_and_the_authority_stays(tmp_path: Path) -> None:
    directory = tmp_path / "grpc"
    first = issue(directory, Subject(name="machine"), now=NOW)
    authority = Path(first.authority).read_bytes()
    key = Path(first.key).read_bytes()
    again = issue(directory, Subject(name="machine"), now=NOW)
    server = issue(directory, Subject(name="server", hosts=("localhost", "::1")), now=NOW)
    assert Path(again.authority).read_bytes() == authority
    assert Path(again.key).read_bytes() != key
    assert directory.stat().st_mode & 0o777 == 0o700
    keys = sorted(directory.glob("*.key"))
    assert [each.name for each in keys] == ["authority.key", "machine.key", "server.key"]
    assert {each.stat().st_mode & 0o777 for each in keys} == {0o600}
    assert not list(directory.glob(".*"))
    root = certificate(server.authority)
    for files in (again, server):
        leaf = certificate(files.certificate)
        leaf.verify_directly_issued_by(root)
        assert leaf.not_valid_after_utc == NOW + LIFE
    names = certificate(server.certificate).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert names.value.get_values_for_type(x509.DNSName) == ["localhost"]


def test_many_that_begin_at_once_have_one_authority(tmp_path: Path) -> None:
    def begin(number: int) -> bytes:
        files = issue(tmp_path, Subject(name=f"agent{number}"), now=NOW)
        leaf = certificate(files.certificate)
        leaf.verify_directly_issued_by(certificate(files.authority))
        return Path(files.authority).read_bytes()

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(begin, range(8)))) == 1


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match="file"):
        issue(tmp_path / "file" / "grpc", Subject(name="machine"), now=NOW)


@pytest.mark.parametrize(
    ("subject", "topic"),
    [
        (Subject(name="bmc-agent", partition_id="fra-1"), "fra-1-machine"),
        (Subject(name="bmc-agent"), None),
        (Subject(name="machine"), None),
    ],
)
def test_who_is_in_no_partition_subscribes_to_nothing(
    tmp_path: Path, subject: Subject, topic: str | None
) -> None:
    files = issue(tmp_path, subject, now=NOW)
    der = certificate(files.certificate).public_bytes(Encoding.DER)
    if topic is None:
        with pytest.raises(PermissionDeniedError, match="names no component"):
            read_subscriber(der)
    else:
        assert read_subscriber(der).topic == topic


def test_a_partition_is_called_as_partitions_are(tmp_path: Path) -> None:
    files = issue(tmp_path, Subject(name="bmc-agent", partition_id="a b"), now=NOW)
    with pytest.raises(InvalidArgumentError, match="partition"):
        read_subscriber(certificate(files.certificate).public_bytes(Encoding.DER))


def test_only_one_component_is_told_secrets_and_only_in_a_partition() -> None:
    for component, partition, wanted in (
        ("bmc-agent", "fra", True),
        ("bmc-agent", "", False),
        ("console", "fra", False),
    ):
        assert Subscriber(component=component, partition_id=partition).sees_secrets is wanted
