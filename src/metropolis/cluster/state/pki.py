# SPDX-License-Identifier: Apache-2.0
"""The cluster's certificate authorities, kept in its store and nowhere else.

A CA's key is read for one signature and forgotten. Certificates are get-or-create: the same name
and key give the same bytes, so a repeated step of an enrolment repeats its answer.

    <prefix>keys/<name>-privkey.bin     64 bytes, seed || public
    <prefix>issued/<name>-cert.der
    <prefix><ca>-crl.der                serials of revoked certificates
"""

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from metropolis.base.errors import DataLossError, FailedPreconditionError, InvalidArgumentError
from metropolis.base.ids import NodeId
from metropolis.cluster.state import keys
from metropolis.cluster.state.fenced import (
    Change,
    FencedStore,
    Snapshot,
    is_absent,
    is_unchanged,
)
from metropolis.consensus.store import Delete, Get, KeyValue, Put
from metropolis.host import Entropy
from metropolis.pki.certificates import Authority, build_crl, new_serial, serial_number
from metropolis.pki.identity import verify_ca
from metropolis.pki.keys import from_go_form, to_go_form
from metropolis.pki.reading import read_certificate

OWNER_NAME: Final = "owner"

# Signs a certificate with a serial number; the rest it knows already.
Issue = Callable[[Authority, int], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class PkiNamespace:
    """Where one CA and what it issued lie."""

    prefix: bytes
    ca_name: str

    def key(self, name: str) -> bytes:
        """Key of a private key."""
        return self.prefix + f"keys/{name}-privkey.bin".encode("ascii")

    def certificate(self, name: str) -> bytes:
        """Key of a certificate."""
        return self.prefix + f"issued/{name}-cert.der".encode("ascii")

    @property
    def crl(self) -> bytes:
        """Key of the CA's list of revoked certificates."""
        return self.prefix + f"{self.ca_name}-crl.der".encode("ascii")


CLUSTER: Final = PkiNamespace(prefix=keys.CLUSTER_PKI, ca_name="cluster-ca")
CONSENSUS: Final = PkiNamespace(prefix=keys.CONSENSUS_PKI, ca_name="CA")


def node_name(node_id: NodeId) -> str:
    """Name of a node's certificate in the cluster's PKI."""
    return f"node-{node_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate (DER) and the change that stores it; empty when it is stored already."""

    certificate: bytes
    change: Change


def creation(
    namespace: PkiNamespace, authority: Authority, certificates: Sequence[tuple[str, bytes]]
) -> Change:
    """Return the change that a new CA is born with, together with what it issued first."""
    ca_key = namespace.key(namespace.ca_name)
    ca_certificate = namespace.certificate(namespace.ca_name)
    return Change(
        compares=(is_absent(ca_key), is_absent(ca_certificate)),
        operations=(
            Put(ca_key, to_go_form(authority.key)),
            Put(ca_certificate, authority.certificate),
            Put(namespace.crl, build_crl(authority, (), number=1)),
            *(Put(namespace.certificate(name), der) for name, der in certificates),
        ),
    )


class StoredPki:
    """One CA as a leader uses it."""

    def __init__(self, store: FencedStore, namespace: PkiNamespace, entropy: Entropy) -> None:
        self._store = store
        self._namespace = namespace
        self._entropy = entropy

    async def ca_certificate(self) -> bytes:
        """Return the CA's certificate (DER).

        Raises:
            DataLossError: there is none.
        """
        snapshot = await self._store.read(Get(self._certificate_key(self._namespace.ca_name)))
        return self._require(snapshot.one(0), "certificate").value

    async def crl(self) -> bytes:
        """Return the list of revoked certificates (DER); empty bytes when there is none."""
        found = (await self._store.read(Get(self._namespace.crl))).one(0)
        return b"" if found is None else found.value

    async def issue(self, name: str, public_key: bytes, sign: Issue) -> Issued:
        """Return the stored certificate of that name, or a new one with the change to store it.

        Raises:
            FailedPreconditionError: the stored one is for another key.
            DataLossError: the CA, or the stored certificate, is missing or damaged.
        """
        key = self._certificate_key(name)
        snapshot = await self._store.read(Get(key), *self._ca_gets())
        stored = snapshot.one(0)
        if stored is not None:
            _check_key(name, stored.value, public_key)
            return Issued(certificate=stored.value, change=Change())
        authority = self._authority(snapshot, 1)
        certificate = sign(authority, new_serial(self._entropy))
        return Issued(
            certificate=certificate,
            change=Change(compares=(is_absent(key),), operations=(Put(key, certificate),)),
        )

    async def sign(self, sign: Issue) -> bytes:
        """Return a new certificate (DER), which the caller keeps or forgets.

        Raises:
            DataLossError: the CA is missing or damaged.
        """
        authority = self._authority(await self._store.read(*self._ca_gets()), 0)
        return sign(authority, new_serial(self._entropy))

    async def revoke(self, name: str) -> Change | None:
        """Return the change that revokes a certificate and forgets it, or None without one."""
        key = self._certificate_key(name)
        snapshot = await self._store.read(Get(key), Get(self._namespace.crl), *self._ca_gets())
        stored, old_list = snapshot.one(0), snapshot.one(1)
        if stored is None:
            return None
        authority = self._authority(snapshot, 2)
        serials, number = _crl_of(old_list)
        renewed = build_crl(authority, (*serials, serial_number(stored.value)), number=number + 1)
        return Change(
            compares=(
                is_unchanged(key, stored.mod_revision),
                is_unchanged(self._namespace.crl, old_list.mod_revision if old_list else 0),
            ),
            operations=(Put(self._namespace.crl, renewed), Delete(key)),
        )

    def _certificate_key(self, name: str) -> bytes:
        return self._namespace.certificate(name)

    def _ca_gets(self) -> tuple[Get, Get]:
        name = self._namespace.ca_name
        return Get(self._namespace.key(name)), Get(self._namespace.certificate(name))

    def _authority(self, snapshot: Snapshot, index: int) -> Authority:
        key = self._require(snapshot.one(index), "key")
        certificate = self._require(snapshot.one(index + 1), "certificate")
        try:
            signs = from_go_form(key.value)
        except InvalidArgumentError as cause:
            raise self._lost("key") from cause
        try:
            verify_ca(certificate.value)
        except InvalidArgumentError as cause:
            raise self._lost("certificate") from cause
        return Authority(certificate=certificate.value, key=signs)

    def _require(self, found: KeyValue | None, what: str) -> KeyValue:
        if found is None:
            raise self._lost(what)
        return found

    def _lost(self, what: str) -> DataLossError:
        return DataLossError(
            f"the {what} of {self._namespace.ca_name} is missing or damaged in the store",
            remedy="Restore the store from a backup: nothing can be issued without it.",
        )


def _check_key(name: str, certificate: bytes, public_key: bytes) -> None:
    try:
        found = read_certificate(certificate).public_key
    except InvalidArgumentError as cause:
        raise DataLossError(
            f"the stored certificate of {name} is damaged",
            remedy="Delete the node with `metroctl node delete` and install its machine again.",
        ) from cause
    if found is None or not hmac.compare_digest(found, public_key):
        raise FailedPreconditionError(
            f"the stored certificate of {name} was emitted for a different public key",
            remedy="Use the key that the certificate was first issued for.",
        )


def read_crl(crl: bytes) -> tuple[tuple[int, ...], int]:
    """Return the serials on a list of revoked certificates (DER), and its number.

    Raises:
        ValueError: it is none.
    """
    listed = x509.load_der_x509_crl(crl)
    try:
        number = listed.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound as cause:
        raise ValueError("a list without a number") from cause
    return tuple(entry.serial_number for entry in listed), number


def _crl_of(stored: KeyValue | None) -> tuple[tuple[int, ...], int]:
    """Return what a stored list says; a missing or damaged one is started anew."""
    if stored is None:
        return (), 0
    try:
        return read_crl(stored.value)
    except ValueError:
        return (), stored.version
