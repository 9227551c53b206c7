# SPDX-License-Identifier: Apache-2.0
"""Port 7840: figures of this node for Prometheus, and which nodes there are to ask.

Refuses whoever may not read the cluster's status, judged per request like any call: certificate of
the cluster, dates, revocation, permission. Refuses every method but GET. Keeps nothing: a figure
is read when it is asked for, and what is counted (calls, changes of state) has as many series as
the code has methods and runnables. A simulation has no such port.

    edges       what this needs of the world
    series      every series of ours: name, kind, meaning, labels; the handbook's table
    tree        counts what the supervision tree does
    figures     /metrics/core: our own
    process     what the kernel says of this process
    kernel/     /metrics/node: the kernel's figures, named as node_exporter names them
    discovery   /discovery: Prometheus' http_sd
    gateway     who may ask, and which answer is whose

    Prometheus ══ mutual TLS ══▶ Gateway ─▶ figures ◀── the role server, CallMeter, TreeMeter
                                    ├─────▶ kernel ◀── /proc, /sys
                                    ├─────▶ http://127.0.0.1:7842, etcd's own
                                    └─────▶ discovery ◀── the watch of `roles.hosts`
"""
