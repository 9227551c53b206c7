# SPDX-License-Identifier: Apache-2.0
"""Where each entity is in the API, and what names one. Light: completion reads it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Of one entity.

    Attributes:
        path: Of all of them.
        key: Dotted path of the id in a document.
        hint: Dotted path of what explains an id to people.
    """

    path: str
    key: str = "id"
    hint: str = "description"


PLACES: Final[Mapping[str, Place]] = {
    "filesystemlayout": Place(path="/v1/filesystemlayout"),
    "firewall": Place(path="/v1/firewall", hint="allocation.hostname"),
    "image": Place(path="/v1/image", hint="classification"),
    "machine": Place(path="/v1/machine", hint="allocation.hostname"),
    "network": Place(path="/v1/network", hint="name"),
    "network ip": Place(path="/v1/ip", key="ipaddress", hint="name"),
    "partition": Place(path="/v1/partition"),
    "project": Place(path="/v1/project", key="meta.id", hint="name"),
    "size": Place(path="/v1/size"),
    "size imageconstraint": Place(path="/v1/size-image-constraint"),
    "size reservation": Place(path="/v1/size/reservations"),
    "switch": Place(path="/v1/switch", hint="rack_id"),
    "tenant": Place(path="/v1/tenant", key="meta.id", hint="name"),
    "token": Place(path="/v1/token"),
}
