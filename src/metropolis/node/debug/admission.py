# SPDX-License-Identifier: Apache-2.0
"""Admits the owner of the cluster. The methods carry no policy: upstream serves them to anybody."""

from dataclasses import replace
from typing import Any

from metropolis.api.methods import Method
from metropolis.base.errors import PermissionDeniedError
from metropolis.pki.certificates import OWNER
from metropolis.rpc.peer import Peer, PeerKind
from metropolis.rpc.transport import Authenticator


class OnlyOwner:
    """An `Authenticator` on top of another, which judges certificates, dates and revocation."""

    def __init__(self, judge: Authenticator) -> None:
        self._judge = judge

    @property
    def ca_certificate(self) -> bytes | None:
        """DER of the cluster CA."""
        return self._judge.ca_certificate

    def authenticate(
        self, method: Method[Any, Any], certificate: bytes | None, address: str
    ) -> Peer:
        """Judge a call.

        Raises:
            UnauthenticatedError: the caller is no member of the cluster.
            PermissionDeniedError: it is another one than the owner.
        """
        any_member = replace(method, needs=(), allow_unauthenticated=False, requires=())
        peer = self._judge.authenticate(any_member, certificate, address)
        if peer.kind is not PeerKind.USER or peer.identity != OWNER:
            raise PermissionDeniedError(
                f"only the owner may debug a node, not {peer.kind.value} {peer.identity}",
                remedy="Connect with the owner's certificate.",
            )
        return peer
