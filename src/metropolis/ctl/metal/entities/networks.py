# SPDX-License-Identifier: Apache-2.0
"""Networks, addresses and switches."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from metropolis.ctl.metal.cells import Json, text
from metropolis.ctl.metal.client import Client, quoted
from metropolis.ctl.metal.entity import Entity
from metropolis.ctl.metal.flags import (
    number_flag,
    pairs_flag,
    readded,
    switch_flag,
    text_flag,
    texts_flag,
)
from metropolis.ctl.metal.tables import networks

FAMILIES: Final = ("IPv4", "IPv6")
MACHINE_TAG: Final = "machine.metal-stack.io/id"
_PROJECT: Final = text_flag("project", "Project.", "projectid", completes="project")
_PARTITION: Final = text_flag("partition", "Partition.", "partitionid", completes="partition")
_FAMILY: Final = text_flag("addressfamily", "IPv4 or IPv6.", "addressfamily", choices=FAMILIES)
_NAME: Final = text_flag("name", "Name.", "name")
_DESCRIPTION: Final = text_flag("description", "Description.", "description")
_TYPES: Final = ("ephemeral", "static")
_NAMED: Final = frozenset({"name", "description"})
_CHANGING: Final = _NAMED | {
    "additionalAnnouncableCIDRs",
    "defaultchildprefixlength",
    "destinationprefixes",
    "labels",
    "prefixes",
    "shared",
}

NETWORK: Final = Entity(
    words="network",
    noun="network",
    tabulate=networks.networks,
    find="/v1/network/find",
    list_flags=(
        _FAMILY,
        texts_flag("destination-prefixes", "What it leads to.", "destinationprefixes"),
        text_flag("id", "Id of the network.", "id", completes="network"),
        _NAME,
        switch_flag("nat", "Those that translate addresses.", "nat"),
        text_flag("parent", "What it was cut from.", "parentnetworkid", completes="network"),
        _PARTITION,
        texts_flag("prefixes", "Its prefixes.", "prefixes"),
        switch_flag("privatesuper", "Those that private networks are cut from.", "privatesuper"),
        _PROJECT,
        switch_flag("underlay", "Those between switches.", "underlay"),
        number_flag("vrf", "Its VRF.", "vrf"),
    ),
    create_flags=(
        texts_flag(
            "additional-announcable-cidrs",
            "What machines of a super network's children may announce beside their addresses.",
            "additionalAnnouncableCIDRs",
        ),
        number_flag(
            "default-ipv4-child-prefix-length",
            "Bits of a child's IPv4 prefix, of a super network.",
            "defaultchildprefixlength.IPv4",
        ),
        number_flag(
            "default-ipv6-child-prefix-length",
            "Bits of a child's IPv6 prefix, of a super network.",
            "defaultchildprefixlength.IPv6",
        ),
        _DESCRIPTION,
        texts_flag("destination-prefixes", "What it leads to.", "destinationprefixes"),
        text_flag("id", "Id; one is made when none is given.", "id"),
        pairs_flag("labels", "Labels.", "labels"),
        _NAME,
        switch_flag("nat", "Firewalls translate addresses into it.", "nat"),
        _PARTITION,
        texts_flag("prefixes", "Its prefixes.", "prefixes", is_required=True),
        switch_flag("privatesuper", "Private networks are cut from it.", "privatesuper"),
        _PROJECT,
        switch_flag("underlay", "It is between switches.", "underlay"),
        number_flag("vrf", "Its VRF; one is chosen when none is given.", "vrf"),
        switch_flag("vrfshared", "Other networks may have the same VRF.", "vrfshared"),
    ),
    update_flags=(
        texts_flag("add-destinationprefixes", "Destination prefixes to add."),
        texts_flag("add-prefixes", "Prefixes to add."),
        texts_flag(
            "additional-announcable-cidrs",
            "What machines may announce besides; it replaces what there is.",
            "additionalAnnouncableCIDRs",
        ),
        _DESCRIPTION,
        pairs_flag("labels", "Labels; they replace those that there are.", "labels"),
        _NAME,
        texts_flag("remove-destinationprefixes", "Destination prefixes to remove."),
        texts_flag("remove-prefixes", "Prefixes to remove."),
        switch_flag("shared", "Let other projects use it, for good.", "shared"),
    ),
    create_fields=_CHANGING
    | {
        *("nat", "nattype", "networktype", "parentnetworkid", "partitionid"),
        *("privatesuper", "projectid", "underlay", "vrf", "vrfshared"),
    },
    update_fields=_CHANGING,
    read_only=frozenset({"consumption", "usage"}),
    sort_keys={
        "id": "id",
        "name": "name",
        "description": "description",
        "partition": "partitionid",
        "project": "projectid",
    },
)


def _allocate(client: Client, body: Json) -> Any:  # noqa: ANN401  # JSON
    """Take an address: the one that is named, or any."""
    wanted = {key: value for key, value in body.items() if key != "ipaddress"}
    address = text(body, "ipaddress")
    path = f"/v1/ip/allocate/{quoted(address)}" if address else "/v1/ip/allocate"
    return client.call("POST", path, wanted)


def _free(client: Client, key: str) -> Any:  # noqa: ANN401  # JSON
    return client.call("DELETE", f"/v1/ip/free/{quoted(key)}")


IP: Final = Entity(
    words="network ip",
    noun="IP address",
    tabulate=networks.addresses,
    find="/v1/ip/find",
    list_flags=(
        _FAMILY,
        text_flag("ipaddress", "The address.", "ipaddress", completes="network ip"),
        text_flag("machineid", "Of a machine.", "machineid", completes="machine"),
        _NAME,
        text_flag("network", "Of a network.", "networkid", completes="network"),
        text_flag("prefix", "Within a prefix.", "networkprefix"),
        _PROJECT,
        texts_flag("tags", "With all of these tags.", "tags"),
        text_flag("type", "Ephemeral or static.", "type", choices=_TYPES),
    ),
    create_flags=(
        _FAMILY,
        _DESCRIPTION,
        text_flag("ipaddress", "This very address; one is chosen when none is given.", "ipaddress"),
        _NAME,
        text_flag(
            "network", "Network that it is of.", "networkid", completes="network", is_required=True
        ),
        replace(_PROJECT, is_required=True),
        texts_flag("tags", "Tags.", "tags"),
        text_flag("type", "Static, or ephemeral: gone with its machine.", "type", choices=_TYPES),
    ),
    create_fields=_NAMED | {"addressfamily", "machineid", "networkid", "projectid", "tags", "type"},
    update_fields=_NAMED | {"tags", "type"},
    read_only=frozenset({"allocationuuid"}),
    create=_allocate,
    delete=_free,
    sort_keys={
        "id": "ipaddress",
        "ip": "ipaddress",
        "name": "name",
        "description": "description",
        "network": "networkid",
        "project": "projectid",
        "type": "type",
    },
)

SWITCH_FLAGS: Final = (
    text_flag("id", "Id of the switch.", "id", completes="switch"),
    _NAME,
    text_flag("os-vendor", "SONiC or Cumulus.", "osvendor", choices=("SONiC", "Cumulus")),
    text_flag("os-version", "Version of its operating system.", "osversion"),
    _PARTITION,
    text_flag("rack", "Rack that it is in.", "rackid"),
)


SWITCH: Final = Entity(
    words="switch",
    noun="switch",
    tabulate=networks.switches,
    find="/v1/switch/find",
    list_flags=SWITCH_FLAGS,
    update_fields=_NAMED
    | {
        *("console_command", "management_ip", "management_user", "mode"),
        *("os", "rack_id", "room_id"),
    },
    always_sent=frozenset({"rack_id"}),
    read_only=frozenset({"connections", "last_sync", "last_sync_error", "nics", "partition"}),
    sort_keys={
        "id": "id",
        "name": "name",
        "description": "description",
        "partition": "partition.id",
        "rack": "rack_id",
    },
)


def changed_prefixes(current: Json, given: Mapping[str, Any], body: Json) -> None:
    """Add and remove prefixes as the flags of `network update` say."""
    for field in ("prefixes", "destinationprefixes"):
        prefixes = readded(current.get(field) or [], given, field)
        if prefixes is not None:
            body[field] = prefixes
