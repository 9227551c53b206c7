# SPDX-License-Identifier: Apache-2.0
"""Who subscribes, as its certificate says, and what it may read.

    CN=<component>, OU=<partition>       reads the topic of that partition and nothing else
    CN=<component>, O=metal-control-plane  reads the topic of allocations

Whoever has neither, as machines, reads nothing. A component is one subscriber: its position in a
topic is its own, and its newest stream replaces the one before.
"""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID
from msgspec import Struct

from metropolis.base.errors import PermissionDeniedError
from metropolis.metal.model.message import ALLOCATION_TOPIC, machine_topic
from metropolis.metal.rules.entity_ids import check_id
from metropolis.metal.store import Kind

BMC_AGENT: Final = "bmc-agent"  # the component that is told how to log in at BMCs
CONTROL_PLANE: Final = "metal-control-plane"


class Subscription(Struct, frozen=True, kw_only=True):
    """That a stream reads a topic for a subscriber, under the id of both.

    Attributes:
        session: Of the newest stream, made up by whoever serves it.
    """

    session: str
    since: datetime


SUBSCRIPTIONS = Kind(name="subscription", type=Subscription)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscriber:
    """Who subscribes.

    Attributes:
        partition_id: Where it is; empty for the control plane itself.
    """

    component: str
    partition_id: str

    @property
    def topic(self) -> str:
        """The topic that it may read."""
        return machine_topic(self.partition_id) if self.partition_id else ALLOCATION_TOPIC

    @property
    def sees_secrets(self) -> bool:
        """Whether it is told how to log in at the BMCs of its partition."""
        return self.component == BMC_AGENT and self.partition_id != ""

    @property
    def subscription_id(self) -> str:
        """Under which its subscription is stored."""
        return f"{self.topic}\x1f{self.component}"

    def check_topic(self, topic: str) -> None:
        """Refuse a topic that is not its own; empty means that one.

        Raises:
            PermissionDeniedError: it is somebody else's.
        """
        if topic not in {"", self.topic}:
            raise PermissionDeniedError(
                f"topic: {self.component} may read {self.topic}, and nothing else",
                remedy="Leave the topic out, or use the certificate of the partition it is of.",
            )


@lru_cache(maxsize=1024)
def read_subscriber(certificate: bytes) -> Subscriber:
    """Read who shows a certificate (DER) that TLS let pass.

    Raises:
        PermissionDeniedError: it is nobody who subscribes.
        InvalidArgumentError: its component or its partition cannot be called so.
    """
    subject = x509.load_der_x509_certificate(certificate).subject
    components, partitions, organizations = (
        [str(each.value) for each in subject.get_attributes_for_oid(kind)]
        for kind in (
            NameOID.COMMON_NAME,
            NameOID.ORGANIZATIONAL_UNIT_NAME,
            NameOID.ORGANIZATION_NAME,
        )
    )
    is_control_plane = not partitions and organizations == [CONTROL_PLANE]
    if len(components) != 1 or not (len(partitions) == 1 or is_control_plane):
        raise PermissionDeniedError(
            "the certificate names no component (CN) of one partition (OU)",
            remedy="Subscribe with a certificate that was issued to an agent of the partition.",
        )
    return Subscriber(
        component=check_id("component", components[0]),
        partition_id=check_id("partition", partitions[0]) if partitions else "",
    )
