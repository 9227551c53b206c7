# SPDX-License-Identifier: Apache-2.0
"""The authenticator of a node that may lead: whom the leader turns away, it remembers."""

from typing import Any

from metropolis.api.methods import Method
from metropolis.base.errors import PermissionDeniedError, UnauthenticatedError
from metropolis.cluster.office import Office, Presiding
from metropolis.rpc.authentication import PolicyAuthenticator
from metropolis.rpc.peer import Peer


class Doorman:
    """Judges as a `PolicyAuthenticator` does, and tells the leader's auditor of refusals."""

    def __init__(self, judge: PolicyAuthenticator, office: Office) -> None:
        self._judge = judge
        self._office = office

    @property
    def ca_certificate(self) -> bytes | None:
        """DER of the cluster CA, None while it is not known yet."""
        return self._judge.ca_certificate

    def authenticate(
        self, method: Method[Any, Any], certificate: bytes | None, address: str
    ) -> Peer:
        """Judge a call; see `PolicyAuthenticator.authenticate`."""
        try:
            return self._judge.authenticate(method, certificate, address)
        except (PermissionDeniedError, UnauthenticatedError) as error:
            view = self._office.view.current
            if isinstance(view, Presiding):
                caller = self._judge.identify(certificate, address)
                view.leader.auditor.refused(method, caller, error)
            raise

    def identify(self, certificate: bytes | None, address: str) -> Peer:
        """Say who holds a certificate; see `PolicyAuthenticator.identify`."""
        return self._judge.identify(certificate, address)
