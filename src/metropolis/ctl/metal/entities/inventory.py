# SPDX-License-Identifier: Apache-2.0
"""Images, filesystem layouts and partitions."""

from collections.abc import Mapping
from typing import Any, Final

from metropolis.ctl.metal.cells import Json
from metropolis.ctl.metal.entity import Entity
from metropolis.ctl.metal.flags import switch_flag, text_flag, texts_flag
from metropolis.ctl.metal.tables import inventory

_NAMED: Final = frozenset({"name", "description"})
_IMAGE_FIELDS: Final = _NAMED | {"url", "classification", "expirationDate", "features"}
_FEATURES: Final = ("machine", "firewall")
_CLASSES: Final = ("preview", "supported", "deprecated")
_LAYOUT_FIELDS: Final = _NAMED | {
    "constraints",
    "disks",
    "filesystems",
    "logicalvolumes",
    "raid",
    "volumegroups",
}
_PARTITION_FIELDS: Final = _NAMED | {
    "bootconfig",
    "dns_servers",
    "labels",
    "mgmtserviceaddress",
    "ntp_servers",
}

IMAGE: Final = Entity(
    words="image",
    noun="image",
    tabulate=inventory.images,
    find="/v1/image/find",
    list_flags=(
        text_flag(
            "classification",
            "Preview, supported or deprecated.",
            "classification",
            choices=_CLASSES,
        ),
        text_flag(
            "features",
            "What it is for: machine or firewall.",
            "features",
            is_listed=True,
            choices=_FEATURES,
        ),
        text_flag("id", "Id of the image.", "id", completes="image"),
        text_flag("name", "Name.", "name"),
        text_flag("os", "Operating system, such as ubuntu.", "os"),
        text_flag("version", "Version, such as 24.04.", "version"),
    ),
    query_flags=(switch_flag("show-usage", "Count the machines that use each.", "show-usage"),),
    create_flags=(
        text_flag("description", "Description.", "description"),
        texts_flag("features", "What it is for: machine, firewall.", "features", choices=_FEATURES),
        text_flag("id", "Id, such as ubuntu-24.04.20261110.", "id", is_required=True),
        text_flag("name", "Name.", "name"),
        text_flag("url", "Where machines load it from.", "url", is_required=True),
    ),
    create_fields=_IMAGE_FIELDS,
    update_fields=_IMAGE_FIELDS,
    read_only=frozenset({"usedby"}),
    sort_keys={
        "id": "id",
        "name": "name",
        "description": "description",
        "classification": "classification",
        "expiration": "expirationDate",
    },
)

LAYOUT: Final = Entity(
    words="filesystemlayout",
    noun="filesystem layout",
    tabulate=inventory.layouts,
    create_fields=_LAYOUT_FIELDS,
    update_fields=_LAYOUT_FIELDS,
    sort_keys={"id": "id", "name": "name", "description": "description"},
)


def _complete_boot(body: Json, _given: Mapping[str, Any]) -> None:
    body.setdefault("bootconfig", {})


PARTITION: Final = Entity(
    words="partition",
    noun="partition",
    tabulate=inventory.partitions,
    create_flags=(
        text_flag(
            "cmdline", "Kernel command line of machines that boot.", "bootconfig.commandline"
        ),
        text_flag("description", "Description.", "description"),
        texts_flag("dnsservers", "Addresses of DNS servers.", "dns_servers", record="ip"),
        text_flag("id", "Id of the partition.", "id", is_required=True),
        text_flag("imageurl", "Where machines load the boot image from.", "bootconfig.imageurl"),
        text_flag("kernelurl", "Where machines load the boot kernel from.", "bootconfig.kernelurl"),
        text_flag(
            "mgmtserver",
            "Where its consoles are served.",
            "mgmtserviceaddress",
            metavar="HOST:PORT",
        ),
        text_flag("name", "Name.", "name"),
        texts_flag("ntpservers", "Addresses of NTP servers.", "ntp_servers", record="address"),
    ),
    create_fields=_PARTITION_FIELDS,
    update_fields=_PARTITION_FIELDS,
    finish_create=_complete_boot,
    sort_keys={"id": "id", "name": "name", "description": "description"},
)
