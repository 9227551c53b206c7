# SPDX-License-Identifier: Apache-2.0
"""Machines and firewalls."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from metropolis.base.errors import NotFoundError
from metropolis.ctl import files
from metropolis.ctl.metal.cells import Json, at, text
from metropolis.ctl.metal.client import Client, quoted
from metropolis.ctl.metal.documents import parse_documents
from metropolis.ctl.metal.entity import Entity
from metropolis.ctl.metal.flags import Flag, readded, split, text_flag, texts_flag
from metropolis.ctl.metal.tables import machines

_SHARED: Final = (
    text_flag("hostname", "Hostname.", "allocation_hostname"),
    text_flag("id", "Id of the machine.", "id", completes="machine"),
    text_flag("image", "Image that it runs.", "allocation_image_id", completes="image"),
    text_flag("mac", "MAC address of a network card.", "nics_mac_addresses", is_listed=True),
    text_flag("name", "Name.", "allocation_name"),
    text_flag("partition", "Partition.", "partition_id", completes="partition"),
    text_flag("project", "Project.", "allocation_project", completes="project"),
    text_flag("size", "Size.", "sizeid", completes="size"),
    texts_flag("tags", "With all of these tags.", "tags"),
)
THRESHOLD: Final = Flag(
    name="last-event-error-threshold",
    help="How long the last error event is worth a mark, such as 36h.",
    default="7d",
    metavar="DURATION",
)
SEARCH_FLAGS: Final = (
    *_SHARED,
    text_flag("bmc-address", "Address of the BMC.", "ipmi_address"),
    text_flag("bmc-mac", "MAC address of the BMC.", "ipmi_mac_address"),
    text_flag("board-part-number", "Part number of the board.", "fru_board_part_number"),
    text_flag("chassis-part-number", "Part number of the chassis.", "fru_chassis_part_number"),
    text_flag("chassis-part-serial", "Serial of the chassis.", "fru_chassis_part_serial"),
    text_flag("manufacturer", "Manufacturer.", "fru_product_manufacturer"),
    texts_flag(
        "network-destination-prefixes", "What its networks lead to.", "network_destination_prefixes"
    ),
    texts_flag("network-ids", "In all of these networks.", "network_ids", completes="network"),
    texts_flag("network-ips", "With all of these addresses.", "network_ips"),
    text_flag("product-part-number", "Part number of the product.", "fru_product_part_number"),
    text_flag("product-serial", "Serial of the product.", "fru_product_serial"),
    text_flag("rack", "Rack.", "rackid"),
    text_flag("role", "machine or firewall.", "allocation_role", choices=("machine", "firewall")),
    text_flag("state", "LOCKED or RESERVED.", "state_value", choices=("LOCKED", "RESERVED")),
    THRESHOLD,
)
CREATE_FLAGS: Final = (
    text_flag("description", "Description.", "description"),
    texts_flag(
        "dnsservers",
        "Addresses of DNS servers; default: the partition's.",
        "dns_servers",
        record="ip",
    ),
    text_flag(
        "filesystemlayout",
        "Layout of its disks; default: what fits.",
        "filesystemlayoutid",
        completes="filesystemlayout",
    ),
    text_flag("hostname", "Hostname.", "hostname"),
    text_flag("id", "This very machine.", "uuid", completes="machine"),
    text_flag("image", "Image to install.", "imageid", completes="image", is_required=True),
    texts_flag("ips", "Addresses that are yours already.", "ips", completes="network ip"),
    text_flag("name", "Name.", "name"),
    texts_flag("networks", "Networks; NETWORK:noauto takes no address of it.", completes="network"),
    texts_flag(
        "ntpservers",
        "Addresses of NTP servers; default: the partition's.",
        "ntp_servers",
        record="address",
    ),
    text_flag("partition", "Partition.", "partitionid", completes="partition"),
    text_flag("project", "For whom.", "projectid", completes="project", is_required=True),
    text_flag("size", "Size.", "sizeid", completes="size"),
    text_flag(
        "sshpublickey", "Public key, or @FILE with one; default: yours of ~/.ssh.", metavar="KEY"
    ),
    texts_flag("tags", "Tags.", "tags"),
    text_flag("userdata", "What cloud-init or ignition gets, or @FILE with it.", metavar="TEXT"),
)
_REQUEST: Final = frozenset(
    {
        *("description", "dns_servers", "filesystemlayoutid", "hostname", "imageid", "ips"),
        *("name", "networks", "ntp_servers", "partitionid", "placement_tags", "projectid"),
        *("sizeid", "ssh_pub_keys", "tags", "user_data", "uuid"),
    }
)
_MANUAL: Final = ":noauto"
_KEYS: Final = ("id_ed25519", "id_ecdsa", "id_rsa")
_SORT: Final = {
    "id": "id",
    "age": "allocation.created",
    "event": "events.log",
    "when": "events.last_event_time",
    "hostname": "allocation.hostname",
    "image": "allocation.image.id",
    "liveliness": "liveliness",
    "name": "allocation.name",
    "partition": "partition.id",
    "project": "allocation.project",
    "rack": "rackid",
    "size": "size.id",
}


def _free(client: Client, key: str) -> Any:  # noqa: ANN401  # JSON
    return client.call("DELETE", f"/v1/machine/{quoted(key)}/free")


def _allocate(client: Client, body: Json) -> Any:  # noqa: ANN401  # JSON
    return client.call("POST", "/v1/machine/allocate", _identified(body))


def _allocate_firewall(client: Client, body: Json) -> Any:  # noqa: ANN401  # JSON
    return client.call("POST", "/v1/firewall/allocate", _identified(body))


def _identified(body: Json) -> Json:
    """A file names the machine by `id`, as it is printed; the request wants `uuid`."""
    wanted = {key: value for key, value in body.items() if key != "id"}
    return {"uuid": body["id"], **wanted} if body.get("id") else wanted


def as_request(document: Json) -> Json:
    """Turn what `describe` prints into what may be changed of it."""
    if "hardware" not in document:
        return document
    found: dict[str, Any] = {
        "id": document.get("id"),
        "description": document.get("description") or text(document, "allocation.description"),
        "tags": document.get("tags") or [],
        "ssh_pub_keys": at(document, "allocation.ssh_pub_keys") or [],
    }
    return found


def finish(body: Json, given: Mapping[str, Any]) -> None:
    """Add networks, keys, user data and rules to the body that flags make.

    Raises:
        NotFoundError: a file that a flag names is not there.
    """
    named: list[str] = split(given.get("networks_value"))
    if named:
        body["networks"] = [
            {"networkid": each.removesuffix(_MANUAL), "autoacquire": not each.endswith(_MANUAL)}
            for each in named
        ]
    key: str = given.get("sshpublickey_value") or ""
    if key := _content(key) if key else _own_key():
        body["ssh_pub_keys"] = [line for line in key.splitlines() if line.strip()]
    data: str = given.get("userdata_value") or ""
    if data:
        body["user_data"] = _content(data)
    rules: str = given.get("firewall_rules_file_value") or ""
    if rules:
        [body["firewall_rules"]] = parse_documents(_content(f"@{rules}"), where=rules)[:1]


def _content(text: str) -> str:
    """Return a text, or what is in the file that it names with `@`."""
    if not text.startswith("@"):
        return text
    found = files.read(Path(text[1:]))
    if found is None:
        raise NotFoundError(f"there is no file {text[1:]}", remedy="Correct the path behind @.")
    return found


def _own_key() -> str:
    """Return the public key of whoever calls; empty when there is none."""
    directory = Path(os.environ.get("HOME") or "/") / ".ssh"
    found = (files.read(directory / f"{name}.pub") for name in _KEYS)
    return next(filter(None, found), "")


def retagged(current: Json, given: Mapping[str, Any], body: Json) -> None:
    """Add and remove tags as the flags of `machine update` say."""
    tags = readded(current.get("tags") or [], given, "tags")
    if tags is not None:
        body["tags"] = tags


MACHINE: Final = Entity(
    words="machine",
    noun="machine",
    tabulate=machines.machines,
    find="/v1/machine/find",
    list_flags=SEARCH_FLAGS,
    create_flags=CREATE_FLAGS,
    update_flags=(
        texts_flag("add-tags", "Tags to add."),
        text_flag("description", "Description.", "description"),
        texts_flag("remove-tags", "Tags to remove."),
    ),
    create_fields=_REQUEST,
    update_fields=frozenset({"description", "ssh_pub_keys", "tags"}),
    create=_allocate,
    finish_create=finish,
    delete=_free,
    as_request=as_request,
    sort_keys=_SORT,
)

FIREWALL: Final = Entity(
    words="firewall",
    noun="firewall",
    tabulate=machines.firewalls,
    find="/v1/firewall/find",
    list_flags=_SHARED,
    create_flags=(
        *CREATE_FLAGS,
        text_flag(
            "firewall-rules-file", "YAML file with egress and ingress rules.", metavar="FILE"
        ),
    ),
    create_fields=_REQUEST | {"firewall_rules"},
    create=_allocate_firewall,
    finish_create=finish,
    as_request=as_request,
    sort_keys=_SORT,
)
