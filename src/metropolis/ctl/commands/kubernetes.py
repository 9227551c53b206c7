# SPDX-License-Identifier: Apache-2.0
"""`metroctl k8s configure`, and the plugin that kubectl calls."""

import json

import click

from metropolis.base.errors import FailedPreconditionError
from metropolis.ctl import credentials as owner
from metropolis.ctl import kubeconfig
from metropolis.ctl.choice import context_of
from metropolis.ctl.command_line import command
from metropolis.ctl.kubernetes_probe import NotEnabled, probe
from metropolis.ctl.options import settings_of
from metropolis.ctl.printing import say
from metropolis.ctl.session import run_async, where
from metropolis.pki import certificates, keys


@command("configure")
@click.pass_context
def k8s_configure(ctx: click.Context) -> None:
    """Write a kubeconfig for kubectl.

    The cluster's Kubernetes API must answer, so that its name can be written down.
    """
    settings = settings_of(ctx)
    context = context_of(settings)
    owner.owner_credentials(context)
    ca = owner.read_ca(context)
    if ca is None:
        raise owner.not_owner(context)
    found = run_async(
        settings, probe(context, ca=ca, timeout_s=settings.timeout_s), awaits=where(context)
    )
    if isinstance(found, NotEnabled):
        raise FailedPreconditionError(
            f"{found.message}; no kubeconfig was written",
            remedy="Use this command again with a build that has Kubernetes.",
        )
    name = kubeconfig.install(context, server_name=found.server_name, ca=ca)
    say(f"Success! kubeconfig is set up. You can now run kubectl --context={name} ...")


@command("k8scredplugin")
@click.pass_context
def k8scredplugin(ctx: click.Context) -> None:
    """Hand the owner's credentials to kubectl, which calls this program for them."""
    credentials = owner.owner_credentials(context_of(settings_of(ctx)))
    answer = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {
            "clientCertificateData": certificates.to_pem(credentials.certificate),
            "clientKeyData": keys.to_pkcs8_pem(credentials.key),
        },
    }
    print(json.dumps(answer))
