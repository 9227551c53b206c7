# SPDX-License-Identifier: Apache-2.0
"""Port 7837: shortcuts for whoever develops the system. Only debug images contain this package.

Refuses everybody but the owner of the cluster, by certificate; the original asks for none. What it
cannot do in this build it says: there is no Kubernetes to hand out credentials of or images to.

    service    NodeDebugService: Logs, Trace; GetDebugKubeconfig and LoadImage refuse
    admission  only the owner
    serving    the runnable that listens

      metropolis.node.roles.debug ── import by name, if the image is a debug image ──▶ serving
"""
