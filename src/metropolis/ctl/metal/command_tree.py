# SPDX-License-Identifier: Apache-2.0
"""Every command of `metalctl`: one table, so that `--help` imports none of them."""

from typing import Final

from metropolis.ctl.command_line import Branch, Leaf

_AT: Final = "metropolis.ctl.metal.commands"
_MAKE: Final = "metropolis.ctl.metal.entity_commands:make"


def _verbs(words: str, one: str, many: str, verbs: str) -> dict[str, Branch | Leaf]:
    """Return the commands that all entities have, those of them that this one has."""
    summaries = {
        "list": f"List {many}.",
        "describe": f"Show all that is known of {one}.",
        "create": f"Create {one}, or many from a file.",
        "apply": f"Make {many} as a file says.",
        "update": f"Change {one}, or many by a file.",
        "delete": f"Delete {one}, or many of a file.",
        "edit": f"Change {one} in $EDITOR.",
    }
    return {
        verb: Leaf(target=_MAKE, argument=f"{words} {verb}", summary=summaries[verb])
        for verb in verbs.split()
    }


_ALL: Final = "list describe create apply update delete edit"

_MACHINE: Final = Branch(
    summary="Machines: allocate, free, power, look into.",
    commands={
        **_verbs("machine", "a machine", "machines", "list describe"),
        "create": Leaf(
            target=f"{_AT}.machine_create:machine_create", summary="Allocate a machine."
        ),
        **_verbs("machine", "a machine", "machines", "apply update"),
        "delete": Leaf(
            target=f"{_AT}.machine_delete:machine_delete", summary="Free machines, for good."
        ),
        **_verbs("machine", "a machine", "machines", "edit"),
        "explain": Leaf(
            target=f"{_AT}.machine:machine_explain",
            summary="Say why a machine is not allocatable, and what to do.",
        ),
        "logs": Leaf(target=f"{_AT}.machine:machine_logs", summary="Show provisioning events."),
        "issues": Branch(
            summary="Machines that something is wrong with.",
            description="Machines that something is wrong with: `machine issues [MACHINE]` finds "
            "them.",
            default="find",
            commands={
                "find": Leaf(
                    target=f"{_AT}.machine_issues:machine_issues",
                    summary="List machines that something is wrong with (the default).",
                ),
                "list": Leaf(
                    target=f"{_AT}.machine_issues:issues_list", summary="List what can be wrong."
                ),
            },
        ),
        "ipmi": Branch(
            summary="Machines as their BMCs report them.",
            description="Machines as their BMCs report them: `machine ipmi [MACHINE]` lists them.",
            default="list",
            commands={
                "list": Leaf(
                    target=f"{_AT}.machine_ipmi:machine_ipmi",
                    summary="List machines with power, versions and board (the default).",
                ),
                "chassis-list": Leaf(
                    target=f"{_AT}.machine_ipmi:chassis_list", summary="List machines by chassis."
                ),
                "events": Leaf(
                    target=f"{_AT}.machine_ipmi:ipmi_events",
                    summary="Show the event log of a BMC, with ipmitool.",
                ),
            },
        ),
        "power": Branch(
            summary="Switch a machine on or off, or what it boots from.",
            commands={
                verb: Leaf(target=f"{_AT}.machine_power:make", argument=verb, summary=summary)
                for verb, summary in (
                    ("on", "Switch a machine on."),
                    ("off", "Switch a machine off, hard."),
                    ("reset", "Reset a machine, hard."),
                    ("cycle", "Switch a machine off and on, hard."),
                    ("bios", "Boot into the BIOS next."),
                    ("disk", "Boot from disk next."),
                    ("pxe", "Boot from the network next."),
                )
            },
        ),
        "identify": Branch(
            summary="The light by which a machine is found in its rack.",
            commands={
                "on": Leaf(
                    target=f"{_AT}.machine_power:identify_on", summary="Switch the light on."
                ),
                "off": Leaf(
                    target=f"{_AT}.machine_power:identify_off", summary="Switch the light off."
                ),
            },
        ),
        "lock": Leaf(
            target=f"{_AT}.machine_state:machine_lock",
            summary="Keep a machine from everybody and from being deleted.",
        ),
        "reserve": Leaf(
            target=f"{_AT}.machine_state:machine_reserve",
            summary="Keep a machine from being chosen.",
        ),
        "reinstall": Leaf(
            target=f"{_AT}.machine_state:machine_reinstall",
            summary="Install another image on an allocated machine.",
        ),
        "update-firmware": Branch(
            summary="Update the firmware of a machine.",
            commands={
                "bios": Leaf(
                    target=f"{_AT}.firmware:update_firmware",
                    argument="bios",
                    summary="Update the BIOS.",
                ),
                "bmc": Leaf(
                    target=f"{_AT}.firmware:update_firmware",
                    argument="bmc",
                    summary="Update the BMC.",
                ),
            },
        ),
        "console": Leaf(
            target=f"{_AT}.machine_console:machine_console", summary="Open a serial console."
        ),
        "consolepassword": Leaf(
            target=f"{_AT}.machine_console:machine_consolepassword",
            summary="Show the password of the console; who looks is noted down.",
        ),
    },
)

_FIREWALL: Final = Branch(
    summary="Firewalls: machines between networks.",
    commands={
        **_verbs("firewall", "a firewall", "firewalls", "list describe"),
        "create": Leaf(
            target=f"{_AT}.machine_create:firewall_create", summary="Allocate a firewall."
        ),
        "ssh": Leaf(
            target=f"{_AT}.machine_console:firewall_ssh", summary="Log in to a firewall by SSH."
        ),
    },
)

_NETWORK: Final = Branch(
    summary="Networks and their addresses.",
    commands={
        **_verbs("network", "a network", "networks", _ALL),
        "allocate": Leaf(
            target=f"{_AT}.network:network_allocate",
            summary="Cut a private network from that of a partition.",
        ),
        "free": Leaf(target=f"{_AT}.network:network_free", summary="Give a private network back."),
        "ip": Branch(
            summary="Addresses.",
            commands={
                **_verbs("network ip", "an address", "addresses", _ALL),
                "issues": Leaf(
                    target=f"{_AT}.network_issues:ip_issues",
                    summary="List addresses that nobody seems to need.",
                ),
            },
        ),
    },
)

_SWITCH: Final = Branch(
    summary="Switches, their ports, and what is at them.",
    commands={
        **_verbs("switch", "a switch", "switches", "list describe update"),
        "delete": Leaf(target=f"{_AT}.switch:switch_delete", summary="Forget a switch."),
        **_verbs("switch", "a switch", "switches", "edit"),
        "detail": Leaf(
            target=f"{_AT}.switch:switch_detail", summary="List ports with what is filtered there."
        ),
        "connected-machines": Leaf(
            target=f"{_AT}.switch:connected_machines", summary="List switches with their machines."
        ),
        "replace": Leaf(
            target=f"{_AT}.switch:switch_replace",
            summary="Prepare a switch for being replaced by a new one of the same id.",
        ),
        "migrate": Leaf(
            target=f"{_AT}.switch:switch_migrate",
            summary="Move what is at a switch to another one of its rack.",
        ),
        "port": Branch(
            summary="Ports of a switch.",
            commands={
                "describe": Leaf(target=f"{_AT}.switch_port:port_describe", summary="Show a port."),
                "up": Leaf(target=f"{_AT}.switch_port:port_up", summary="Switch a port on."),
                "down": Leaf(target=f"{_AT}.switch_port:port_down", summary="Switch a port off."),
            },
        ),
        "ssh": Leaf(target=f"{_AT}.switch_port:switch_ssh", summary="Log in to a switch by SSH."),
        "console": Leaf(
            target=f"{_AT}.switch_port:switch_console", summary="Open a switch's console."
        ),
    },
)

_SIZE: Final = Branch(
    summary="Sizes: kinds of machines.",
    commands={
        **_verbs("size", "a size", "sizes", _ALL),
        "suggest": Leaf(
            target=f"{_AT}.size:size_suggest", summary="Say which size a machine would fit."
        ),
        "imageconstraint": Branch(
            summary="Which images a size wants.",
            commands={
                **_verbs("size imageconstraint", "a constraint", "constraints", _ALL),
                "try": Leaf(
                    target=f"{_AT}.size:constraint_try", summary="Say whether an image may be used."
                ),
            },
        ),
        "reservation": Branch(
            summary="Machines that are kept for projects.",
            commands={
                **_verbs("size reservation", "a reservation", "reservations", _ALL),
                "usage": Leaf(
                    target=f"{_AT}.size:reservation_usage",
                    summary="Show how much of what is kept is used.",
                ),
            },
        ),
    },
)

_LAYOUT: Final = Branch(
    summary="Filesystem layouts: how disks are used.",
    commands={
        **_verbs("filesystemlayout", "a layout", "layouts", _ALL),
        "try": Leaf(
            target=f"{_AT}.layout:layout_try", summary="Say which layout a size and image get."
        ),
        "match": Leaf(
            target=f"{_AT}.layout:layout_match", summary="Say whether a layout fits a machine."
        ),
    },
)

_FIRMWARE: Final = Branch(
    summary="Firmware of machines.",
    commands={
        "list": Leaf(target=f"{_AT}.firmware:firmware_list", summary="List firmware."),
        "upload": Branch(
            summary="Upload firmware.",
            commands={
                "bios": Leaf(
                    target=f"{_AT}.firmware:upload", argument="bios", summary="Upload a BIOS."
                ),
                "bmc": Leaf(
                    target=f"{_AT}.firmware:upload",
                    argument="bmc",
                    summary="Upload software of a BMC.",
                ),
            },
        ),
        "delete": Leaf(target=f"{_AT}.firmware:firmware_delete", summary="Delete firmware."),
    },
)

TREE: Final = Branch(
    summary="Operate bare metal.",
    description="Operate bare metal.\n\n"
    "Data goes to standard output, everything else to standard error. "
    "Exit status: 0 done, 1 fix it, 2 try again.",
    commands={
        "machine": _MACHINE,
        "firewall": _FIREWALL,
        "network": _NETWORK,
        "switch": _SWITCH,
        "size": _SIZE,
        "image": Branch(
            summary="Images: what machines run.",
            commands=_verbs("image", "an image", "images", _ALL),
        ),
        "filesystemlayout": _LAYOUT,
        "partition": Branch(
            summary="Partitions: places that fail on their own.",
            commands={
                **_verbs("partition", "a partition", "partitions", _ALL),
                "capacity": Leaf(
                    target=f"{_AT}.partition:partition_capacity",
                    summary="Show what is free of each size.",
                ),
            },
        ),
        "project": Branch(
            summary="Projects: whom machines, networks and addresses are of.",
            commands=_verbs("project", "a project", "projects", _ALL),
        ),
        "tenant": Branch(
            summary="Tenants: whom projects are of.",
            commands=_verbs("tenant", "a tenant", "tenants", _ALL),
        ),
        "firmware": _FIRMWARE,
        "audit": Branch(
            summary="Who called what.",
            commands={
                "list": Leaf(target=f"{_AT}.audit:audit_list", summary="Search the traces."),
                "describe": Leaf(
                    target=f"{_AT}.audit:audit_describe", summary="Show all traces of a request."
                ),
            },
        ),
        "token": Branch(
            summary="API tokens: yours, with at most your rights.",
            commands={
                "create": Leaf(target=f"{_AT}.token:token_create", summary="Make a token."),
                **_verbs("token", "a token", "tokens", "list describe"),
                "revoke": Leaf(
                    target=f"{_AT}.token:token_revoke",
                    summary="Revoke a token and those made with it.",
                ),
            },
        ),
        "vpn": Branch(
            summary="The VPN that firewalls are in.",
            commands={
                "key": Leaf(target=f"{_AT}.vpn:vpn_key", summary="Make a key to join it with."),
            },
        ),
        "context": Leaf(target=f"{_AT}.context:context", summary="List contexts, or choose one."),
        "login": Leaf(target=f"{_AT}.login:login", summary="Log in at the identity provider."),
        "logout": Leaf(target=f"{_AT}.login:logout", summary="Forget the token of the login."),
        "whoami": Leaf(target=f"{_AT}.service:whoami", summary="Say who you are to the API."),
        "health": Leaf(target=f"{_AT}.service:health", summary="Say how the control plane does."),
        "version": Leaf(target=f"{_AT}.service:version", summary="Print versions."),
        "update": Branch(
            summary="Versions of this program.",
            commands={
                "check": Leaf(
                    target=f"{_AT}.service:update_check",
                    summary="Say whether this program fits the API.",
                ),
                "do": Leaf(
                    target=f"{_AT}.service:update_do", summary="Say how to get a fitting one."
                ),
            },
        ),
        "markdown": Leaf(
            target=f"{_AT}.markdown:markdown", summary="Print all commands as Markdown."
        ),
        "completion": Leaf(
            target=f"{_AT}.completion:completion", summary="Print the completion of a shell."
        ),
    },
)
