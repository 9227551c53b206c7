# SPDX-License-Identifier: Apache-2.0
"""An authority in a directory, for whoever has none: certificates of the server and its clients.

    authority.pem      what both sides trust
    authority.key      the authority itself, key and certificate; for the owner only
    <name>.pem, .key   one side

A site with an authority of its own names its files instead, and nothing of this exists.
"""

import os
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from metropolis.base.errors import UnavailableError
from metropolis.rpc.grpc.mutual import MutualTls

AUTHORITY_LIFE: Final = timedelta(days=3650)
LIFE: Final = timedelta(days=365)
BACKDATED: Final = timedelta(hours=1)  # clocks of machines that just started are behind


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whom a certificate names.

    Attributes:
        name: CN: `server`, `machine`, or a component of a partition.
        partition_id: OU of an agent.
        hosts: Names and addresses under which a server is reached.
    """

    name: str
    partition_id: str = ""
    hosts: tuple[str, ...] = ()

    @property
    def file_name(self) -> str:
        """Of its files, without what they end in."""
        return f"{self.partition_id}-{self.name}" if self.partition_id else self.name


def issue(directory: Path, subject: Subject, *, now: datetime) -> MutualTls:
    """Write a new key and certificate for a subject, and return the files that it uses.

    The authority is made when there is none. What the subject had before goes on to be good.

    Raises:
        UnavailableError: the directory cannot be written.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        authority_key, authority = _authority(directory, now)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _sign(subject, key.public_key(), authority, authority_key, now)
        files = MutualTls(
            certificate=str(directory / f"{subject.file_name}.pem"),
            key=str(directory / f"{subject.file_name}.key"),
            authority=str(directory / "authority.pem"),
        )
        _write(Path(files.key), _key_pem(key), mode=0o600)
        _write(Path(files.certificate), _pem(certificate), mode=0o644)
    except OSError as cause:
        raise UnavailableError(
            f"certificates cannot be kept in {directory}: {cause.strerror}",
            remedy="Check the directory, or name certificates of an authority of your own.",
        ) from cause
    return files


def _authority(
    directory: Path, now: datetime
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    path = directory / "authority.key"
    if not path.exists():
        _create(path, _new_authority(now))
    data = path.read_bytes()
    key = serialization.load_pem_private_key(data, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey), "as it was written"
    certificate = x509.load_pem_x509_certificate(data)
    _write(directory / "authority.pem", _pem(certificate), mode=0o644)
    return key, certificate


def _new_authority(now: datetime) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Metal")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(is_authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _key_pem(key) + _pem(certificate)


def _sign(
    subject: Subject,
    key: ec.EllipticCurvePublicKey,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> x509.Certificate:
    names = [x509.NameAttribute(NameOID.COMMON_NAME, subject.name)]
    if subject.partition_id:
        unit = NameOID.ORGANIZATIONAL_UNIT_NAME
        names.append(x509.NameAttribute(unit, subject.partition_id))
    usage = ExtendedKeyUsageOID.SERVER_AUTH if subject.hosts else ExtendedKeyUsageOID.CLIENT_AUTH
    public = authority_key.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(names))
        .issuer_name(authority.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(min(now + LIFE, authority.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(is_authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
    )
    if subject.hosts:
        hosts = [_general_name(host) for host in dict.fromkeys(subject.hosts)]
        builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
    return builder.sign(authority_key, hashes.SHA256())


def _general_name(host: str) -> x509.GeneralName:
    address: IPv4Address | IPv6Address
    try:
        address = ip_address(host)
    except ValueError:
        return x509.DNSName(host)
    return x509.IPAddress(address)


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _create(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read, unless somebody else was first."""
    written = _beside(path, data, mode=0o600)
    try:
        os.link(written, path)
    except FileExistsError:
        pass
    finally:
        written.unlink()


def _write(path: Path, data: bytes, *, mode: int) -> None:
    """Replace a file at once: nobody ever reads half of it."""
    _beside(path, data, mode=mode).replace(path)


def _beside(path: Path, data: bytes, *, mode: int) -> Path:
    written = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return written
