# SPDX-License-Identifier: Apache-2.0
"""`metropolis destroy`: nothing of the cluster remains."""

import sys

import click

from metropolis.base.errors import FailedPreconditionError, MetropolisError
from metropolis.ctl.contexts import default_root
from metropolis.host.linux.capabilities import check_owner, is_root
from metropolis.lab.commands.options import name_option, open_cluster, run
from metropolis.lab.launch import remove_context
from metropolis.lab.leftovers import find_processes
from metropolis.lab.progress import Progress


@click.command("destroy")
@name_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def destroy(name: str, *, yes: bool) -> None:
    """Stop a cluster, without waiting for its nodes, and delete its data and its context."""
    cluster = open_cluster(name)
    if not cluster.directory.path.exists() and not find_processes(cluster.directory):
        print(f"There is no cluster named {name!r} on this computer.", file=sys.stderr)
        return
    if not is_root():
        check_owner(cluster.directory.path)
    if not yes:
        _ask(name)
    with Progress(sys.stderr, title="destroy") as progress, cluster.exclusively():
        try:
            remove_context(default_root(), cluster.rack)
        except MetropolisError as error:  # half-made or damaged: that is no reason to keep it
            progress.say(f"the context of metroctl is left as it is: {error}")
        progress.awaiting(f"the processes of {name!r} to end")
        run(cluster.destroy())
        progress.say(f"deleted cluster {name!r}")


def _ask(name: str) -> None:
    """Have a person type the name.

    Raises:
        FailedPreconditionError: nobody is there, or the answer is something else.
    """
    refusal = FailedPreconditionError(
        f"not deleting cluster {name!r} without being told so",
        remedy="Add --yes, or type the cluster's name when asked.",
    )
    if not sys.stdin.isatty():
        raise refusal
    print(f"This deletes all data of cluster {name!r}. Type its name to go on: ", file=sys.stderr)
    if sys.stdin.readline().strip() != name:
        raise refusal
