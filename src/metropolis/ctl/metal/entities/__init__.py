# SPDX-License-Identifier: Apache-2.0
"""The entities of the API, imported when one is needed: `entity_of("size reservation")`."""

from collections.abc import Mapping
from importlib import import_module
from typing import Final

from metropolis.ctl.metal.entity import Entity

_AT: Final = "metropolis.ctl.metal.entities"
_PLACES: Final[Mapping[str, str]] = {
    "filesystemlayout": "inventory:LAYOUT",
    "firewall": "machines:FIREWALL",
    "image": "inventory:IMAGE",
    "machine": "machines:MACHINE",
    "network": "networks:NETWORK",
    "network ip": "networks:IP",
    "partition": "inventory:PARTITION",
    "project": "books:PROJECT",
    "size": "sizes:SIZE",
    "size imageconstraint": "sizes:CONSTRAINT",
    "size reservation": "sizes:RESERVATION",
    "switch": "networks:SWITCH",
    "tenant": "books:TENANT",
    "token": "books:TOKEN",
}
ENTITIES: Final = tuple(_PLACES)


def entity_of(words: str) -> Entity:
    """Return an entity by the words of its commands."""
    module, _, attribute = _PLACES[words].partition(":")
    found = getattr(import_module(f"{_AT}.{module}"), attribute)
    assert isinstance(found, Entity)
    return found
