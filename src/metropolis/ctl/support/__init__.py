# SPDX-License-Identifier: Apache-2.0
"""`metroctl support`: what somebody who helps would ask for, in one file.

Refuses keys: it asks for nothing that is secret (no ticket, no key, no password), and what is
gathered goes through the same redaction as logs, which knows the operator's own keys. Refuses to
fail: a cluster that is half dead is the usual reason to make a bundle, so what cannot be had is
written down with the reason. Changes nothing anywhere.

    bundle     files in memory, then one .tar.gz that only its owner can read
    cluster    what the leader says
    node       what one node says of itself: supervision, consensus, log, figures
    gather     all of it, several nodes at a time; nodes are asked even when no leader answers

      leader ──▶ cluster/*.json ──┐
      nodes ───▶ nodes/ID/* ──────┼──▶ redaction ──▶ Bundle ──▶ FILE.tar.gz, mode 0600
      context ─▶ metroctl.json ───┘        └── what failed, and why ──▶ manifest.json
"""
