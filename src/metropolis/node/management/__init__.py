# SPDX-License-Identifier: Apache-2.0
"""What a node answers about itself on port 7839: its logs, its supervision tree.

logs            NodeManagement.Logs
power           NodeManagement.Reboot, UpdateNode: not in this build, and they say why
introspection   metropolis.ext.cluster.Introspection about this node
kubernetes_api  port 6444, which says that Kubernetes is not enabled yet
"""
