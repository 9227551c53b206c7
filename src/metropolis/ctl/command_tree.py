# SPDX-License-Identifier: Apache-2.0
"""Every command of `metroctl`: one table, so that `--help` imports none of them."""

from typing import Final

from metropolis.ctl.command_line import Branch, Leaf

_AT: Final = "metropolis.ctl.commands"

_CONFIGURE: Final = Branch(
    summary="Read or change the configuration of the cluster.",
    commands={
        "get": Leaf(target=f"{_AT}.configure:configure_get", summary="Print a field."),
        "set": Leaf(target=f"{_AT}.configure:configure_set", summary="Change a field."),
    },
)

_BACKUP: Final = Branch(
    summary="Backups of the cluster's state.",
    commands={
        "keygen": Leaf(
            target=f"{_AT}.backup:backup_keygen",
            summary="Make the recovery key, and have backups encrypted to it.",
        ),
        "create": Leaf(
            target=f"{_AT}.backup:backup_create",
            summary="Make a backup of the cluster's state now.",
        ),
        "verify": Leaf(
            target=f"{_AT}.backup:backup_verify",
            summary="Open a backup and restore it into a scratch store.",
        ),
        "schedule": Leaf(
            target=f"{_AT}.backup:backup_schedule",
            summary="Show or set how often the leader makes a backup.",
        ),
        "list": Leaf(target=f"{_AT}.backup:backup_list", summary="List the scheduled backups."),
        "fetch": Leaf(target=f"{_AT}.backup:backup_fetch", summary="Copy a scheduled backup."),
    },
)

_CLUSTER: Final = Branch(
    summary="Own, show and configure the cluster.",
    commands={
        "takeownership": Leaf(
            target=f"{_AT}.takeownership:takeownership",
            summary="Fetch the owner's credentials of a new cluster.",
        ),
        "get": Leaf(
            target=f"{_AT}.cluster:cluster_get", summary="Show domain, policies, CA and directory."
        ),
        "configure": _CONFIGURE,
        "backup": _BACKUP,
        "restore": Leaf(
            target=f"{_AT}.restore:cluster_restore",
            summary="Prepare the first node of new hardware.",
        ),
        "recover-quorum": Leaf(
            target=f"{_AT}.recover_quorum:recover_quorum",
            summary="Go on with one member when the majority of the consensus is lost.",
        ),
        "introduce": Leaf(
            target=f"{_AT}.introduce:introduce",
            summary="Tell nodes that all moved at once where the others are.",
        ),
        "ticket": Leaf(
            target=f"{_AT}.cluster:cluster_ticket",
            summary="Print or replace the ticket that machines register with.",
        ),
    },
)

_NODE: Final = Branch(
    summary="List, approve, change and read nodes.",
    commands={
        "list": Leaf(target=f"{_AT}.node_list:node_list", summary="List nodes."),
        "describe": Leaf(
            target=f"{_AT}.node_list:node_describe", summary="Show all that is known of nodes."
        ),
        "approve": Leaf(
            target=f"{_AT}.approve:approve",
            summary="Approve a node, or list those that wait for it.",
        ),
        "add": Branch(
            summary="Give something to nodes.",
            commands={
                "role": Leaf(target=f"{_AT}.node_roles:add_role", summary="Give a role to nodes.")
            },
        ),
        "remove": Branch(
            summary="Take something from nodes.",
            commands={
                "role": Leaf(
                    target=f"{_AT}.node_roles:remove_role", summary="Take a role from nodes."
                )
            },
        ),
        "set": Branch(
            summary="Set something of a node.",
            commands={
                "labels": Leaf(
                    target=f"{_AT}.node_labels:set_labels", summary="Set and delete labels."
                )
            },
        ),
        "logs": Leaf(target=f"{_AT}.node_logs:node_logs", summary="Read the log of a node."),
        "decommission": Leaf(
            target=f"{_AT}.node_decommission:node_decommission",
            summary="Take a node out of service for good.",
        ),
        "delete": Leaf(target=f"{_AT}.node_delete:node_delete", summary="Forget a node."),
        "reboot": Leaf(target=f"{_AT}.node_power:reboot", summary="Reboot a node."),
        "poweroff": Leaf(target=f"{_AT}.node_power:poweroff", summary="Power a node off."),
        "update": Leaf(target=f"{_AT}.node_update:node_update", summary="Update nodes."),
        "metrics": Leaf(
            target=f"{_AT}.node_metrics:node_metrics", summary="Print what a node measures."
        ),
        "disk-key": Leaf(
            target=f"{_AT}.node_disk_key:node_disk_key",
            summary="Open the disk of a node that cannot, with its recovery key.",
        ),
    },
)

_CERT: Final = Branch(
    summary="The owner's certificate and key.",
    commands={
        "export": Leaf(
            target=f"{_AT}.cert:cert_export",
            summary="Write owner.crt and owner.key for other tools.",
        )
    },
)

_CONTEXT: Final = Branch(
    summary="Which cluster commands talk to.",
    commands={
        "list": Leaf(target=f"{_AT}.context:context_list", summary="List contexts."),
        "show": Leaf(target=f"{_AT}.context:context_show", summary="Show a context."),
        "use": Leaf(target=f"{_AT}.context:context_use", summary="Make a context the current one."),
        "remove": Leaf(
            target=f"{_AT}.context:context_remove", summary="Delete a context with its keys."
        ),
    },
)

_USER: Final = Branch(
    summary="Users besides the owner: who they are and what they may do.",
    commands={
        "create": Leaf(target=f"{_AT}.user:user_create", summary="Make a user."),
        "list": Leaf(target=f"{_AT}.user:user_list", summary="List users and what they hold."),
        "delete": Leaf(target=f"{_AT}.user:user_delete", summary="Forget a user."),
        "grant": Leaf(
            target=f"{_AT}.user:user_grant",
            summary="Give roles, permissions and memberships to a user.",
        ),
        "revoke": Leaf(
            target=f"{_AT}.user:user_revoke",
            summary="Take roles, permissions and memberships from a user.",
        ),
        "password": Leaf(
            target=f"{_AT}.user:user_password", summary="Make a password that works once."
        ),
        "login": Leaf(
            target=f"{_AT}.user_login:user_login", summary="Log in as a user with a password."
        ),
        "revoke-certificates": Leaf(
            target=f"{_AT}.user:user_revoke_certificates",
            summary="Refuse certificates of a user from now on.",
        ),
        "group": Branch(
            summary="Groups, which give the same to all their members.",
            commands={
                "create": Leaf(target=f"{_AT}.user_group:group_create", summary="Make a group."),
                "list": Leaf(target=f"{_AT}.user_group:group_list", summary="List groups."),
                "delete": Leaf(
                    target=f"{_AT}.user_group:group_delete", summary="Forget an empty group."
                ),
                "grant": Leaf(
                    target=f"{_AT}.user_group:group_grant",
                    summary="Give roles and permissions to a group.",
                ),
                "revoke": Leaf(
                    target=f"{_AT}.user_group:group_revoke",
                    summary="Take roles and permissions from a group.",
                ),
            },
        ),
    },
)

_AUTH: Final = Branch(
    summary="Who you are and what you may do.",
    commands={
        "whoami": Leaf(
            target=f"{_AT}.auth:whoami",
            summary="Say who you are to the cluster, and what you may do.",
        ),
        "can-i": Leaf(target=f"{_AT}.auth:can_i", summary="Say whether you may do something."),
        "rotate-owner-key": Leaf(
            target=f"{_AT}.auth:rotate_owner_key", summary="Replace the owner's key."
        ),
    },
)

_INSTALL: Final = Branch(
    summary="Install machines.",
    commands={
        "genusb": Leaf(target=f"{_AT}.install:genusb", summary="Write an install medium."),
        "ssh": Leaf(target=f"{_AT}.later:install_ssh", summary="Install over SSH (not yet)."),
    },
)

_K8S: Final = Branch(
    summary="Kubernetes of the cluster.",
    commands={
        "configure": Leaf(
            target=f"{_AT}.kubernetes:k8s_configure", summary="Write a kubeconfig for kubectl."
        )
    },
)

_AUDIT: Final = Branch(
    summary="Who changed what.",
    commands={
        "list": Leaf(target=f"{_AT}.audit:audit_list", summary="List who changed what."),
        "verify": Leaf(
            target=f"{_AT}.audit:audit_verify", summary="Verify that the log is untouched."
        ),
        "head": Leaf(
            target=f"{_AT}.audit:audit_head", summary="Print where the log ends, to be kept."
        ),
    },
)

TREE: Final = Branch(
    summary="Operate a Metropolis cluster.",
    description="Operate a Metropolis cluster.\n\n"
    "Data goes to standard output, everything else to standard error. "
    "Exit status: 0 done, 1 fix it, 2 try again.",
    commands={
        "takeownership": Leaf(
            target=f"{_AT}.takeownership:takeownership",
            summary="Fetch the owner's credentials of a new cluster.",
        ),
        "approve": Leaf(
            target=f"{_AT}.approve:approve",
            summary="Approve a node, or list those that wait for it.",
        ),
        "explain": Leaf(
            target=f"{_AT}.explain:explain", summary="Say why a node is not ready, and what to do."
        ),
        "dashboard": Leaf(
            target=f"{_AT}.dashboard:dashboard", summary="Show the cluster while it changes."
        ),
        "node": _NODE,
        "cluster": _CLUSTER,
        "consensus": Branch(
            summary="The members that hold the cluster's state.",
            commands={
                "status": Leaf(
                    target=f"{_AT}.consensus:consensus_status", summary="Show members and votes."
                ),
                "defragment": Leaf(
                    target=f"{_AT}.consensus:consensus_defragment",
                    summary="Have members give room back that they do not need.",
                ),
            },
        ),
        "user": _USER,
        "auth": _AUTH,
        "audit": _AUDIT,
        "whoami": Leaf(
            target=f"{_AT}.auth:whoami",
            summary="Say who you are to the cluster, and what you may do.",
        ),
        "context": _CONTEXT,
        "cert": _CERT,
        "certs": Branch(summary=_CERT.summary, commands=_CERT.commands, is_hidden=True),
        "support": Leaf(
            target=f"{_AT}.support:support",
            summary="Gather everything that helps to find out what is wrong, without secrets.",
        ),
        "k8s": _K8S,
        "k8scredplugin": Leaf(
            target=f"{_AT}.kubernetes:k8scredplugin",
            summary="Hand the owner's credentials to kubectl.",
            is_hidden=True,
        ),
        "install": _INSTALL,
        "completion": Leaf(
            target=f"{_AT}.completion:completion", summary="Print the completion of a shell."
        ),
        "version": Leaf(target=f"{_AT}.version:version", summary="Print the version."),
    },
)
